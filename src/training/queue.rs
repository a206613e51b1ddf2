//! The submissions of one training client, in order, one in flight.
//!
//! The order of the calls is their order in the queue, which each takes on the caller's thread under one lock. If a background
//! task took it, two calls made one after the other could be swapped. The sequence numbers are given out by the queue's thread
//! as it writes the requests, so a request that is never written leaves no gap. The thread sends the next request once the
//! promise of the last one has arrived; the poller gets the results.
//!
//! A written number is never used again, whatever the outcome: the server answers a repeated number with the promise that it
//! made for that number before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::warn;
use parking_lot::Mutex;

use crate::clock::{Deadline, Received};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Http, Limits, Purpose, Request, RequestHandle, RetryMode};
use crate::pending::{Completer, PollClient, PollerHandle, TrackedPromise};
use crate::session::Dependent;
use crate::threads::{Budget, OnFull, OwnedThread, Reservation};
use crate::types::RequestKind;
use crate::types::wire::Promise;

/// Writes the body of a request with this sequence number.
pub(super) type Body = Box<dyn FnOnce(u64) -> Result<Vec<u8>> + Send>;

/// One call: one request or several, sent one after the other.
pub(super) struct Job {
    /// The path below `/api/v1/`.
    pub(super) path: &'static str,
    pub(super) kind: RequestKind,
    pub(super) deadline: Option<Deadline>,
    pub(super) requests: Vec<(Body, Completer)>,
    /// An estimate of the bytes that the queue holds for it.
    pub(super) bytes: usize,
}

/// The queue and its thread.
pub(super) struct TrainingQueue {
    sender: Mutex<Option<Sender<(Job, Reservation)>>>,
    budget: Budget,
    shared: Arc<Shared>,
    thread: OwnedThread,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// The running submission.
    submission: Mutex<Option<Arc<RequestHandle>>>,
}

impl TrainingQueue {
    pub(super) fn spawn(http: &Arc<Http>, poller: &PollerHandle) -> Result<Self> {
        let config = http.config();
        let (sender, receiver) = unbounded();
        let shared = Arc::<Shared>::default();
        let worker = Worker {
            http: Arc::clone(http),
            poller: poller.clone(),
            client: poller.new_client(true),
            shared: Arc::clone(&shared),
            next_seq_id: 1,
        };
        Ok(TrainingQueue {
            sender: Mutex::new(Some(sender)),
            budget: Budget::new(config.clock().clone(), config.max_queued(), config.max_queued_bytes()),
            shared,
            thread: OwnedThread::spawn(&config.thread_options(), "training", move || worker.run(&receiver))?,
        })
    }

    /// Queues a call. Calls made one after the other are sent in that order, from whichever threads.
    pub(super) fn submit(&self, job: Job, on_full: OnFull) -> Result<()> {
        let reservation = self.budget.reserve(job.bytes, on_full)?;
        let sender = self.sender.lock();
        let refused = match &*sender {
            Some(sender) => sender.send((job, reservation)).map_err(|refused| refused.0),
            None => Err((job, reservation)),
        };
        let open = sender.is_some();
        drop(sender);
        match refused {
            Ok(()) => Ok(()),
            // Only a panic ends the thread while the sender exists.
            Err(_) if open => Err(Error::new(ErrorKind::Panicked, "the training client's thread panicked")
                .with_hint("see the log for the panic; create a new training client from a checkpoint")),
            Err(_) => Err(Error::closed()),
        }
    }
}

impl Dependent for TrainingQueue {
    /// Requests that are not sent yet end with `Closed`.
    fn close(&self, deadline: Instant) {
        self.shared.stopping.store(true, Ordering::Release);
        self.sender.lock().take();
        self.budget.close();
        let submission = self.shared.submission.lock().take();
        if let Some(submission) = submission {
            submission.cancel();
        }
        self.thread.join_by(deadline);
    }
}

/// The state of the thread.
struct Worker {
    http: Arc<Http>,
    poller: PollerHandle,
    client: PollClient,
    shared: Arc<Shared>,
    /// The next sequence number, from 1.
    next_seq_id: u64,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<(Job, Reservation)>) {
        let clock = self.http.config().clock().clone();
        let mut unsent = 0;
        while let Received::Message((job, reservation)) = clock.receive_until(jobs, None) {
            if self.shared.stopping.load(Ordering::Acquire) {
                unsent += job.requests.len();
            } else {
                self.execute(job);
            }
            drop(reservation);
        }
        if unsent > 0 {
            warn!("the training client was closed with {unsent} requests unsent");
        }
    }

    /// Sends the requests of a call. If one fails, the rest are not sent and fail with the same error.
    fn execute(&mut self, job: Job) {
        let Job { path, kind, deadline, requests, .. } = job;
        let mut failed: Option<Error> = None;
        for (body, completer) in requests {
            let promised = match failed.clone() {
                None => self.send(path, kind, deadline, body, &completer),
                Some(error) => Err(error),
            };
            match promised {
                Ok((promise, submitted_at)) => {
                    let (id, config) = (promise.request_id, self.http.config());
                    self.poller.track(TrackedPromise::new(
                        id,
                        kind,
                        self.client.clone(),
                        completer,
                        config,
                        submitted_at,
                    ));
                }
                Err(error) => {
                    completer.complete(Err(error.clone()));
                    failed = Some(error);
                }
            }
        }
    }

    /// Sends one request. Returns its promise, and when the submission began.
    fn send(
        &mut self,
        path: &'static str,
        kind: RequestKind,
        deadline: Option<Deadline>,
        body: Body,
        completer: &Completer,
    ) -> Result<(Promise, Instant)> {
        completer.begin_write()?;
        let body = body(self.next_seq_id).inspect_err(|_| completer.mark_unwritten())?;
        let config = self.http.config();
        let operation = completer.operation();
        let request = Request { retry: RetryMode::Submit, ..Request::post(path, &body) };
        let limits = Limits { deadline, ..self.http.limits(operation, Purpose::Training) };
        *self.shared.submission.lock() = Some(Arc::clone(&limits.handle));
        if self.shared.stopping.load(Ordering::Acquire) {
            // The close may have looked for a submission before there was one.
            limits.handle.cancel();
        }
        let submitted_at = config.clock().now();
        let response = self.http.send(&request, &limits);
        self.shared.submission.lock().take();
        if limits.handle.was_written() {
            // Even if it failed: a written number is never used again.
            self.next_seq_id += u64::from(kind != RequestKind::UnloadModel);
        } else {
            completer.mark_unwritten();
        }
        let promise = response?.json::<Promise>(operation).map_err(|error| error.with_effect(true))?;
        Ok((promise, submitted_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::config::Config;
    use crate::error::Limit;
    use crate::pending::{CallHandle, CallMode, Pending, Poller, SubmittedCall};
    use crate::session::Telemetry;
    use crate::types::OptimStepResponse;
    use crossbeam_channel::bounded;
    use std::thread;
    use std::time::Duration;

    /// A queue for a service that does not exist, so every request fails.
    struct Fixture {
        poller: Poller,
        queue: Arc<TrainingQueue>,
        manual: ManualClock,
    }

    impl Fixture {
        fn new(max_queued: usize) -> Self {
            let manual = ManualClock::new();
            let builder = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1").clock(manual.clock());
            let config = builder.max_queued(max_queued).build_with(|_| None).unwrap();
            let http = Arc::new(Http::new(&config).unwrap());
            let poller = Poller::spawn(&http, Telemetry::default()).unwrap();
            let queue = Arc::new(TrainingQueue::spawn(&http, poller.handle()).unwrap());
            Fixture { poller, queue, manual }
        }

        /// Queues a call of these requests.
        fn submit(&self, bodies: Vec<Body>, on_full: OnFull) -> Result<Pending<OptimStepResponse>> {
            let operation = "optim_step";
            let (handle, completers) = CallHandle::new(operation, bodies.len());
            let requests = bodies.into_iter().zip(completers).collect();
            self.queue.submit(
                Job { path: operation, kind: RequestKind::OptimStep, deadline: None, requests, bytes: 0 },
                on_full,
            )?;
            let (poller, mode) = (self.poller.handle().clone(), CallMode::submitting(None));
            Ok(SubmittedCall { handle, operation, mode, poller, keep_alive: Arc::new(()) }.pending_one())
        }
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let deadline = Clock::system().now() + Duration::from_secs(5);
            self.queue.close(deadline);
            self.poller.close(deadline);
        }
    }

    fn body() -> Body {
        Box::new(|_| Ok(Vec::new()))
    }

    /// A body that panics once it is released.
    fn panicking() -> (Sender<()>, Body) {
        let (release, released) = bounded::<()>(0);
        let body: Body = Box::new(move |_| {
            released.recv().ok();
            panic!("on purpose")
        });
        (release, body)
    }

    fn kind(pending: Pending<OptimStepResponse>) -> ErrorKind {
        pending.wait().unwrap_err().kind()
    }

    #[test]
    fn a_panic_fails_all_calls_with_panicked() {
        let fixture = Fixture::new(100);
        let (release, fatal) = panicking();
        let first = fixture.submit(vec![fatal, body()], OnFull::Fail).unwrap();
        let queued: Vec<_> = (0..3).map(|_| fixture.submit(vec![body()], OnFull::Fail).unwrap()).collect();
        drop(release);
        assert_eq!(kind(first), ErrorKind::Panicked);
        queued.into_iter().for_each(|pending| assert_eq!(kind(pending), ErrorKind::Panicked));
        // The last result may come before the channel is closed.
        let later = fixture.submit(vec![body()], OnFull::Fail).map(kind).unwrap_or_else(|error| error.kind());
        assert_eq!(later, ErrorKind::Panicked);
        fixture.queue.thread.join_by(Clock::system().now() + Duration::from_secs(5));
        let error = fixture.submit(vec![body()], OnFull::Fail).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_panic_ends_a_wait_for_space() {
        let fixture = Fixture::new(1);
        let (release, fatal) = panicking();
        let first = fixture.submit(vec![fatal], OnFull::Fail).unwrap();
        assert_eq!(fixture.submit(vec![body()], OnFull::Fail).unwrap_err().kind(), ErrorKind::QueueFull);
        let limit = Duration::from_secs(77);
        let until = OnFull::WaitUntil(Some(fixture.manual.clock().now() + limit));
        let waiting = thread::scope(|scope| {
            let waiting = scope.spawn(|| fixture.submit(vec![body()], until).map(kind).unwrap_or_else(|e| e.kind()));
            fixture.manual.until_waiting(|waits| waits.contains(&limit));
            drop(release);
            waiting.join().unwrap()
        });
        assert_eq!((kind(first), waiting), (ErrorKind::Panicked, ErrorKind::Panicked));
    }

    #[test]
    fn an_unwritable_body_takes_no_number() {
        let fixture = Fixture::new(100);
        let (send, sent) = bounded(3);
        let numbered = |fails: bool| -> Body {
            let send = send.clone();
            Box::new(move |seq_id| {
                send.send(seq_id).unwrap();
                if fails { Err(Error::invalid_input("refused")) } else { Err(Error::timeout(Limit::Submit)) }
            })
        };
        let refused = fixture.submit(vec![numbered(true), numbered(false)], OnFull::Fail).unwrap();
        let next = fixture.submit(vec![numbered(false)], OnFull::Fail).unwrap();
        let error = refused.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!error.may_have_taken_effect());
        assert_eq!(kind(next), ErrorKind::Timeout(Limit::Submit));
        assert_eq!(sent.try_iter().collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_close_fails_queued_and_waiting_calls() {
        let fixture = Fixture::new(2);
        let (began, begun) = bounded(1);
        let (release, released) = bounded::<()>(0);
        let held: Body = Box::new(move |_| {
            began.send(()).unwrap();
            released.recv().ok();
            Ok(Vec::new())
        });
        let first = fixture.submit(vec![held], OnFull::Fail).unwrap();
        let queued = fixture.submit(vec![body()], OnFull::Fail).unwrap();
        begun.recv().unwrap();
        let limit = Duration::from_secs(77);
        let until = OnFull::WaitUntil(Some(fixture.manual.clock().now() + limit));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| fixture.submit(vec![body()], until).map(drop).unwrap_err().kind());
            fixture.manual.until_waiting(|waits| waits.contains(&limit));
            // Does not wait for the thread, which is held.
            fixture.queue.close(Clock::system().now());
            assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
        });
        assert_eq!(fixture.submit(vec![body()], OnFull::Fail).unwrap_err().kind(), ErrorKind::Closed);
        drop(release);
        assert_eq!((kind(first), kind(queued)), (ErrorKind::Cancelled, ErrorKind::Closed));
    }

    #[test]
    fn a_close_ends_the_wait_before_a_retry() {
        let fixture = Fixture::new(1);
        let first = fixture.submit(vec![body()], OnFull::Fail).unwrap();
        // Nothing listens at the address, so the worker waits before a retry.
        fixture.manual.until_waiting(|waits| !waits.is_empty());
        fixture.queue.close(Clock::system().now() + Duration::from_secs(3600));
        let error = first.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(!error.may_have_taken_effect());
    }
}

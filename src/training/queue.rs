//! The submissions of one training client, in order, one in flight.
//!
//! The order is the place in the queue, taken in the caller under one lock. The thread gives out the sequence numbers as it
//! writes, and sends the next request when the last one's promise is there; the results are the poller's matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::warn;
use parking_lot::Mutex;

use crate::clock::{Deadline, Received};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Http, Limits, Purpose, Request, RequestHandle, RetryMode};
use crate::pending::{Part, PollGroup, PollerHandle, Promised};
use crate::rules::seats::GroupId;
use crate::session::Dependent;
use crate::threads::{Budget, OnFull, OwnedThread, Reservation};
use crate::types::RequestKind;
use crate::types::wire::Promise;

/// Writes a request's body with its sequence number.
pub(crate) type Body = Box<dyn FnOnce(u64) -> Result<Vec<u8>> + Send>;

/// One call: one request or several, sent one after the other.
pub(crate) struct Job {
    pub(crate) head: Head,
    pub(crate) requests: Vec<(Body, Part)>,
    /// An estimate of the bytes that wait in the queue.
    pub(crate) bytes: usize,
}

/// What the requests of a call have in common.
pub(crate) struct Head {
    /// The path below `/api/v1/`.
    pub(crate) path: &'static str,
    pub(crate) kind: RequestKind,
    /// Whether each has a sequence number.
    pub(crate) numbered: bool,
    pub(crate) deadline: Option<Deadline>,
}

/// The queue and its thread.
pub(crate) struct TrainingQueue {
    sender: Mutex<Option<Sender<(Job, Reservation)>>>,
    budget: Budget,
    shared: Arc<Shared>,
    thread: OwnedThread,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// The request that is being submitted.
    request: Mutex<Option<Arc<RequestHandle>>>,
}

impl TrainingQueue {
    pub(crate) fn spawn(http: &Arc<Http>, poller: &PollerHandle, client: GroupId) -> Result<Self> {
        let config = http.config();
        let (sender, receiver) = unbounded();
        let shared = Arc::<Shared>::default();
        let worker = Worker {
            http: Arc::clone(http),
            poller: poller.clone(),
            group: PollGroup { client, ordered: true },
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

    /// Queues a call. Calls made one after the other, by whichever threads, are sent in that order.
    pub(crate) fn submit(&self, job: Job, room: OnFull) -> Result<()> {
        let reservation = self.budget.reserve(job.bytes, room)?;
        let sender = self.sender.lock();
        let refused = match &*sender {
            Some(sender) => sender.send((job, reservation)).map_err(|refused| refused.0),
            None => Err((job, reservation)),
        };
        let open = sender.is_some();
        drop(sender);
        match refused {
            Ok(()) => Ok(()),
            // Only a panic ends the thread before the sender is dropped.
            Err(_) if open => Err(Error::new(ErrorKind::Panicked, "the training client's thread panicked")
                .with_hint("see the log for the panic; create the training client anew from a checkpoint")),
            Err(_) => Err(Error::closed()),
        }
    }
}

impl Dependent for TrainingQueue {
    /// What is not sent yet is answered with `Closed`.
    fn close(&self, deadline: Instant) {
        self.shared.stopping.store(true, Ordering::Release);
        self.sender.lock().take();
        self.budget.close();
        if let Some(request) = self.shared.request.lock().take() {
            request.cancel();
        }
        self.thread.join_by(deadline);
    }
}

/// The state of the thread.
struct Worker {
    http: Arc<Http>,
    poller: PollerHandle,
    group: PollGroup,
    shared: Arc<Shared>,
    /// Counts the requests that were written, from 1.
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
                self.carry_out(job);
            }
            drop(reservation);
        }
        if unsent > 0 {
            warn!("the training client was closed with {unsent} requests unsent");
        }
    }

    /// Sends the requests of a call; the first that fails takes the rest with it.
    fn carry_out(&mut self, job: Job) {
        let mut failed: Option<Error> = None;
        for (body, part) in job.requests {
            let sent = match failed.clone() {
                None => self.send(&job.head, body, part),
                Some(error) => Err((error, part)),
            };
            if let Err((error, part)) = sent {
                part.resolve(Err(error.clone()));
                failed = Some(error);
            }
        }
    }

    fn send(&mut self, head: &Head, body: Body, part: Part) -> Result<(), (Error, Part)> {
        if let Err(error) = part.begin() {
            return Err((error, part));
        }
        let body = match body(self.next_seq_id) {
            Ok(body) => body,
            Err(error) => {
                part.was_not_written();
                return Err((error, part));
            }
        };
        let config = self.http.config();
        let request = Request { retry: RetryMode::Submit, ..Request::post(head.path, &body) };
        let limits = Limits { deadline: head.deadline, ..self.http.limits(part.operation(), Purpose::Training) };
        *self.shared.request.lock() = Some(Arc::clone(&limits.handle));
        if self.shared.stopping.load(Ordering::Acquire) {
            // The close may have looked for a request before there was one.
            limits.handle.cancel();
        }
        let began = config.clock().now();
        let answer = self.http.send(&request, &limits);
        self.shared.request.lock().take();
        if limits.handle.was_written() {
            // A written number is never used again, whatever came of it.
            self.next_seq_id += u64::from(head.numbered);
        } else {
            part.was_not_written();
        }
        match answer
            .and_then(|answer| answer.json::<Promise>(limits.operation).map_err(|error| error.with_effect(true)))
        {
            Ok(promise) => {
                self.poller.ask(Promised {
                    request_id: promise.request_id.into(),
                    kind: head.kind,
                    round_trip: config.clock().now() - began,
                    group: self.group,
                    part,
                    resubmit: None,
                    timeout_progress: None,
                });
                Ok(())
            }
            Err(error) => Err((error, part)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::config::Config;
    use crate::error::Limit;
    use crate::pending::{Manner, Outcome, Pending, Poller, Slots};
    use crate::types::OptimStepResponse;
    use crossbeam_channel::bounded;
    use std::thread;
    use std::time::Duration;

    /// A queue for a service that nobody offers: what is written fails.
    struct Bench {
        poller: Poller,
        queue: Arc<TrainingQueue>,
        manual: ManualClock,
    }

    impl Bench {
        fn new(max_queued: usize) -> Self {
            let manual = ManualClock::new();
            let builder = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1").clock(manual.clock());
            let config = builder.max_queued(max_queued).build_with(|_| None).unwrap();
            let http = Arc::new(Http::new(&config).unwrap());
            let poller = Poller::spawn(&http).unwrap();
            let queue = Arc::new(TrainingQueue::spawn(&http, poller.handle(), GroupId(0)).unwrap());
            Bench { poller, queue, manual }
        }

        /// Queues a call of these requests.
        fn submit(&self, bodies: Vec<Body>, room: OnFull) -> Result<Pending<OptimStepResponse>> {
            let (slots, parts) = Slots::new("optim_step", bodies.len());
            let requests = bodies.into_iter().zip(parts).collect();
            let head = Head { path: "optim_step", kind: RequestKind::OptimStep, numbered: true, deadline: None };
            let job = Job { head, requests, bytes: 0 };
            self.queue.submit(job, room)?;
            let (clock, manner) = (self.manual.clock(), Manner::submitting(None));
            Ok(Outcome { slots, operation: "optim_step", clock, manner, alive: Arc::new(()) }.pending_one())
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            let deadline = Clock::system().now() + Duration::from_secs(5);
            self.queue.close(deadline);
            self.poller.close(deadline);
        }
    }

    fn body() -> Body {
        Box::new(|_| Ok(Vec::new()))
    }

    /// A body that panics once it may.
    fn panicking() -> (Sender<()>, Body) {
        let (release, released) = bounded::<()>(0);
        let body: Body = Box::new(move |_| {
            released.recv().ok();
            panic!("told to")
        });
        (release, body)
    }

    fn kind(pending: Pending<OptimStepResponse>) -> ErrorKind {
        pending.wait().unwrap_err().kind()
    }

    #[test]
    fn a_panic_ends_the_call_the_queued_ones_and_the_later_ones_with_panicked() {
        let bench = Bench::new(100);
        let (release, fatal) = panicking();
        let first = bench.submit(vec![fatal, body()], OnFull::Fail).unwrap();
        let queued: Vec<_> = (0..3).map(|_| bench.submit(vec![body()], OnFull::Fail).unwrap()).collect();
        drop(release);
        assert_eq!(kind(first), ErrorKind::Panicked);
        queued.into_iter().for_each(|pending| assert_eq!(kind(pending), ErrorKind::Panicked));
        // The last answer may come before the channel is closed.
        let later = bench.submit(vec![body()], OnFull::Fail).map(kind).unwrap_or_else(|error| error.kind());
        assert_eq!(later, ErrorKind::Panicked);
        bench.queue.thread.join_by(Clock::system().now() + Duration::from_secs(5));
        let error = bench.submit(vec![body()], OnFull::Fail).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_panic_ends_a_wait_for_room() {
        let bench = Bench::new(1);
        let (release, fatal) = panicking();
        let first = bench.submit(vec![fatal], OnFull::Fail).unwrap();
        assert_eq!(bench.submit(vec![body()], OnFull::Fail).unwrap_err().kind(), ErrorKind::QueueFull);
        let limit = Duration::from_secs(77);
        let until = OnFull::WaitUntil(Some(bench.manual.clock().now() + limit));
        let waiting = thread::scope(|scope| {
            let waiting = scope.spawn(|| bench.submit(vec![body()], until).map(kind).unwrap_or_else(|e| e.kind()));
            bench.manual.until_waiting(|waits| waits.contains(&limit));
            drop(release);
            waiting.join().unwrap()
        });
        assert_eq!((kind(first), waiting), (ErrorKind::Panicked, ErrorKind::Panicked));
    }

    #[test]
    fn a_body_that_can_not_be_written_takes_no_number_and_the_rest_of_its_call_with_it() {
        let bench = Bench::new(100);
        let (tell, told) = bounded(3);
        let numbered = |fails: bool| -> Body {
            let tell = tell.clone();
            Box::new(move |seq_id| {
                tell.send(seq_id).unwrap();
                if fails { Err(Error::invalid_input("refused")) } else { Err(Error::timeout(Limit::Submit)) }
            })
        };
        let refused = bench.submit(vec![numbered(true), numbered(false)], OnFull::Fail).unwrap();
        let next = bench.submit(vec![numbered(false)], OnFull::Fail).unwrap();
        let error = refused.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!error.may_have_taken_effect());
        assert_eq!(kind(next), ErrorKind::Timeout(Limit::Submit));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn a_close_answers_what_is_queued_and_those_who_wait_for_room() {
        let bench = Bench::new(2);
        let (began, begun) = bounded(1);
        let (release, released) = bounded::<()>(0);
        let held: Body = Box::new(move |_| {
            began.send(()).unwrap();
            released.recv().ok();
            Ok(Vec::new())
        });
        let first = bench.submit(vec![held], OnFull::Fail).unwrap();
        let queued = bench.submit(vec![body()], OnFull::Fail).unwrap();
        begun.recv().unwrap();
        let limit = Duration::from_secs(77);
        let until = OnFull::WaitUntil(Some(bench.manual.clock().now() + limit));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| bench.submit(vec![body()], until).map(drop).unwrap_err().kind());
            bench.manual.until_waiting(|waits| waits.contains(&limit));
            // Does not wait for the thread, which is held.
            bench.queue.close(Clock::system().now());
            assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
        });
        assert_eq!(bench.submit(vec![body()], OnFull::Fail).unwrap_err().kind(), ErrorKind::Closed);
        drop(release);
        assert_eq!((kind(first), kind(queued)), (ErrorKind::Cancelled, ErrorKind::Closed));
    }

    #[test]
    fn a_close_ends_the_wait_for_the_next_attempt() {
        let bench = Bench::new(1);
        let first = bench.submit(vec![body()], OnFull::Fail).unwrap();
        // Nobody listens at the address, so the worker waits to try again.
        bench.manual.until_waiting(|waits| !waits.is_empty());
        bench.queue.close(Clock::system().now() + Duration::from_secs(3600));
        let error = first.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(!error.may_have_taken_effect());
    }
}

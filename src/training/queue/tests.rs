use super::super::requests::Body;
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
        let (handle, completer) = CallHandle::new(operation);
        let requests = Box::new(Bodies(bodies));
        self.queue
            .submit(Job { kind: RequestKind::OptimStep, deadline: None, requests, completer, bytes: 0 }, on_full)?;
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

/// One request for each body.
struct Bodies(Vec<Body>);

impl Requests for Bodies {
    fn write(&mut self, _: &Http, _: Choice, seq_id: u64, _: &mut Vec<u8>) -> Result<Message> {
        self.0[0](seq_id).map(|body| Message::json("optim_step", body))
    }

    fn advance(&mut self) -> bool {
        drop(self.0.remove(0));
        !self.0.is_empty()
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

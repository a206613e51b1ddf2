//! Reports the session's events to the service's operators.
//!
//! One thread sends the events of a bounded queue. [`rules::telemetry_batch`](crate::rules::telemetry_batch) decides which
//! events go into which request and when, [`report`] what they contain. Telemetry's own requests emit no events.

mod event_id;
mod report;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use serde_json::Value;

use crate::clock::{Clock, Deadline, Monitor};
use crate::http::{Http, Limits, PROTOCOL_VERSION, Purpose, Request, RetryMode, platform, to_json};
use crate::observer::{Event, Observer, QueueStateUpdate};
use crate::process::Process;
use crate::rules::retry::MAX_RETRY_AFTER;
use crate::rules::telemetry_batch::{Batcher, EventBatch, MAX_QUEUED, NextAction, NotQueued, SendOutcome};
use crate::rules::telemetry_close::ClosePatience;
use crate::threads::OwnedThread;
use crate::types::wire::{TelemetryEvent, TelemetryEventKind, TelemetrySendRequest};
use crate::types::{RequestKind, Severity};
use event_id::stamped;
use report::EventData;

/// The time limit of one request (Python client: `HTTP_TIMEOUT_SECONDS`).
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reports events to the service's operators, in addition to those that the client reports on its own. Obtained from
/// [`ServiceClient::telemetry`](crate::ServiceClient::telemetry). Cheap to clone. It does not keep the session open.
/// `Telemetry::default()` reports nothing.
///
/// On its own the client reports the start and end of the session, failed requests and polls, timeouts, paused queues, and
/// errors that the service blames on the program. These events contain the client's method, ids of promises, statuses and
/// times, and never what was sent or received: no prompt, no token, no key, no header, no query of a URL.
/// [`Config::builder().telemetry(..)`](crate::ConfigBuilder::telemetry) or `TINKER_TELEMETRY` turns telemetry off; then the
/// methods do nothing.
///
/// An event is sent within 10 s, or as soon as 100 events are queued. No method but [`log_fatal`](Telemetry::log_fatal) blocks: while 10 000 events are queued, because
/// the service cannot be reached, further ones are dropped, with one warning in the log.
///
/// # Examples
///
/// ```no_run
/// # fn f(service: tinkex::ServiceClient, trainer: tinkex::TrainingClient) {
/// use serde_json::json;
/// use tinkex::types::{AdamParams, Severity};
///
/// let telemetry = service.telemetry();
/// telemetry.log("curriculum.stage", json!({"stage": 2, "examples": 4096}), Severity::Info);
/// if let Err(error) = trainer.optim_step(AdamParams::default()) {
///     telemetry.log_exception(&error);
/// }
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Telemetry(Option<Arc<EventQueue>>);

impl Telemetry {
    /// Whether events are reported. False in a fork of the process that connected.
    ///
    /// # Examples
    ///
    /// ```
    /// let telemetry = tinkex::Telemetry::default();
    /// assert!(!telemetry.is_on(), "without a session");
    /// ```
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue().is_some()
    }

    /// Reports an event of the program. `data` is a JSON object, or `null` for none; any other value becomes the field `value`
    /// of an object. It is sent unchanged, so it must not contain secrets.
    ///
    /// # Examples
    ///
    /// ```
    /// let telemetry = tinkex::Telemetry::default();
    /// telemetry.log("stage", tinkex::serde_json::json!({"stage": 2}), tinkex::types::Severity::Info);
    /// ```
    pub fn log(&self, name: &str, data: Value, severity: Severity) {
        self.push(|| report::generic(name, data, severity));
    }

    /// Reports an error that the program could not handle. If the service blames it, or any error in its chain of sources, on
    /// the program (a 4xx other than 408 and 429, a failure of category user), it becomes an event `user_error` of severity
    /// [`Warning`](Severity::Warning), otherwise an unhandled exception of severity [`Error`](Severity::Error).
    ///
    /// Of an [`Error`](crate::Error) of this crate only the kind and the status are sent; of other errors the text.
    ///
    /// # Examples
    ///
    /// ```
    /// let telemetry = tinkex::Telemetry::default();
    /// let error = "nonsense".parse::<u32>().unwrap_err();
    /// telemetry.log_exception(&error);
    /// ```
    pub fn log_exception(&self, error: &(dyn StdError + 'static)) {
        self.push(|| report::reported(error));
    }

    /// Reports an error that ends the program, as [`log_exception`](Telemetry::log_exception) does, and blocks until the service
    /// has it and all events before it, for up to `timeout`. Returns whether none of them is queued any more; false if telemetry is
    /// off. The session stays open: its end is reported when it is closed.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn train(_: &tinkex::ServiceClient) -> tinkex::Result<()> { Ok(()) }
    /// # fn f(service: tinkex::ServiceClient) {
    /// if let Err(error) = train(&service) {
    ///     service.telemetry().log_fatal(&error, std::time::Duration::from_secs(5));
    ///     std::process::exit(1);
    /// }
    /// # }
    /// ```
    pub fn log_fatal(&self, error: &(dyn StdError + 'static), timeout: Duration) -> bool {
        let Some(queue) = self.queue() else { return false };
        queue.push(report::reported(error));
        let deadline = queue.clock.now().checked_add(timeout);
        let mut state = queue.state.lock();
        state.flush();
        let end = state.next_index();
        queue.state.notify_all();
        let mut is_over = false;
        while state.settled_below() < end && !is_over {
            is_over = queue.clock.wait_until(&queue.state, &mut state, deadline);
        }
        state.settled_below() >= end
    }

    /// Sends the queued events without waiting for more of them. Does not block.
    ///
    /// # Examples
    ///
    /// ```
    /// let telemetry = tinkex::Telemetry::default();
    /// telemetry.flush();
    /// ```
    pub fn flush(&self) {
        if let Some(queue) = self.queue() {
            queue.state.lock().flush();
            queue.state.notify_all();
        }
    }

    /// Reports a paused queue. Called at most once per client and minute.
    pub(crate) fn paused_queue(&self, update: &QueueStateUpdate, kind: RequestKind) {
        self.push(|| report::paused(update, kind));
    }

    fn push(&self, data: impl FnOnce() -> EventData) {
        if let Some(queue) = self.queue() {
            queue.push(data());
        }
    }

    /// None in a fork: the session and its thread are those of the other process.
    fn queue(&self) -> Option<&EventQueue> {
        self.0.as_deref().filter(|queue| queue.process.is_current())
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("is_on", &self.is_on()).finish()
    }
}

/// The events of a session that are queued for the service.
struct EventQueue {
    state: Arc<Monitor<Batcher<TelemetryEvent>>>,
    clock: Clock,
    process: Process,
}

impl EventQueue {
    fn push(&self, data: EventData) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let pushed = self.state.lock().push(|index| stamped(data, index, wall), now);
        match pushed {
            Ok(true) => self.state.notify_all(),
            Ok(false) | Err(NotQueued::Full { first: false }) => {}
            // Not under the lock: the program's logger may report an event.
            Err(NotQueued::Full { first: true }) => {
                warn!("{MAX_QUEUED} telemetry events are queued; further ones are dropped");
            }
            Err(NotQueued::Ended) => debug!("dropping a telemetry event: the session has ended"),
        }
    }
}

/// Unlike the program's observers, it is called on the thread that emits the event, and does not block.
impl Observer for EventQueue {
    fn on_event(&self, event: &Event) {
        for data in report::of_event(event, self.clock.wall()) {
            self.push(data);
        }
    }
}

/// Owns the thread that sends the events.
pub(super) struct Reporter {
    queue: Arc<EventQueue>,
    thread: OwnedThread,
    http: Arc<Http>,
    began: Instant,
}

impl Reporter {
    /// Starts to report, unless the configuration turns it off. If no thread can be started, the session works
    /// without telemetry.
    pub(super) fn spawn(http: &Arc<Http>, session_id: &str) -> Option<Self> {
        let config = http.config();
        if !config.telemetry() {
            return None;
        }
        let clock = config.clock().clone();
        let began = clock.now();
        let queue =
            Arc::new(EventQueue { state: Monitor::new(Batcher::default()), clock, process: Process::current() });
        let sender =
            EventSender { http: Arc::clone(http), queue: Arc::clone(&queue), session_id: session_id.to_owned() };
        match OwnedThread::spawn(&config.thread_options(), "telemetry", move || sender.run()) {
            Ok(thread) => {
                queue.push((TelemetryEventKind::SessionStart, Severity::Info));
                http.events().set_telemetry(Arc::clone(&queue) as Arc<dyn Observer>);
                Some(Reporter { queue, thread, http: Arc::clone(http), began })
            }
            Err(error) => {
                warn!("{error}; telemetry is off");
                None
            }
        }
    }

    pub(super) fn handle(reporter: Option<&Self>) -> Telemetry {
        Telemetry(reporter.map(|reporter| Arc::clone(&reporter.queue)))
    }

    /// Reports the end of the session as the last event, and starts to send everything that is queued.
    pub(super) fn end(&self) {
        let (now, wall) = (self.queue.clock.now(), self.queue.clock.wall());
        let end = TelemetryEventKind::SessionEnd { duration: (now - self.began).into() };
        self.queue.state.lock().end(|index| stamped((end, Severity::Info), index, wall), now);
        self.queue.state.notify_all();
    }

    /// Waits until everything is sent, or the service stops responding, or the deadline is near, in real time; then ends the
    /// thread.
    pub(super) fn join_by(&self, deadline: Instant) {
        let system = Clock::system();
        let mut patience = ClosePatience::new(system.now(), deadline);
        loop {
            let answered = self.queue.state.lock().answered();
            let Some(until) = patience.next(answered, system.now()) else { break };
            if self.thread.ends_by(until) {
                break;
            }
        }
        self.http.close_telemetry();
        self.queue.state.lock().give_up();
        self.queue.state.notify_all();
        self.thread.join_by(deadline);
        let dropped = self.queue.state.lock().dropped();
        if dropped > 0 {
            debug!("{dropped} telemetry events were dropped");
        }
    }
}

/// What runs on the thread.
struct EventSender {
    http: Arc<Http>,
    queue: Arc<EventQueue>,
    session_id: String,
}

impl EventSender {
    fn run(self) {
        let (clock, monitor) = (&self.queue.clock, &self.queue.state);
        loop {
            let batch = {
                let mut state = monitor.lock();
                loop {
                    match state.next(clock.now()) {
                        NextAction::Send(batch) => break batch,
                        NextAction::Wait(until) => drop(clock.wait_until(monitor, &mut state, until)),
                        NextAction::End => return,
                    }
                }
            };
            let outcome = self.send(&batch);
            monitor.lock().sent(batch, outcome, clock.now());
            // Someone may wait for the events to be sent.
            monitor.notify_all();
        }
    }

    fn send(&self, batch: &EventBatch<TelemetryEvent>) -> SendOutcome {
        let request = TelemetrySendRequest {
            events: batch.events.as_slice().into(),
            platform: platform().into(),
            sdk_version: PROTOCOL_VERSION.into(),
            session_id: self.session_id.as_str().into(),
        };
        let Ok(body) = to_json("telemetry", &request) else { return SendOutcome::Rejected };
        // The same for every attempt of the batch.
        let key = batch.events.first().map(|event| format!("tinkex-{}", event.event_id));
        // The batcher decides about retries, not the loop of `http`: during the wait events are still queued, and the end of the
        // session ends the wait.
        let request =
            Request { retry: RetryMode::Never, idempotency_key: key.as_deref(), ..Request::post("telemetry", &body) };
        match self.http.send(&request, &limits(&self.http)) {
            Ok(_) => SendOutcome::Accepted,
            Err(error) if error.is_retryable() => {
                debug!("{error}; {} telemetry events will be retried", batch.events.len());
                let asked = error.retry_after().filter(|wait| *wait <= MAX_RETRY_AFTER);
                SendOutcome::Retry(
                    asked.unwrap_or_else(|| self.http.config().retry_policy().wait(batch.failures, fastrand::f64())),
                )
            }
            Err(error) => {
                debug!("{error}; {} telemetry events are dropped", batch.events.len());
                SendOutcome::Rejected
            }
        }
    }
}

fn limits(http: &Http) -> Limits {
    let deadline = Deadline::of_operation(http.config().clock(), Some(TIMEOUT));
    Limits { idle: TIMEOUT, deadline, ..http.limits("telemetry", Purpose::Telemetry) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Config;

    #[test]
    fn a_request_has_five_seconds_in_all() {
        let clock = ManualClock::new().clock();
        let config = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1").clock(clock.clone());
        let limits = limits(&Http::new(&config.build_with(|_| None).unwrap()).unwrap());
        let five = Duration::from_secs(5);
        assert_eq!((limits.idle, limits.deadline.unwrap().at - clock.now()), (five, five));
    }
}

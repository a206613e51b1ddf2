//! Tells the service how the session goes.
//!
//! One thread sends what waits in a bounded queue; which events go together and when is decided in
//! [`rules::reporting`](crate::rules::reporting), what they say in [`report`]. Its own requests are told to nobody.

mod report;
mod stamp;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use serde_json::Value;

use crate::clock::{Clock, Deadline, Monitor};
use crate::dispatcher::EventSink;
use crate::error::Limit;
use crate::http::{Http, Limits, PROTOCOL_VERSION, Purpose, Request, RetryMode, platform, to_json};
use crate::observer::{Event, QueueStateUpdate};
use crate::rules::reporting::{Batch, MAX_WAITING, NotTaken, Reporting, Sent, Step};
use crate::rules::retry::MAX_RETRY_AFTER;
use crate::threads::OwnedThread;
use crate::types::wire::{TelemetryEvent, TelemetryEventKind, TelemetrySendRequest};
use crate::types::{RequestKind, Severity};
use report::Told;
use stamp::stamped;

/// How long one request may take (Python client: `HTTP_TIMEOUT_SECONDS`).
const TIMEOUT: Duration = Duration::from_secs(5);

/// At the close, how long the service may be silent before the events that are left are given up.
const PATIENCE: Duration = Duration::from_millis(400);

/// Reports to the service's operators, along with what the client reports by itself. Obtained from
/// [`ServiceClient::telemetry`](crate::ServiceClient::telemetry); cheap to clone. It does not keep the session open.
///
/// By itself the client reports when the session begins and ends, requests and polls that failed, time limits that ran out,
/// paused queues, and errors by which the service says that the program is at fault: by the client's method, the ids of
/// promises, statuses and times. What was sent and what the service answered is never in it: no prompt, no token, no key,
/// no header, no query of a URL. Whether there is telemetry at all is decided by
/// [`Config::builder().telemetry(..)`](crate::ConfigBuilder::telemetry) or `TINKER_TELEMETRY`; without it the methods
/// do nothing.
///
/// The events wait for at most 10 s, or until there are 100 of them. No method blocks: when 10 000 events wait, because the
/// service cannot be reached, further ones are dropped, with one warning in the log.
///
/// # Examples
///
/// ```no_run
/// # fn f(service: tinkex::ServiceClient, trainer: tinkex::TrainingClient) {
/// use serde_json::json;
/// use tinkex::types::Severity;
/// use tinkex::types::AdamParams;
///
/// let telemetry = service.telemetry();
/// telemetry.log("curriculum.stage", json!({"stage": 2, "examples": 4096}), Severity::Info);
/// if let Err(error) = trainer.optim_step(AdamParams::default()) {
///     telemetry.log_exception(&error);
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Telemetry(Option<Arc<Events>>);

impl Telemetry {
    /// Whether anything is reported.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Reports an event of the program's own, by its name and its data: a JSON object, `null` for none; anything else becomes
    /// the object's `value`. It is sent as it is: put no secrets into it.
    pub fn log(&self, name: &str, data: Value, severity: Severity) {
        self.push(|| report::generic(name, data, severity));
    }

    /// Reports an error that the program could not handle. One by which the service says that the program is at fault, itself
    /// or anywhere down its sources (a 4xx other than 408 and 429, a failure of category user), becomes an event
    /// `user_error` of severity [`Warning`](Severity::Warning); any other an unhandled exception of severity
    /// [`Error`](Severity::Error).
    ///
    /// Of an [`Error`](crate::Error) of this crate, its kind, status and nothing else is sent; of others, their text.
    pub fn log_exception(&self, error: &(dyn StdError + 'static)) {
        self.push(|| report::reported(error));
    }

    /// Sends what waits now without waiting for more. Does not wait for the service.
    pub fn flush(&self) {
        if let Some(events) = &self.0 {
            events.state.lock().flush();
            events.state.notify_all();
        }
    }

    fn push(&self, told: impl FnOnce() -> Told) {
        if let Some(events) = &self.0 {
            events.push(told());
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("is_on", &self.is_on()).finish()
    }
}

/// The events of a session on their way to the service.
struct Events {
    state: Arc<Monitor<Reporting<TelemetryEvent>>>,
    clock: Clock,
}

impl Events {
    fn push(&self, told: Told) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let pushed = self.state.lock().push(|index| stamped(told, index, wall), now);
        match pushed {
            Ok(true) => self.state.notify_all(),
            Ok(false) | Err(NotTaken::Full { first: false }) => {}
            // Not under the lock: a logger may be the program's, and report something.
            Err(NotTaken::Full { first: true }) => {
                warn!("{MAX_WAITING} telemetry events wait to be sent; further ones are dropped");
            }
            Err(NotTaken::Ended) => debug!("a telemetry event came after the end of the session"),
        }
    }
}

impl EventSink for Events {
    fn on_event(&self, event: &Event) {
        for told in report::told(event, self.clock.wall()) {
            self.push(told);
        }
    }

    fn on_paused_queue(&self, update: &QueueStateUpdate, kind: RequestKind) {
        self.push(report::paused(update, kind));
    }
}

/// Owns the thread that sends.
pub(super) struct Reporter {
    events: Arc<Events>,
    thread: OwnedThread,
    http: Arc<Http>,
    began: Instant,
}

impl Reporter {
    /// Begins to report, unless the configuration says otherwise. The session goes on without, where no thread can be had.
    pub(super) fn spawn(http: &Arc<Http>, session_id: &str) -> Option<Self> {
        let config = http.config();
        if !config.telemetry() {
            return None;
        }
        let clock = config.clock().clone();
        let began = clock.now();
        let events = Arc::new(Events { state: Monitor::new(Reporting::default()), clock });
        let sender = Sender { http: Arc::clone(http), events: Arc::clone(&events), session_id: session_id.to_owned() };
        match OwnedThread::spawn(&config.thread_options(), "telemetry", move || sender.run()) {
            Ok(thread) => {
                events.push((TelemetryEventKind::SessionStart, Severity::Info));
                http.events().set_sink(Arc::clone(&events) as Arc<dyn EventSink>);
                Some(Reporter { events, thread, http: Arc::clone(http), began })
            }
            Err(error) => {
                warn!("{error}; there is no telemetry");
                None
            }
        }
    }

    pub(super) fn handle(reporter: Option<&Self>) -> Telemetry {
        Telemetry(reporter.map(|reporter| Arc::clone(&reporter.events)))
    }

    /// Tells the end of the session, which is the last event, and begins to send all that is left.
    pub(super) fn end(&self) {
        let (now, wall) = (self.events.clock.now(), self.events.clock.wall());
        let end = TelemetryEventKind::SessionEnd { duration: (now - self.began).into() };
        self.events.state.lock().end(|index| stamped((end, Severity::Info), index, wall), now);
        self.events.state.notify_all();
    }

    /// Waits until all is sent, as long as the service keeps answering and at most until a little before the deadline, in real
    /// time; then ends the thread.
    pub(super) fn join_by(&self, deadline: Instant) {
        let system = Clock::system();
        let rest = deadline.saturating_duration_since(system.now());
        let give_up = deadline - rest / 5;
        loop {
            let answered = self.events.state.lock().answered();
            let until = (system.now() + PATIENCE).min(give_up);
            if self.thread.ends_by(until) || until == give_up || self.events.state.lock().answered() == answered {
                break;
            }
        }
        self.http.close_telemetry();
        self.events.state.lock().give_up();
        self.events.state.notify_all();
        self.thread.join_by(deadline);
        let dropped = self.events.state.lock().dropped();
        if dropped > 0 {
            debug!("{dropped} telemetry events were dropped");
        }
    }
}

/// The thread.
struct Sender {
    http: Arc<Http>,
    events: Arc<Events>,
    session_id: String,
}

impl Sender {
    fn run(self) {
        let (clock, monitor) = (&self.events.clock, &self.events.state);
        loop {
            let batch = {
                let mut state = monitor.lock();
                loop {
                    match state.next(clock.now()) {
                        Step::Send(batch) => break batch,
                        Step::Wait(until) => drop(clock.wait_until(monitor, &mut state, until)),
                        Step::End => return,
                    }
                }
            };
            let sent = self.send(&batch);
            monitor.lock().sent(batch, sent, clock.now());
        }
    }

    fn send(&self, batch: &Batch<TelemetryEvent>) -> Sent {
        let request = TelemetrySendRequest {
            events: batch.events.as_slice().into(),
            platform: platform().into(),
            sdk_version: PROTOCOL_VERSION.into(),
            session_id: self.session_id.as_str().into(),
        };
        let Ok(body) = to_json("telemetry", &request) else { return Sent::Refused };
        // The same whenever the batch is sent again.
        let key = batch.events.first().map(|event| format!("tinkex-{}", event.event_id));
        // The batcher decides about retries, not the loop of `http`: during the wait it keeps accepting events, may close, and
        // gives up by the number of batches and events waiting.
        let request =
            Request { retry: RetryMode::Never, idempotency_key: key.as_deref(), ..Request::post("telemetry", &body) };
        let limits = Limits {
            idle: TIMEOUT,
            deadline: Some(Deadline { at: self.events.clock.now() + TIMEOUT, limit: Limit::Operation }),
            ..self.http.limits("telemetry", Purpose::Telemetry)
        };
        match self.http.send(&request, &limits) {
            Ok(_) => Sent::Accepted,
            Err(error) if error.is_retryable() => {
                debug!("{error}; {} telemetry events are sent again later", batch.events.len());
                let wish = error.retry_after().filter(|wait| *wait <= MAX_RETRY_AFTER);
                Sent::Again(
                    wish.unwrap_or_else(|| self.http.config().retry_policy().wait(batch.failures, fastrand::f64())),
                )
            }
            Err(error) => {
                debug!("{error}; {} telemetry events are dropped", batch.events.len());
                Sent::Refused
            }
        }
    }
}

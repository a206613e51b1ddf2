//! The events of a client, and the traits that receive them.
//!
//! Data and traits only. Modules in higher layers emit the events; the [dispatcher](crate::dispatcher) delivers them.

mod waiting;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use waiting::{WaitEnded, WaitKind, WaitLimit, Waiting};

use crate::error::Error;
use crate::types::{QueueState, RequestKind};

/// Something that happened in a client. An [`Observer`] receives it.
///
/// # Examples
///
/// ```
/// use tinkex::Event;
///
/// fn line(event: &Event) -> Option<String> {
///     Some(match event {
///         Event::RequestStart { operation, method, path, .. } => format!("{operation}: {method} {path}"),
///         Event::RequestStop { method, path, status, duration, .. } => format!("{method} {path}: {status:?} in {duration:?}"),
///         Event::Retry { path, attempt, wait, error, .. } => format!("{path}: attempt {attempt} failed, next in {wait:?}: {error}"),
///         Event::QueueState(update) => format!("{} is {}", update.operation, update.queue_state),
///         Event::PollFailed { request_id, iteration, error, .. } => format!("{request_id}, poll {iteration}: {error}"),
///         Event::Resolved { request_id, duration, error: None, .. } => format!("{request_id} took {duration:?}"),
///         Event::Resolved { request_id, error: Some(error), .. } => format!("{request_id} failed: {error}"),
///         Event::Waiting(waiting) => waiting.to_string(),
///         Event::WaitEnded(ended) => ended.to_string(),
///         Event::BillingPaused { limit, .. } => format!("waiting up to {limit:?} for the bill to be paid"),
///         Event::BillingResumed { paused, .. } => format!("going on after {paused:?}"),
///         Event::Missed { count, .. } => format!("{count} events were dropped"),
///         _ => return None,
///     })
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A request is about to be sent. All its attempts are one request; each poll is a request.
    #[non_exhaustive]
    RequestStart {
        /// The client's method, or the request's name.
        operation: &'static str,
        /// `GET`, `POST`, `PUT` or `DELETE`.
        method: &'static str,
        /// Below the base URL, without a query: `/api/v1/…`.
        path: Arc<str>,
    },
    /// A request has finished, successfully or not.
    #[non_exhaustive]
    RequestStop {
        /// The client's method, or the request's name.
        operation: &'static str,
        /// `GET`, `POST`, `PUT` or `DELETE`.
        method: &'static str,
        /// Below the base URL, without a query.
        path: Arc<str>,
        /// The HTTP status of the last response, if there was one.
        status: Option<u16>,
        /// Why it failed. A poll that gets a response did not fail.
        error: Option<Error>,
        /// The total duration, including the waits between attempts.
        duration: Duration,
        /// The number of attempts.
        attempts: u32,
    },
    /// An attempt has failed and will be retried.
    #[non_exhaustive]
    Retry {
        /// The client's method, or the request's name.
        operation: &'static str,
        /// `GET`, `POST`, `PUT` or `DELETE`.
        method: &'static str,
        /// Below the base URL, without a query.
        path: Arc<str>,
        /// The number of the failed attempt, from 1.
        attempt: u32,
        /// The wait before the next attempt.
        wait: Duration,
        /// Why it failed.
        error: Error,
        /// The time since the request started.
        elapsed: Duration,
    },
    /// The service reported the state of the queue that a request waits in.
    QueueState(QueueStateUpdate),
    /// A poll failed: an error status, a lost connection, or the failure of the request itself.
    #[non_exhaustive]
    PollFailed {
        /// The client's method whose result is pending.
        operation: &'static str,
        /// The id of the promise.
        request_id: Arc<str>,
        /// The kind of request.
        kind: RequestKind,
        /// The number of this poll of the promise, from 0.
        iteration: u32,
        /// The number of consecutive polls before this one that did not reach the service.
        lost: u32,
        /// Why it failed.
        error: Error,
        /// The time since the service made the promise.
        elapsed: Duration,
    },
    /// The result of a promise has arrived, or the promise has failed.
    #[non_exhaustive]
    Resolved {
        /// The client's method whose result was pending.
        operation: &'static str,
        /// The id of the promise.
        request_id: Arc<str>,
        /// The kind of request.
        kind: RequestKind,
        /// The time since the service made the promise.
        duration: Duration,
        /// Why it failed. A promise that the program abandons emits no event, unless its operation timed out.
        error: Option<Error>,
    },
    /// Calls have waited for more than 10 s, or for a result without any news for more than a minute. Emitted once for all calls
    /// of a kind, and repeated every minute while any of them waits. The log has the same as a warning.
    Waiting(Waiting),
    /// Calls of a kind that [`Waiting`](Event::Waiting) named no longer wait: each has its response, or has failed.
    WaitEnded(WaitEnded),
    /// The service refuses requests because of the account's billing (402). They pause, and are sent again.
    #[non_exhaustive]
    BillingPaused {
        /// The first refusal.
        error: Error,
        /// How long the pause may last before requests fail with this error:
        /// [`timeout_billing`](crate::ConfigBuilder::timeout_billing).
        limit: Duration,
    },
    /// The service accepts requests again after a billing pause.
    #[non_exhaustive]
    BillingResumed {
        /// How long the pause lasted.
        paused: Duration,
    },
    /// The observer fell behind and this many events were dropped. Delivered before any event still queued.
    #[non_exhaustive]
    Missed {
        /// The number of events dropped since the last event of this kind.
        count: u64,
    },
}

/// Receives every event of a client. Set one with [`ConfigBuilder::observer`](crate::ConfigBuilder::observer); a closure
/// works too.
///
/// # Examples
///
/// ```
/// use tinkex::{Config, Event};
///
/// let config = Config::builder()
///     .api_key("tml-example")
///     .base_url("http://127.0.0.1:8000")
///     .observer(|event: &Event| {
///         if let Event::RequestStop { operation, duration, attempts, .. } = event {
///             println!("{operation}: {duration:?}, {attempts} attempts");
///         }
///     })
///     .build()?;
/// # Ok::<(), tinkex::Error>(())
/// ```
pub trait Observer: Send + Sync {
    /// Called with each event, in order, on a dedicated thread. It may block, call the clients, wait for results and drop the
    /// last handle of the client. While it is busy, up to 1024 events are queued; further ones are dropped, and
    /// [`Event::Missed`] reports how many. A panic is logged and otherwise ignored.
    ///
    /// Closing the client, or a failed connect, delivers the queued events within the time limit of the close, and drops the
    /// rest with a warning in the log.
    ///
    /// Requests that carry telemetry emit no events, and neither do requests to other servers: archive storage and the
    /// tokenizer hub.
    fn on_event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn on_event(&self, event: &Event) {
        self(event);
    }
}

/// Receives the states of the queues that requests wait in: only [`Event::QueueState`].
///
/// While a request is not finished, a server may report whether its queue moves or why it is paused. Set an observer with
/// [`ConfigBuilder::queue_state_observer`](crate::ConfigBuilder::queue_state_observer); a closure works too. A call that
/// waits for a paused queue is also in the log and in [`Event::Waiting`].
///
/// # Examples
///
/// ```
/// use tinkex::{Config, QueueStateUpdate};
///
/// let config = Config::builder()
///     .api_key("tml-example")
///     .base_url("http://127.0.0.1:8000")
///     .queue_state_observer(|update: &QueueStateUpdate| {
///         println!("{} of {}: {}", update.request_id, update.operation, update.queue_state);
///     })
///     .build()?;
/// # Ok::<(), tinkex::Error>(())
/// ```
pub trait QueueStateObserver: Send + Sync {
    /// Called for each response that reports a queue state, in order, on the thread that calls the [`Observer`]; what is said
    /// there about blocking and panics holds here too. The log has a warning when updates are dropped.
    fn on_queue_state(&self, update: &QueueStateUpdate);
}

impl<F: Fn(&QueueStateUpdate) + Send + Sync> QueueStateObserver for F {
    fn on_queue_state(&self, update: &QueueStateUpdate) {
        self(update);
    }
}

/// The state of the queue that a request waits in, as the server reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStateUpdate {
    /// The client's method whose result is pending.
    pub operation: &'static str,
    /// The id of the promise.
    pub request_id: Arc<str>,
    /// Whether the queue moves or is paused.
    pub queue_state: QueueState,
    /// The server's reason for this state, if it gives one.
    pub reason: Option<String>,
}

/// The program's observers, as stored in the configuration.
#[derive(Clone, Default)]
pub(crate) struct Observers {
    pub(crate) all: Option<Arc<dyn Observer>>,
    pub(crate) queue_states: Option<Arc<dyn QueueStateObserver>>,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observers")
            .field("all", &self.all.is_some())
            .field("queue_states", &self.queue_states.is_some())
            .finish()
    }
}

//! What happens in a client, told to the program as it happens.
//!
//! The same happenings feed the telemetry. Where each is noticed is the other modules' matter; [`hub`] passes them on.

mod hub;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use hub::{Events, Report};

use crate::error::Error;
use crate::types::{QueueState, RequestKind};

/// Something that happened in a client. An [`Observer`] is told of it.
///
/// # Examples
///
/// ```
/// use tinkex::Event;
///
/// fn line(event: &Event) -> Option<String> {
///     Some(match event {
///         Event::RequestStop { method, path, status, duration, .. } => format!("{method} {path}: {status:?} in {duration:?}"),
///         Event::Retry { path, attempt, wait, error, .. } => format!("{path} again in {wait:?}, {attempt} failed: {error}"),
///         Event::QueueState(update) => format!("{} is {}", update.operation, update.queue_state),
///         Event::Resolved { request_id, duration, error: None, .. } => format!("{request_id} took {duration:?}"),
///         _ => return None,
///     })
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A request is about to be sent. All its attempts together are one request; so is each poll.
    #[non_exhaustive]
    RequestStart {
        /// The client's method, or the request's name.
        operation: &'static str,
        /// `GET`, `POST` or `DELETE`.
        method: &'static str,
        /// Below the base URL, without a query: `/api/v1/…`.
        path: Arc<str>,
    },
    /// A request has ended, for better or worse.
    #[non_exhaustive]
    RequestStop {
        /// The client's method, or the request's name.
        operation: &'static str,
        /// `GET`, `POST` or `DELETE`.
        method: &'static str,
        /// Below the base URL, without a query.
        path: Arc<str>,
        /// The HTTP status of the last answer, if there was one.
        status: Option<u16>,
        /// Why it failed. A poll does not fail when the service answers it.
        error: Option<Error>,
        /// From its beginning, with the waits between its attempts.
        duration: Duration,
        /// How often it was sent.
        attempts: u32,
    },
    /// A request has failed and will be sent again.
    #[non_exhaustive]
    Retry {
        /// The client's method, or the request's name.
        operation: &'static str,
        /// `GET`, `POST` or `DELETE`.
        method: &'static str,
        /// Below the base URL, without a query.
        path: Arc<str>,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// The wait before the next one.
        wait: Duration,
        /// Why it failed.
        error: Error,
        /// Since the request began.
        elapsed: Duration,
    },
    /// The service named the state of the queue that a request waits in.
    QueueState(QueueStateUpdate),
    /// A poll brought no result but a failure: a status that means one, a lost connection, or that the request itself failed.
    #[non_exhaustive]
    PollFailed {
        /// The client's method whose result is waited for.
        operation: &'static str,
        /// The id of the promise.
        request_id: Arc<str>,
        /// What was asked for.
        kind: RequestKind,
        /// Which poll of the promise it was, from 0.
        iteration: u32,
        /// How many polls of the promise in a row had found no service before.
        lost: u32,
        /// Why it failed.
        error: Error,
        /// Since the promise was there.
        elapsed: Duration,
    },
    /// The result of a promise is there, or will not come.
    #[non_exhaustive]
    Resolved {
        /// The client's method whose result was waited for.
        operation: &'static str,
        /// The id of the promise.
        request_id: Arc<str>,
        /// What was asked for.
        kind: RequestKind,
        /// Since the promise was there.
        duration: Duration,
        /// Why it failed. What the program gave up is not told, but for an operation whose time limit ran out.
        error: Option<Error>,
    },
    /// The observer was too slow: so many events were dropped.
    #[non_exhaustive]
    Missed {
        /// How many, since the last event of this kind.
        count: u64,
    },
}

/// Is told of everything that happens in a client. Set one with [`observer`](crate::config::ConfigBuilder::observer); a
/// closure will do.
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
    /// Called with each event, in order, on a thread that does nothing else: it may block, call the clients, wait for results
    /// and drop the last handle. While it is busy, up to 1024 events wait; further ones are dropped, which it is told by
    /// [`Event::Missed`]. A panic is logged and otherwise ignored. The close of the client waits
    /// until the observer has heard what there was, within its time, and so does a connect that fails; what is left then is
    /// dropped, with a warning in the log.
    /// The requests that carry telemetry are not told.
    fn on_event(&self, event: &Event);
}

impl<F: Fn(&Event) + Send + Sync> Observer for F {
    fn on_event(&self, event: &Event) {
        self(event);
    }
}

/// Is told of the state of the queues that the program's requests wait in: [`Event::QueueState`] alone.
///
/// A server that is not done with a request may say whether its queue moves or why it is paused. Set one with
/// [`queue_state_observer`](crate::config::ConfigBuilder::queue_state_observer); a closure will do. Paused queues are logged
/// besides, at level warn, at most once a minute for each client.
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
    /// Called with each answer that names the state of a queue, in the order in which the answers came, on the thread that an
    /// [`Observer`] is called on, and under the same terms. When updates are dropped, a warning in the log says so.
    fn on_queue_state(&self, update: &QueueStateUpdate);
}

impl<F: Fn(&QueueStateUpdate) + Send + Sync> QueueStateObserver for F {
    fn on_queue_state(&self, update: &QueueStateUpdate) {
        self(update);
    }
}

/// What a server said of the queue that a request waits in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStateUpdate {
    /// The client's method whose result is waited for.
    pub operation: &'static str,
    /// The id of the promise.
    pub request_id: Arc<str>,
    /// Whether the queue moves.
    pub queue_state: QueueState,
    /// Why it is in this state, in the server's words, if it says so.
    pub reason: Option<String>,
}

/// The program's observers, as the configuration keeps them.
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

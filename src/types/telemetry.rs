//! What a session tells the service's operators.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SessionDuration, Timestamp};

/// How much a telemetry event matters.
///
/// ```
/// use tinkex::types::Severity;
///
/// assert!(Severity::Warning < Severity::Error);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Severity {
    /// Of use to whoever looks for a fault.
    Debug,
    /// Worth to be known.
    #[default]
    Info,
    /// Something is not as it should be, and work goes on.
    Warning,
    /// Something failed.
    Error,
    /// Nothing goes on.
    Critical,
}

/// `POST telemetry`: events of one session, at most 100 of them.
///
/// A client makes these by itself; [`Telemetry`](crate::Telemetry) adds a program's own events.
///
/// ```
/// use std::borrow::Cow;
/// use std::time::SystemTime;
/// use tinkex::types::{Severity, TelemetryEvent, TelemetryEventKind, TelemetrySendRequest};
///
/// let request = TelemetrySendRequest {
///     events: Cow::Owned(vec![TelemetryEvent {
///         kind: TelemetryEventKind::SessionStart,
///         event_id: "7b0c".into(),
///         event_session_index: 0,
///         severity: Severity::Info,
///         timestamp: SystemTime::UNIX_EPOCH.into(),
///     }]),
///     platform: "Linux".into(),
///     sdk_version: "0.4.1".into(),
///     session_id: "session-1".into(),
/// };
/// assert_eq!(serde_json::to_value(&request)?["events"][0]["event"], "SESSION_START");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TelemetrySendRequest<'a> {
    /// In the order in which they happened.
    pub events: Cow<'a, [TelemetryEvent]>,
    /// The operating system, such as `Linux`.
    pub platform: Cow<'a, str>,
    /// The version of the protocol.
    pub sdk_version: Cow<'a, str>,
    /// The session.
    pub session_id: Cow<'a, str>,
}

/// One event of a session. [`TelemetrySendRequest`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TelemetryEvent {
    /// What happened.
    #[serde(flatten)]
    pub kind: TelemetryEventKind,
    /// A UUID, which tells a repeated event from a new one.
    pub event_id: String,
    /// The event's number in the session, from 0.
    pub event_session_index: u64,
    /// How much it matters.
    pub severity: Severity,
    /// When it happened.
    pub timestamp: Timestamp,
}

/// What a telemetry event says. [`TelemetrySendRequest`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum TelemetryEventKind {
    /// The session begins.
    SessionStart,
    /// The session ends.
    SessionEnd {
        /// How long it lasted.
        duration: SessionDuration,
    },
    /// Anything that has a name.
    GenericEvent {
        /// Its name.
        event_name: String,
        /// What is to be known of it.
        #[serde(default)]
        event_data: Map<String, Value>,
    },
    /// An error that nobody handled.
    UnhandledException {
        /// What it says.
        error_message: String,
        /// What kind of error it is.
        error_type: String,
        /// Where it came from.
        traceback: Option<String>,
    },
}

/// The answer to [`TelemetrySendRequest`].
///
/// ```
/// use tinkex::types::TelemetryResponse;
///
/// let answer: TelemetryResponse = serde_json::from_str(r#"{"status":"accepted"}"#)?;
/// assert_eq!(answer.status, "accepted");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TelemetryResponse {
    /// `accepted`.
    pub status: String,
}

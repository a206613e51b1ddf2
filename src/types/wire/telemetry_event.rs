//! Telemetry: what a session reports to the operators of the service.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::SessionDuration;
use crate::types::{Severity, Timestamp};

/// Sends up to 100 telemetry events of one session: `POST telemetry`, returns [`TelemetryResponse`].
///
/// Clients send these themselves; [`Telemetry`](crate::Telemetry) adds a program's own events.
///
/// ```
/// use std::borrow::Cow;
/// use std::time::SystemTime;
/// use tinkex::types::Severity;
/// use tinkex::types::wire::{TelemetryEvent, TelemetryEventKind, TelemetrySendRequest};
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
    /// The events, oldest first.
    pub events: Cow<'a, [TelemetryEvent]>,
    /// The operating system, for example `Linux`.
    pub platform: Cow<'a, str>,
    /// The version of the protocol.
    pub sdk_version: Cow<'a, str>,
    /// The id of the session.
    pub session_id: Cow<'a, str>,
}

/// One event of a session. [`TelemetrySendRequest`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TelemetryEvent {
    /// What happened.
    #[serde(flatten)]
    pub kind: TelemetryEventKind,
    /// A UUID. The server uses it to recognize an event that is sent twice.
    pub event_id: String,
    /// The event's number in the session, from 0.
    pub event_session_index: u64,
    /// How serious the event is.
    pub severity: Severity,
    /// When it happened.
    pub timestamp: Timestamp,
}

/// What happened in a telemetry event. [`TelemetrySendRequest`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum TelemetryEventKind {
    /// The session starts.
    SessionStart,
    /// The session ends.
    SessionEnd {
        /// How long the session lasted.
        duration: SessionDuration,
    },
    /// Any event with a name.
    GenericEvent {
        /// The name.
        event_name: String,
        /// Details. Empty by default.
        #[serde(default)]
        event_data: Map<String, Value>,
    },
    /// An error that the program did not handle.
    UnhandledException {
        /// The error's message.
        error_message: String,
        /// The error's type.
        error_type: String,
        /// Where the error came from.
        traceback: Option<String>,
    },
}

/// The response to [`TelemetrySendRequest`].
///
/// ```
/// use tinkex::types::wire::TelemetryResponse;
///
/// let response: TelemetryResponse = serde_json::from_str(r#"{"status":"accepted"}"#)?;
/// assert_eq!(response.status, "accepted");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TelemetryResponse {
    /// `accepted`.
    pub status: String,
}

//! What travels: the telemetry events of the Python client 0.4.1.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::types::{SessionDuration, Timestamp};

/// How much an event matters.
///
/// ```
/// use tinkex::Severity;
///
/// assert!(Severity::Warning < Severity::Error);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
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

/// `POST telemetry`.
#[derive(Serialize)]
pub(super) struct Request<'a> {
    pub(super) events: &'a [Entry],
    pub(super) platform: &'static str,
    pub(super) sdk_version: &'static str,
    pub(super) session_id: &'a str,
}

/// One event.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) what: What,
    pub(super) event_id: String,
    pub(super) event_session_index: u64,
    pub(super) severity: Severity,
    pub(super) timestamp: Timestamp,
}

/// What an event says.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum What {
    SessionStart,
    SessionEnd { duration: SessionDuration },
    GenericEvent { event_name: String, event_data: Map<String, Value> },
    UnhandledException { error_message: String, error_type: String, traceback: String },
}

impl Entry {
    pub(super) fn new(what: What, severity: Severity, index: u64, now: SystemTime) -> Self {
        Entry { what, event_id: random_id(), event_session_index: index, severity, timestamp: now.into() }
    }
}

/// A random UUID (version 4), which tells a repeated event from a new one.
fn random_id() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0b11 << 62) | 4 << 76 | 0b10 << 62;
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_uuids() {
        for _ in 0..100 {
            let id = random_id();
            let lengths: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(&id[14..15] == "4" && "89ab".contains(&id[19..20]), "{id}");
        }
        assert_ne!(random_id(), random_id());
    }
}

//! The audit log of an organization.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Timestamp;

open_enum! {
    /// Which events [`RestClient::get_audit_log`](crate::RestClient::get_audit_log) returns.
    ///
    /// ```
    /// use tinkex::types::AuditEventType;
    ///
    /// assert_eq!(AuditEventType::from("projects"), AuditEventType::Projects);
    /// ```
    pub enum AuditEventType {
        /// All events.
        All = "all",
        /// Events of checkpoints.
        Checkpoints = "checkpoints",
        /// Events of projects.
        Projects = "projects",
        /// Events of teams.
        Teams = "teams",
        /// Events of organizations.
        Organizations = "organizations",
    }
}

/// The events of an audit log: `GET audit`.
///
/// ```
/// use tinkex::types::AuditLogResponse;
///
/// let json = r#"{"entries":[{"timestamp":"2025-11-01T12:00:00Z","event":"checkpoint_read","event_details":{"who":"u-1"}}]}"#;
/// let log: AuditLogResponse = serde_json::from_str(json)?;
/// assert_eq!(log.entries[0].event_details["who"], "u-1");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditLogResponse {
    /// The events.
    pub entries: Vec<AuditLogEntry>,
}

/// An event of an audit log. [`AuditLogResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditLogEntry {
    /// When it happened.
    pub timestamp: Timestamp,
    /// What happened, such as `checkpoint_read`.
    pub event: String,
    /// More about the event. Empty by default.
    #[serde(default)]
    pub event_details: Map<String, Value>,
    /// The model that the event is about.
    pub model_id: Option<String>,
    /// The checkpoint that the event is about.
    pub tinker_path: Option<String>,
    /// Why the checkpoint was used.
    pub purpose: Option<String>,
}

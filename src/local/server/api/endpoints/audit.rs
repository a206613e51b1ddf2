//! The audit log.

use crate::local::server::api::call::{Call, HandlerResult, ok};
use crate::local::server::api::query::malformed;
use crate::local::server::state::{day, timestamp};
use crate::types::{AuditEventType, AuditLogResponse, Timestamp};

/// The events of a day of UTC, by default today, oldest first.
pub(super) fn audit(call: &Call<'_>) -> HandlerResult {
    let of = call.parameter("event_type")?.map_or(AuditEventType::All, |word| AuditEventType::from(word.as_str()));
    if matches!(of, AuditEventType::Other(_)) {
        let message = "Input should be 'all', 'checkpoints', 'projects', 'teams' or 'organizations'";
        return Err(malformed("event_type", message, "literal_error"));
    }
    let on = match call.parameter("day")? {
        None => day(&timestamp()),
        Some(text) => {
            let date = text.parse::<Timestamp>().ok().map(|time| day(&time)).filter(|date| *date == text);
            date.ok_or_else(|| malformed("day", "Input should be a valid date", "date_parsing"))?
        }
    };
    ok(&AuditLogResponse { entries: call.state.audit_log(&call.owner, &of, &on) })
}

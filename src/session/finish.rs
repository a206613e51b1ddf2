//! Tells the service that a session has ended, and why.

use std::thread;
use std::time::Instant;

use log::{debug, warn};

use crate::clock::{Clock, Deadline};
use crate::error::ErrorKind;
use crate::http::{Http, Limits, Purpose, Request, encode_segment, to_json};
use crate::types::FinishReason;
use crate::types::wire::FinishSessionRequest;

/// The part of the time for closing in which the service may respond; the rest is for the threads.
const SHARE: u32 = 2;

/// The reason if the last handle is dropped: a panic is an error of the program.
pub(super) fn reason_of_drop() -> FinishReason {
    if thread::panicking() { FinishReason::Errored } else { FinishReason::Success }
}

/// Sends one request, and waits for the response up to half of the time until the deadline, which is in real time. Without a
/// response the service notices by the missing heartbeats.
pub(super) fn finish(http: &Http, session_id: &str, reason: FinishReason, detail: Option<&str>, deadline: Instant) {
    let time = deadline.saturating_duration_since(Clock::system().now()) / SHARE;
    if time.is_zero() {
        return debug!("no time to tell the service that the session has ended");
    }
    let request = FinishSessionRequest { reason, detail: detail.map(Into::into) };
    let body = to_json("finish_session", &request).unwrap_or_default();
    let path = format!("sessions/{}/finish", encode_segment(session_id));
    let limits = http.limits("finish_session", Purpose::Session);
    let limits = Limits {
        idle: limits.idle.min(time),
        deadline: Deadline::of_operation(http.config().clock(), Some(time)),
        waits_for: None,
        ..limits
    };
    match http.send_once(&Request::post(path, &body), &limits) {
        // A service that does not know the request, or the session any more.
        Ok(response) if response.is_success() || matches!(response.status, 404 | 405 | 410) => {}
        Ok(response) => warn!("the service was not told that the session has ended: it returned {}", response.status),
        Err(error) if error.kind() == ErrorKind::Closed => {}
        Err(error) if matches!(error.kind(), ErrorKind::Timeout(_)) => {
            warn!("the service was not told that the session has ended: it did not respond within {time:?}");
        }
        Err(error) => warn!("the service was not told that the session has ended: {error}"),
    }
}

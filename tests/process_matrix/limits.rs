//! How long a call may take by the client's clock.

use std::time::Duration;

use crate::cell::{self, Times};
use crate::faults::Kind;
use crate::operations::Operation;

/// `timeout_operation`.
pub const OPERATION: Duration = Duration::from_secs(600);

/// `timeout_submit`.
pub const SUBMIT: Duration = Duration::from_secs(20);

/// `timeout_progress`.
pub const PROGRESS: Duration = Duration::from_secs(300);

/// The same where the service never responds: the clock goes on in small steps then.
pub const SILENCE: Duration = Duration::from_secs(65);

/// `timeout_billing`.
pub const BILLING: Duration = Duration::from_secs(20);

/// `max_retries`.
pub const RETRIES: u32 = 3;

const MINUTE: Duration = Duration::from_secs(60);

/// No wait before another attempt is longer, unless the service asks for it.
const WAIT: Duration = Duration::from_secs(10);

/// The waits before the retries of a request, longest first, where the service asks for none: 2 s, 1 s, 0.5 s.
const BACKOFF: Duration = Duration::from_millis(3500);

/// What the clock may go on while a poll is under way: the driver lets the client's longer waits beside it pass, too.
const BESIDE: Duration = cell::WAITS;

/// The longest time of a call that is struck so: its limit, and the wait before its last attempt.
pub fn longest(operation: &Operation, kind: &Kind, times: Times) -> Duration {
    let asked = asked(kind);
    let wait = WAIT.max(asked);
    match (times, operation.target) {
        // The driver lets as many of their intervals pass as there is time for.
        (_, "session_heartbeat" | "telemetry") => Duration::MAX,
        // A sampler rests as long as the service asks, and at most a minute. So does the wait for an archive.
        (Times::Once, "asample") if matches!(kind, Kind::Status(429, Some(_))) => MINUTE + WAIT,
        (Times::Once, "*/archive") if matches!(kind, Kind::Status(503, Some(_))) => MINUTE + WAIT,
        // The pass is sent in the other format, which the server may refuse as long as it is sent.
        (Times::Once, "forward" | "forward_backward") if matches!(kind.status(), Some(404 | 405 | 415)) => {
            SUBMIT + wait
        }
        (Times::Once, _) => wait,
        (Times::Ever, "retrieve_future" | "retrieve_futures") => match kind {
            Kind::Status(402, _) => BILLING + wait,
            // The service says that the result is not there yet.
            Kind::Status(408, _) | Kind::StatusAfter(408) | Kind::Page(408) => OPERATION + wait,
            _ if kind.is_silent() => SILENCE + wait + BESIDE,
            _ => PROGRESS + wait + BESIDE,
        },
        // An archive that is not there yet.
        (Times::Ever, "*/archive") if kind.status() == Some(503) => OPERATION + wait,
        (Times::Ever, _) if operation.is_submission() => SUBMIT + wait,
        (Times::Ever, _) => BACKOFF.max(RETRIES * asked),
    }
}

/// What the service asks to wait. Nothing that is longer than a minute is heeded.
fn asked(kind: &Kind) -> Duration {
    match kind {
        Kind::Status(_, Some(("retry-after", "2"))) => Duration::from_secs(2),
        Kind::Status(_, Some(("retry-after-ms", "1500"))) => Duration::from_millis(1500),
        _ => Duration::ZERO,
    }
}

//! Tells the service that the session is alive.
//!
//! When its silence is worth a warning, and when to stop, is decided in [`rules::heartbeat`](crate::rules::heartbeat).

use std::time::Duration;

use log::{debug, info, warn};

use crate::clock::Deadline;
use crate::error::{ErrorKind, Limit};
use crate::http::{Http, Limits, Purpose, Request, RetryMode};
use crate::rules::heartbeat::{Pulse, Sign, Verdict};
use crate::types::wire::HeartbeatRequest;

/// How long one heartbeat may take: the Python client's.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends heartbeats until the client is closed or the service says that the session has ended.
pub(super) fn run(http: &Http, session_id: &str) {
    let (clock, interval) = (http.config().clock(), http.config().heartbeat_interval());
    // A struct of one text always becomes JSON.
    let body = serde_json::to_vec(&HeartbeatRequest { session_id: session_id.into() }).unwrap_or_default();
    let began = clock.now();
    let mut pulse = Pulse::new(began);
    let mut next = began + interval;
    while http.pause_until(next).is_ok() {
        next = clock.now() + interval;
        let request = Request { retry: RetryMode::Never, ..Request::post("session_heartbeat", &body) };
        let limits = Limits {
            idle: TIMEOUT,
            deadline: Some(Deadline { at: clock.now() + TIMEOUT, limit: Limit::Operation }),
            ..http.limits("session_heartbeat", Purpose::Session)
        };
        let outcome = http.send(&request, &limits);
        let sign = match &outcome {
            Ok(_) => Sign::Acknowledged,
            Err(error) if error.status() == Some(410) => Sign::Gone,
            Err(error) if error.kind() == ErrorKind::Closed => return,
            Err(error) => {
                debug!("{error}");
                Sign::Missed
            }
        };
        match (pulse.after(sign, clock.now()), outcome) {
            (Verdict::Warn(silence), Err(error)) => warn!(
                "the service has acknowledged no heartbeat for {silence:?} and may end the session; is it reachable? {error}"
            ),
            (Verdict::Back, _) => info!("the service acknowledges heartbeats again"),
            (Verdict::Stop, Err(error)) => return warn!("{error}; no more heartbeats are sent"),
            _ => {}
        }
    }
}

//! Tells the service that the session is alive.

use std::time::Duration;

use log::{debug, warn};

use crate::error::Limit;
use crate::http::{Call, Deadline, Http, Purpose, Repeat};
use crate::types::HeartbeatRequest;

/// How long one heartbeat may take: the Python client's.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends heartbeats until the client is closed or the service says that the session has ended.
pub(super) fn run(http: &Http, session_id: &str) {
    let (clock, interval) = (http.config().clock(), http.config().heartbeat_interval());
    // A struct of one text always becomes JSON.
    let body = serde_json::to_vec(&HeartbeatRequest { session_id: session_id.into() }).unwrap_or_default();
    let mut next = clock.now() + interval;
    while http.pause_until(next).is_ok() {
        next = clock.now() + interval;
        let call = Call {
            repeat: Repeat::Never,
            deadline: Some(Deadline { at: clock.now() + TIMEOUT, limit: Limit::Operation }),
            ..Call::post("session_heartbeat", Purpose::Session, "session_heartbeat", TIMEOUT, &body)
        };
        match http.send(&call) {
            Err(error) if error.status() == Some(410) => {
                warn!("{error}; no more heartbeats are sent");
                return;
            }
            Err(error) => debug!("{error}"),
            Ok(_) => {}
        }
    }
}

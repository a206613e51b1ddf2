//! Sends the session's heartbeats. Between them it asks for the settings of the service that may change, renews the token, and closes
//! connections that are idle for long.
//!
//! [`rules::heartbeat`](crate::rules::heartbeat) decides when missing ones are worth a warning, and when to stop.

use std::time::{Duration, Instant};

use log::{debug, info, warn};

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind};
use crate::http::{Http, Limits, Purpose, Request, RetryMode, Tending};
use crate::rules::error_message::is_gateways_refusal;
use crate::rules::heartbeat::{Action, HeartbeatResult, Liveness};
use crate::rules::service_settings::refresh_after;
use crate::types::wire::HeartbeatRequest;

/// The time limit of one heartbeat, as in the Python client.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends heartbeats until the client is closed or the service says that the session has ended. `is_dynamic` says whether the
/// service has settings that may change.
pub(super) fn run(http: &Http, session_id: &str, is_dynamic: bool) {
    let (clock, interval) = (http.config().clock(), http.config().heartbeat_interval());
    // A struct of one string can always be written as JSON.
    let body = serde_json::to_vec(&HeartbeatRequest { session_id: session_id.into() }).unwrap_or_default();
    let began = clock.now();
    let mut liveness = Liveness::new(began);
    let mut next = began + interval;
    let next_refresh = |now: Instant| now + refresh_after(&http.dynamic_config());
    let mut refresh = is_dynamic.then(|| next_refresh(began));
    let tending = http.tend_connections(interval);
    let expiry = || tending.as_ref().and_then(Tending::due);
    while http
        .pause_until([refresh, http.renewal_at(), expiry()].into_iter().flatten().fold(next, Instant::min))
        .is_ok()
    {
        tending.iter().for_each(Tending::close_expired);
        if next <= clock.now() {
            next = clock.now() + interval;
            if !beat(http, &body, &mut liveness) {
                return;
            }
        }
        http.renew_credential();
        if refresh.is_some_and(|refresh| refresh <= clock.now()) {
            refresh = http.ask_dynamic_config(None).then(|| next_refresh(clock.now()));
        }
    }
}

/// Sends one heartbeat. Returns whether more follow.
fn beat(http: &Http, body: &[u8], liveness: &mut Liveness) -> bool {
    let clock = http.config().clock();
    let request = Request { retry: RetryMode::Never, ..Request::post("session_heartbeat", body) };
    let response = http.send(&request, &limits(http));
    let result = match &response {
        Ok(_) => HeartbeatResult::Acknowledged,
        Err(error) if has_ended(error) => HeartbeatResult::Gone,
        Err(error) if error.kind() == ErrorKind::Closed => return false,
        Err(error) => {
            debug!("{error}");
            HeartbeatResult::Missed
        }
    };
    match (liveness.after(result, clock.now()), response) {
        (Action::Warn(silence), Err(error)) => warn!(
            "the service has not acknowledged a heartbeat for {silence:?} and may end the session; check the connection: {error}"
        ),
        (Action::Recovered, _) => info!("the service acknowledges heartbeats again"),
        (Action::Stop, Err(error)) => {
            warn!("{error}; no more heartbeats are sent");
            return false;
        }
        _ => {}
    }
    true
}

/// Whether the service says that the session has ended. A gateway that is set up anew may say 410 of anything.
fn has_ended(error: &Error) -> bool {
    error.status() == Some(410) && !is_gateways_refusal(410, error.body().unwrap_or_default().as_bytes())
}

fn limits(http: &Http) -> Limits {
    Limits {
        idle: TIMEOUT,
        deadline: Deadline::of_operation(http.config().clock(), Some(TIMEOUT)),
        // Silence of the service has a warning of its own.
        waits_for: None,
        ..http.limits("session_heartbeat", Purpose::Session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::config::Config;

    #[test]
    fn a_heartbeat_has_ten_seconds_in_all() {
        let clock = ManualClock::new().clock();
        let config = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1").clock(clock.clone());
        let limits = limits(&Http::new(&config.build_with(|_| None).unwrap()).unwrap());
        let ten = Duration::from_secs(10);
        assert_eq!((limits.idle, limits.deadline.unwrap().at - clock.now()), (ten, ten));
    }
}

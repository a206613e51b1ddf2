//! When a paused queue is logged, and what the line says.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::error_message::one_line;
use super::poll_queue::ClientId;
use crate::types::{QueueState, RequestKind};

/// The minimum time between two lines about one client (Python client: `_last_queue_state_logged`, 60 s).
const INTERVAL: Duration = Duration::from_secs(60);

/// When the paused queue of each client was last logged.
#[derive(Debug, Default)]
pub(crate) struct QueueLog {
    logged: HashMap<ClientId, Instant>,
}

impl QueueLog {
    /// The line to log now, if any.
    pub(crate) fn line(
        &mut self,
        client: ClientId,
        kind: RequestKind,
        queue_state: &QueueState,
        reason: Option<&str>,
        now: Instant,
    ) -> Option<String> {
        let line = paused(kind, queue_state, reason)?;
        let is_recent = |at: &Instant| now.saturating_duration_since(*at) < INTERVAL;
        if self.logged.get(&client).is_some_and(is_recent) {
            return None;
        }
        // Also forgets the clients that no longer exist.
        self.logged.retain(|_, at| is_recent(at));
        self.logged.insert(client, now);
        Some(line)
    }
}

/// What is paused, and why. `None` for a queue that is not paused.
pub(crate) fn paused(kind: RequestKind, queue_state: &QueueState, reason: Option<&str>) -> Option<String> {
    let what = if kind == RequestKind::Sample { "sampling" } else { "training" };
    let reason = one_line(&why(kind, queue_state, reason)?)?;
    Some(format!("{what} is paused: {reason}"))
}

/// Why a queue is paused: the server's reason, or the Python client's text for the state. `None` for a queue that is not
/// paused.
fn why<'a>(kind: RequestKind, queue_state: &'a QueueState, reason: Option<&'a str>) -> Option<Cow<'a, str>> {
    let usual = match queue_state {
        QueueState::PausedRateLimit if kind == RequestKind::Sample => "concurrent LoRA rate limit hit",
        QueueState::PausedRateLimit => "concurrent models rate limit hit",
        QueueState::PausedCapacity => "out of capacity",
        // A reason is only given for a pause.
        QueueState::Other(word) if queue_state.is_paused() || reason.is_some() => word,
        QueueState::Active | QueueState::Other(_) => return None,
    };
    Some(reason.filter(|reason| !reason.trim().is_empty()).unwrap_or(usual).into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::start;
    use super::*;

    const CLIENT: ClientId = ClientId(1);

    fn line(kind: RequestKind, state: &str, reason: Option<&str>) -> Option<String> {
        QueueLog::default().line(CLIENT, kind, &state.into(), reason, start())
    }

    #[test]
    fn the_line_prefers_the_servers_reason() {
        for (kind, state, reason, expected) in [
            (
                RequestKind::Sample,
                "paused_rate_limit",
                None,
                Some("sampling is paused: concurrent LoRA rate limit hit"),
            ),
            (RequestKind::Sample, "paused_capacity", None, Some("sampling is paused: out of capacity")),
            (
                RequestKind::OptimStep,
                "paused_rate_limit",
                None,
                Some("training is paused: concurrent models rate limit hit"),
            ),
            (RequestKind::CreateModel, "paused_capacity", Some(" "), Some("training is paused: out of capacity")),
            (RequestKind::Forward, "paused_capacity", Some("out of quota"), Some("training is paused: out of quota")),
            (RequestKind::Sample, "paused_for_lunch", None, Some("sampling is paused: paused_for_lunch")),
            (RequestKind::Sample, "active", Some("busy"), None),
            (RequestKind::Sample, "resting", None, None),
            (RequestKind::Sample, "unknown", Some("full"), Some("sampling is paused: full")),
        ] {
            assert_eq!(line(kind, state, reason).as_deref(), expected, "{kind:?} {state} {reason:?}");
        }
    }

    #[test]
    fn one_line_a_minute_per_client() {
        let (mut log, t0) = (QueueLog::default(), start());
        let mut lines = |client, state: &str, seconds| {
            let now = t0 + Duration::from_secs(seconds);
            log.line(ClientId(client), RequestKind::Sample, &state.into(), None, now).is_some()
        };
        assert!(!lines(1, "active", 0));
        assert!(lines(1, "paused_capacity", 1));
        assert!(!lines(1, "paused_rate_limit", 60));
        assert!(lines(2, "paused_capacity", 60), "each client has its own limit");
        assert!(lines(1, "paused_capacity", 61));
        assert!(!lines(2, "paused_capacity", 119));
        for client in 0..1000 {
            lines(client, "paused_capacity", 300 + 60 * client);
        }
        assert_eq!(log.logged.len(), 1, "old clients are forgotten");
    }
}

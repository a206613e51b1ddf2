//! When missing heartbeats are worth a warning, and when heartbeats end.

use std::time::{Duration, Instant};

/// The time without an acknowledged heartbeat that is worth a warning (Python client: 120 s).
const SILENCE: Duration = Duration::from_secs(120);

/// The result of one heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeartbeatResult {
    /// The service acknowledged it.
    Acknowledged,
    /// The service did not acknowledge it.
    Missed,
    /// The service says that the session has ended (410).
    Gone,
}

/// What to do after a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing.
    Continue,
    /// Warn that none was acknowledged for this long.
    Warn(Duration),
    /// Report that heartbeats are acknowledged again, after a warning.
    Recovered,
    /// Send no more heartbeats.
    Stop,
}

/// The heartbeats of one session so far.
#[derive(Clone, Debug)]
pub(crate) struct Liveness {
    /// When the last heartbeat was acknowledged; at first the start of the session.
    last_acknowledged: Instant,
    warned: bool,
}

impl Liveness {
    pub(crate) fn new(now: Instant) -> Self {
        Liveness { last_acknowledged: now, warned: false }
    }

    /// Decides what follows a heartbeat. Warns once per outage, however long it lasts.
    pub(crate) fn after(&mut self, result: HeartbeatResult, now: Instant) -> Action {
        match result {
            HeartbeatResult::Gone => Action::Stop,
            HeartbeatResult::Acknowledged => {
                self.last_acknowledged = now;
                if std::mem::take(&mut self.warned) { Action::Recovered } else { Action::Continue }
            }
            HeartbeatResult::Missed => {
                let silence = now.saturating_duration_since(self.last_acknowledged);
                if self.warned || silence < SILENCE {
                    return Action::Continue;
                }
                self.warned = true;
                Action::Warn(silence)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::start;
    use super::*;
    use HeartbeatResult::{Acknowledged, Gone, Missed};

    fn warn(seconds: u64) -> Action {
        Action::Warn(Duration::from_secs(seconds))
    }

    #[test]
    fn each_outage_of_two_minutes_warns_once() {
        let t0 = start();
        let mut liveness = Liveness::new(t0);
        for (seconds, result, expected) in [
            (10, Acknowledged, Action::Continue),
            (20, Missed, Action::Continue),
            (129, Missed, Action::Continue),
            (130, Missed, warn(120)),
            (140, Missed, Action::Continue),
            (900, Missed, Action::Continue),
            (910, Acknowledged, Action::Recovered),
            (920, Acknowledged, Action::Continue),
            (930, Missed, Action::Continue),
            (940, Acknowledged, Action::Continue),
            (1059, Missed, Action::Continue),
            (1065, Missed, warn(125)),
            (1070, Missed, Action::Continue),
            (1080, Gone, Action::Stop),
        ] {
            assert_eq!(liveness.after(result, t0 + Duration::from_secs(seconds)), expected, "at {seconds} s");
        }
        assert_eq!(
            Liveness::new(t0).after(Missed, t0 + Duration::from_secs(120)),
            warn(120),
            "the start of the session counts"
        );
    }
}

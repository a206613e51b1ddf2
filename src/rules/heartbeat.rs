//! What the answer to a heartbeat means for the session, and when its silence is worth a warning.

use std::time::{Duration, Instant};

/// How long no heartbeat may be acknowledged before that is worth a warning (Python client: 120 s).
const SILENCE: Duration = Duration::from_secs(120);

/// What came of one heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The service acknowledged it.
    Acknowledged,
    /// It did not.
    Missed,
    /// It said that the session has ended (410).
    Gone,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    GoOn,
    /// A warning: none has been acknowledged for so long.
    Warn(Duration),
    /// A note that the silence which was warned of is over.
    Back,
    /// No more heartbeats.
    Stop,
}

/// How the heartbeats of one session have gone so far.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    /// The last sign of life: a heartbeat that was acknowledged, at first the beginning of the session.
    alive: Instant,
    warned: bool,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        Pulse { alive: now, warned: false }
    }

    /// One warning for each outage, however long it lasts.
    pub(crate) fn after(&mut self, sign: Sign, now: Instant) -> Verdict {
        match sign {
            Sign::Gone => Verdict::Stop,
            Sign::Acknowledged => {
                self.alive = now;
                if std::mem::take(&mut self.warned) { Verdict::Back } else { Verdict::GoOn }
            }
            Sign::Missed => {
                let silence = now.saturating_duration_since(self.alive);
                if self.warned || silence < SILENCE {
                    return Verdict::GoOn;
                }
                self.warned = true;
                Verdict::Warn(silence)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::start;
    use super::*;
    use Sign::{Acknowledged, Gone, Missed};

    fn warn(seconds: u64) -> Verdict {
        Verdict::Warn(Duration::from_secs(seconds))
    }

    #[test]
    fn each_outage_of_two_minutes_is_warned_of_once_and_410_is_the_end() {
        let t0 = start();
        let mut pulse = Pulse::new(t0);
        for (seconds, sign, expected) in [
            (10, Acknowledged, Verdict::GoOn),
            (20, Missed, Verdict::GoOn),
            (129, Missed, Verdict::GoOn),
            (130, Missed, warn(120)),
            (140, Missed, Verdict::GoOn),
            (900, Missed, Verdict::GoOn),
            (910, Acknowledged, Verdict::Back),
            (920, Acknowledged, Verdict::GoOn),
            (930, Missed, Verdict::GoOn),
            (940, Acknowledged, Verdict::GoOn),
            (1059, Missed, Verdict::GoOn),
            (1065, Missed, warn(125)),
            (1070, Missed, Verdict::GoOn),
            (1080, Gone, Verdict::Stop),
        ] {
            assert_eq!(pulse.after(sign, t0 + Duration::from_secs(seconds)), expected, "at {seconds} s");
        }
        assert_eq!(Pulse::new(t0).after(Missed, t0 + Duration::from_secs(120)), warn(120), "from the very beginning");
    }
}

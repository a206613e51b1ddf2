//! Detects that the service is back after an outage.
//!
//! Polls that fail are repeated after growing waits. Once the service succeeds with anything, there is no reason left to wait. Only
//! the end of an outage counts: while polls of some promises fail and other requests succeed, the failing ones keep their waits, or
//! they would be polled in a tight loop.

use std::time::{Duration, Instant};

use super::poll_response::{NotReady, PollOutcome};

/// The shortest outage that counts. A shorter one leaves only short waits behind.
const OUTAGE: Duration = Duration::from_secs(2);

/// How the polls and the other requests of a service went.
#[derive(Debug)]
pub(crate) struct RecoveryDetector {
    /// Since when polls have failed without any success in between.
    outage_since: Option<Instant>,
    /// Since when polls have failed without a poll that succeeded.
    polls_fail_since: Option<Instant>,
    /// How long an outage must last for the success of another request to end it. It doubles each time: a service whose polls alone
    /// fail is not hurried again and again.
    least: Duration,
}

impl Default for RecoveryDetector {
    fn default() -> Self {
        RecoveryDetector { outage_since: None, polls_fail_since: None, least: OUTAGE }
    }
}

impl RecoveryDetector {
    /// Whether polls fail, so that a success may end an outage.
    pub(crate) fn is_failing(&self) -> bool {
        self.outage_since.is_some()
    }

    /// Records the outcome of a poll. Returns whether it ended an outage.
    pub(crate) fn record<T, E>(&mut self, outcome: &PollOutcome<T, E>, now: Instant) -> bool {
        match outcome {
            PollOutcome::NotReady(
                NotReady::Unreachable | NotReady::Shortage | NotReady::Failing { .. } | NotReady::Damaged,
            ) => {
                self.outage_since.get_or_insert(now);
                self.polls_fail_since.get_or_insert(now);
                false
            }
            PollOutcome::Ready(_)
            | PollOutcome::Gone { .. }
            | PollOutcome::NotReady(NotReady::Pending { .. } | NotReady::Measured { .. }) => {
                (self.outage_since, self.least) = (None, OUTAGE);
                has_lasted(self.polls_fail_since.take(), OUTAGE, now)
            }
            // The service does not say that it works, nor that it fails.
            PollOutcome::Failed(_) | PollOutcome::NotReady(_) => false,
        }
    }

    /// Records the success of another request than a poll. Returns whether it ended an outage.
    pub(crate) fn record_success(&mut self, now: Instant) -> bool {
        let ended = has_lasted(self.outage_since.take(), self.least, now);
        if ended {
            self.least = self.least.saturating_mul(2);
        }
        ended
    }
}

fn has_lasted(since: Option<Instant>, least: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.saturating_duration_since(since) >= least)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::start;
    use super::*;

    #[derive(Clone, Copy)]
    enum Step {
        /// A poll with this outcome, without and with an end of an outage.
        Poll(fn() -> NotReady, bool),
        /// Another request succeeded.
        Other(bool),
    }
    use Step::{Other, Poll};

    fn run(steps: &[(u64, Step)]) {
        let (mut detector, began) = (RecoveryDetector::default(), start());
        for (seconds, step) in steps {
            let now = began + Duration::from_secs(*seconds);
            let (ended, expected) = match step {
                Poll(outcome, expected) => {
                    (detector.record(&PollOutcome::<(), ()>::NotReady(outcome()), now), *expected)
                }
                Other(expected) => (detector.record_success(now), *expected),
            };
            assert_eq!(ended, expected, "after {seconds} s");
        }
    }

    fn down() -> NotReady {
        NotReady::Failing { status: 503 }
    }

    fn lost() -> NotReady {
        NotReady::Unreachable
    }

    fn pending() -> NotReady {
        NotReady::Pending { queue_state: None, reason: None }
    }

    #[test]
    fn any_success_ends_an_outage() {
        for failing in [down, lost, || NotReady::Damaged] {
            run(&[(0, Poll(failing, false)), (65, Other(true)), (65, Other(false))]);
            run(&[(0, Poll(failing, false)), (30, Poll(failing, false)), (65, Poll(pending, true))]);
            run(&[(0, Poll(failing, false)), (1, Poll(pending, false)), (9, Other(false))]);
            run(&[(0, Poll(failing, false)), (1, Other(false)), (2, Poll(pending, true))]);
        }
        run(&[(0, Other(false)), (100, Poll(pending, false))]);
    }

    #[test]
    fn a_refusal_is_no_outage() {
        let refusals: [fn() -> NotReady; 5] = [
            || NotReady::RateLimited { retry_after: None },
            || NotReady::Unpaid { wait: Duration::from_secs(5) },
            || NotReady::Silent,
            || NotReady::BadRequest,
            || NotReady::TimedOut,
        ];
        for refused in refusals {
            run(&[(0, Poll(refused, false)), (65, Other(false)), (66, Poll(pending, false))]);
        }
    }

    #[test]
    fn polls_that_alone_fail_are_hurried_seldom() {
        let (mut detector, began) = (RecoveryDetector::default(), start());
        let mut ends = Vec::new();
        // Polls fail all the time, and a heartbeat succeeds every 10 s.
        for second in 0..600 {
            let now = began + Duration::from_secs(second);
            detector.record(&PollOutcome::<(), ()>::NotReady(down()), now);
            if second % 10 == 9 && detector.record_success(now) {
                ends.push(second);
            }
        }
        assert_eq!(ends, [9, 19, 29], "an outage of 9 s is too short after three ends in vain");
        assert!(detector.record(&PollOutcome::<(), ()>::NotReady(pending()), began + Duration::from_secs(600)));
    }

    quickcheck! {
        fn frequent_successes_end_no_outage(polls: Vec<bool>) -> bool {
            let (mut detector, began) = (RecoveryDetector::default(), start());
            polls.into_iter().zip(1_u32..).all(|(fails, second)| {
                let now = began + Duration::from_secs(1) * second;
                let outcome = if fails { down() } else { pending() };
                let ended = !fails && detector.polls_fail_since.is_some_and(|since| now - since >= OUTAGE);
                detector.record(&PollOutcome::<(), ()>::NotReady(outcome), now) == ended
                    && !detector.record_success(now)
            })
        }
    }
}

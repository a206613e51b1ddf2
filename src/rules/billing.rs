//! How long requests pause while the service refuses them because of the account's billing (402).
//!
//! A refusal is no failure: whoever pays the bill may be about to do so, and a run of days must not end meanwhile. So the same
//! request is sent again after a pause, until the refusals have lasted too long. They are counted for the account as a whole,
//! not for each request, and a success of the same kind in between ends the incident. Samples, other submissions and polls are
//! counted apart: a service may refuse new work while it still reports on the old, or one kind of work. It may also refuse some
//! requests of a kind and accept others; so a request that is refused each time gives up on its own count.

use std::time::{Duration, Instant};

/// The wait before a refused request is sent again (Python client: 5 s).
pub(crate) const BILLING_WAIT: Duration = Duration::from_secs(5);

/// Refusals of the same kind that are further apart than this are two incidents.
const MAX_GAP: Duration = Duration::from_secs(300);

/// What the service refuses or accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Billed {
    Sample,
    /// Any other request for work.
    Submission,
    Poll,
}

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Send the request again after this wait.
    Pause {
        wait: Duration,
        /// Whether nothing was refused before: the user has to be told.
        begins: bool,
    },
    /// The refusals have lasted too long.
    GiveUp,
}

/// The refusals of one account so far.
#[derive(Debug, Default)]
pub(crate) struct BillingPause {
    /// By kind.
    incidents: [Option<Incident>; 3],
}

#[derive(Clone, Copy, Debug)]
struct Incident {
    first: Instant,
    last: Instant,
}

impl Incident {
    /// Whether a refusal now would be part of it.
    fn lasts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) <= MAX_GAP
    }
}

impl BillingPause {
    /// Records a refusal. `wait` is the wait before the request is sent again; the incident lasts up to `limit`, and so do the
    /// refusals of this request, which began at `since`.
    pub(crate) fn refused(
        &mut self,
        what: Billed,
        wait: Duration,
        limit: Duration,
        since: Instant,
        now: Instant,
    ) -> Refusal {
        let begins = self.is_over(now);
        let incident = &mut self.incidents[what as usize];
        let continued = incident.filter(|known| known.lasts(now));
        let first = continued.map_or(now, |known| known.first);
        *incident = Some(Incident { first, last: now });
        match limit.saturating_sub(now.saturating_duration_since(first.min(since))) {
            Duration::ZERO => Refusal::GiveUp,
            left => Refusal::Pause { wait: wait.min(left), begins: begins || continued.is_none() },
        }
    }

    /// Records that the service did not refuse. Returns how long everything was paused, if that is over now.
    pub(crate) fn accepted(&mut self, what: Billed, now: Instant) -> Option<Duration> {
        let incident = self.incidents[what as usize].take().filter(|incident| incident.lasts(now))?;
        self.is_over(now).then(|| now.saturating_duration_since(incident.first))
    }

    fn is_over(&self, now: Instant) -> bool {
        !self.incidents.iter().flatten().any(|incident| incident.lasts(now))
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::start;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn pause(seconds: u64, begins: bool) -> Refusal {
        Refusal::Pause { wait: Duration::from_secs(seconds), begins }
    }

    #[test]
    fn an_incident_ends_at_its_limit() {
        let (mut billing, t0) = (BillingPause::default(), start());
        let mut refused = |seconds| {
            let now = t0 + Duration::from_secs(seconds);
            billing.refused(Billed::Submission, BILLING_WAIT, Duration::from_secs(12), now, now)
        };
        assert_eq!([refused(0), refused(5), refused(10)], [pause(5, true), pause(5, false), pause(2, false)]);
        assert_eq!([refused(12), refused(13)], [Refusal::GiveUp, Refusal::GiveUp]);
        assert_eq!(refused(13 + 301), pause(5, true), "nobody was refused for five minutes");
    }

    #[test]
    fn a_success_starts_the_count_again() {
        let (mut billing, t0) = (BillingPause::default(), start());
        let at = |seconds| t0 + Duration::from_secs(seconds);
        let limit = Duration::from_secs(8);
        assert_eq!(billing.accepted(Billed::Submission, t0), None);
        assert_eq!(billing.refused(Billed::Submission, BILLING_WAIT, limit, t0, t0), pause(5, true));
        assert_eq!(billing.accepted(Billed::Submission, at(5)), Some(Duration::from_secs(5)));
        assert_eq!(billing.refused(Billed::Submission, BILLING_WAIT, limit, at(9), at(9)), pause(5, true));
    }

    #[test]
    fn an_accepted_poll_excuses_no_submission() {
        let (mut billing, t0) = (BillingPause::default(), start());
        let at = |seconds| t0 + Duration::from_secs(seconds);
        let submit =
            |billing: &mut BillingPause, now| billing.refused(Billed::Submission, BILLING_WAIT, BILLING_WAIT, now, now);
        assert_eq!(submit(&mut billing, t0), pause(5, true));
        let polled = billing.refused(Billed::Poll, BILLING_WAIT, HOUR, at(1), at(1));
        assert_eq!(polled, pause(5, true), "it is polls' first");
        assert_eq!(billing.accepted(Billed::Poll, at(2)), None, "submissions are still refused");
        assert_eq!(submit(&mut billing, at(5)), Refusal::GiveUp);
    }

    #[test]
    fn what_was_given_up_long_ago_is_over() {
        let (mut billing, t0) = (BillingPause::default(), start());
        let at = |seconds| t0 + Duration::from_secs(seconds);
        let given_up = billing.refused(Billed::Sample, BILLING_WAIT, Duration::ZERO, t0, t0);
        assert_eq!(given_up, Refusal::GiveUp);
        let submit =
            |billing: &mut BillingPause, now| billing.refused(Billed::Submission, BILLING_WAIT, HOUR, now, now);
        assert_eq!(submit(&mut billing, at(296)), pause(5, true));
        assert_eq!(billing.accepted(Billed::Submission, at(299)), None, "samples may still be refused");
        assert_eq!(submit(&mut billing, at(299)), pause(5, true));
        assert_eq!(billing.accepted(Billed::Submission, at(301)), Some(Duration::from_secs(2)));
        assert_eq!(billing.accepted(Billed::Sample, at(301)), None, "nobody waits for them");
    }

    #[test]
    fn each_kind_ends_its_own_pause() {
        let (kinds, t0) = ([Billed::Sample, Billed::Submission, Billed::Poll], start());
        for refused in kinds {
            for accepted in kinds {
                let mut billing = BillingPause::default();
                billing.refused(refused, BILLING_WAIT, HOUR, t0, t0);
                let ended = billing.accepted(accepted, t0 + BILLING_WAIT);
                assert_eq!(ended, (refused == accepted).then_some(BILLING_WAIT), "{refused:?} {accepted:?}");
            }
        }
    }

    #[test]
    fn a_limit_of_zero_allows_no_pause() {
        let refused = BillingPause::default().refused(Billed::Poll, BILLING_WAIT, Duration::ZERO, start(), start());
        assert_eq!(refused, Refusal::GiveUp);
    }

    #[test]
    fn a_request_pauses_no_longer_than_the_limit() {
        let (mut billing, t0) = (BillingPause::default(), start());
        let at = |seconds| t0 + Duration::from_secs(seconds);
        let limit = Duration::from_secs(12);
        let mut refused = |now| {
            let refusal = billing.refused(Billed::Submission, BILLING_WAIT, limit, t0, now);
            // Meanwhile the service accepts other requests.
            billing.accepted(Billed::Submission, now);
            refusal
        };
        assert_eq!([0, 5, 10].map(|seconds| refused(at(seconds))), [pause(5, true), pause(5, true), pause(2, true)]);
        assert_eq!(refused(at(12)), Refusal::GiveUp);
    }

    quickcheck! {
        fn pauses_add_up_to_the_limit(limit: u16) -> bool {
            let (mut billing, t0) = (BillingPause::default(), start());
            let limit = Duration::from_secs(limit.into());
            let mut now = t0;
            while let Refusal::Pause { wait, .. } = billing.refused(Billed::Poll, BILLING_WAIT, limit, now, now) {
                now += wait;
            }
            now - t0 == limit
        }
    }
}

//! Detects that the service cannot be reached at all.
//!
//! During an outage polls start one after another, with growing waits after each failure, and all other promises stay where
//! they are. Otherwise each of thousands of promises would try to connect on its own. A single lost connection is not yet an outage.
//! The same holds while the service refuses polls because of the account's billing: until it takes one.

use std::time::{Duration, Instant};

use super::poll_response::{NotReady, PollOutcome};
use super::poll_schedule::unreachable_wait;
use crate::error::ErrorKind;

/// This many polls in a row that do not reach the service are an outage.
const THRESHOLD: u32 = 3;

/// During an outage, the minimum time between the starts of two polls.
const PACE: Duration = Duration::from_secs(1);

/// The reachability of the service, as the polls of all promises show it.
#[derive(Debug, Default)]
pub(crate) struct OutageDetector {
    /// Polls in a row that did not reach the service.
    unreachable: u32,
    /// During an outage, when the next poll may start.
    next: Option<Instant>,
    /// The same while polls are refused because of the account's billing. Only a poll that is taken says that the bill is paid.
    unpaid: Option<Instant>,
    /// Since when no poll at all got a response.
    silent_since: Option<Instant>,
}

/// A change of the reachability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutageChange {
    Began,
    Ended,
}

impl OutageDetector {
    /// During an outage or a billing pause, when the next poll may start.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next.max(self.unpaid)
    }

    /// Whether a poll may start now.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        self.next().is_none_or(|at| at <= now)
    }

    /// Whether the last poll that ended got no response.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent_since.is_some()
    }

    /// How much of the time between the two instants no poll got a response.
    pub(crate) fn silence(&self, from: Instant, to: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| to.saturating_duration_since(from.max(since)))
    }

    /// The service is back: the next poll may start now, and the others with it, unless the bill is unpaid.
    pub(crate) fn end(&mut self) {
        (self.unreachable, self.next) = (0, None);
    }

    /// A poll starts.
    pub(crate) fn begin(&mut self, now: Instant) {
        for next in [&mut self.next, &mut self.unpaid] {
            *next = next.map(|_| now + PACE);
        }
    }

    /// Records the outcome of a poll. Returns whether an outage began or ended with it.
    pub(crate) fn record<T>(&mut self, outcome: &PollOutcome<T>, now: Instant) -> Option<OutageChange> {
        match outcome {
            PollOutcome::NotReady(NotReady::Unpaid { wait }) => self.unpaid = Some(now + *wait),
            // The others have waited for as long: they end with their next poll, too.
            PollOutcome::Failed(error) if error.kind() == ErrorKind::Billing => self.unpaid = None,
            outcome if outcome.is_taken() => self.unpaid = None,
            _ => {}
        }
        let is_unreachable = matches!(outcome, PollOutcome::NotReady(NotReady::Unreachable | NotReady::Shortage));
        if is_unreachable || matches!(outcome, PollOutcome::NotReady(NotReady::Silent)) {
            self.silent_since.get_or_insert(now);
        } else {
            self.silent_since = None;
        }
        if is_unreachable {
            self.unreachable = self.unreachable.saturating_add(1);
            self.next = self.unreachable.checked_sub(THRESHOLD).map(|n| now + unreachable_wait(n));
            (self.unreachable == THRESHOLD).then_some(OutageChange::Began)
        } else {
            self.next = None;
            (std::mem::take(&mut self.unreachable) >= THRESHOLD).then_some(OutageChange::Ended)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::rules::testing::start;

    fn record(outage: &mut OutageDetector, outcome: NotReady, now: Instant) -> Option<OutageChange> {
        outage.record(&PollOutcome::<()>::NotReady(outcome), now)
    }

    #[test]
    fn polls_start_one_after_another_during_outages() {
        let (mut outage, now) = (OutageDetector::default(), start());
        for _ in 0..2 {
            assert_eq!(record(&mut outage, NotReady::Unreachable, now), None);
            assert!(outage.allows(now), "one lost connection is no outage");
        }
        for (seconds, change) in
            [(1, Some(OutageChange::Began)), (2, None), (4, None), (8, None), (16, None), (30, None), (30, None)]
        {
            assert_eq!(record(&mut outage, NotReady::Unreachable, now), change);
            assert_eq!(outage.next(), Some(now + Duration::from_secs(seconds)));
            assert!(!outage.allows(now));
        }
        let now = now + Duration::from_secs(30);
        assert!(outage.allows(now));
        outage.begin(now);
        assert!(!outage.allows(now));
        assert!(outage.allows(now + PACE));
        assert_eq!(record(&mut outage, NotReady::Failing { status: 503 }, now), Some(OutageChange::Ended));
        assert!(outage.allows(now), "any response ends the outage");
        assert_eq!(record(&mut outage, NotReady::Unreachable, now), None);
        assert!(outage.allows(now));
    }

    #[test]
    fn an_outage_may_end_without_a_poll() {
        let (mut outage, now) = (OutageDetector::default(), start());
        for _ in 0..9 {
            record(&mut outage, NotReady::Unreachable, now);
        }
        outage.end();
        assert!(outage.allows(now) && outage.is_silent(), "no poll has had a response yet");
        assert_eq!(record(&mut outage, NotReady::Unreachable, now), None, "it counts from the start");
        assert!(outage.allows(now));
    }

    #[test]
    fn polls_start_one_after_another_while_unpaid() {
        let (mut outage, now) = (OutageDetector::default(), start());
        let wait = Duration::from_secs(5);
        assert_eq!(record(&mut outage, NotReady::Unpaid { wait }, now), None, "the service can be reached");
        assert_eq!(outage.next(), Some(now + wait));
        let now = now + wait;
        outage.begin(now);
        assert!(!outage.allows(now) && outage.allows(now + PACE));
        let now = now + PACE;
        for other in
            [NotReady::Failing { status: 503 }, NotReady::Unreachable, NotReady::RateLimited { retry_after: None }]
        {
            record(&mut outage, NotReady::Unpaid { wait }, now);
            record(&mut outage, other, now);
            outage.end();
            assert_eq!(outage.next(), Some(now + wait), "it does not say that the bill is paid");
        }
        let failed = |kind| PollOutcome::<()>::Failed(Error::new(kind, "refused"));
        for (outcome, ends) in [
            (failed(ErrorKind::Status), false),
            (failed(ErrorKind::Billing), true),
            (failed(ErrorKind::RequestFailed), true),
            (PollOutcome::Ready(()), true),
            (PollOutcome::NotReady(NotReady::Pending { queue_state: None, reason: None }), true),
        ] {
            record(&mut outage, NotReady::Unpaid { wait }, now);
            outage.record(&outcome, now);
            assert_eq!(outage.allows(now), ends, "{outcome:?}");
        }
    }

    #[test]
    fn silence_lasts_until_the_next_response() {
        let (mut outage, began) = (OutageDetector::default(), start());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(outage.silence(began, after(9)), Duration::ZERO);
        record(&mut outage, NotReady::Silent, after(2));
        record(&mut outage, NotReady::Unreachable, after(5));
        assert_eq!(outage.silence(began, after(9)), Duration::from_secs(7));
        assert_eq!(outage.silence(after(6), after(9)), Duration::from_secs(3));
        assert_eq!(outage.silence(after(9), after(6)), Duration::ZERO);
        record(&mut outage, NotReady::Failing { status: 503 }, after(10));
        assert_eq!((outage.silence(began, after(12)), outage.is_silent()), (Duration::ZERO, false));
    }
}

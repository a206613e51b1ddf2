//! Whether the service can be reached at all.
//!
//! When it cannot, polls begin one after the other, with growing waits after each that is lost; all others stay where they
//! are. Without this, each of thousands of promises would knock by itself. A single lost connection says nothing yet.

use std::time::{Duration, Instant};

use log::{info, warn};

use crate::rules::answer::Meaning;
use crate::rules::poll::lost_wait;

/// So many polls in a row that find no service mean that it is out of reach.
const LOST: u32 = 3;

/// The least time between the beginnings of two polls until an answer is heard again.
const PACE: Duration = Duration::from_secs(1);

/// What the polls have shown of the service.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Polls in a row that found no service.
    lost: u32,
    /// While it is out of reach, when the next poll may begin.
    next: Option<Instant>,
    /// Since when no poll at all was answered.
    silent_since: Option<Instant>,
}

impl Reach {
    /// When the next poll may begin, if not at once.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether a poll may begin now.
    pub(super) fn allows(&self, now: Instant) -> bool {
        self.next.is_none_or(|at| at <= now)
    }

    /// Whether the last poll that ended brought no answer.
    pub(super) fn is_silent(&self) -> bool {
        self.silent_since.is_some()
    }

    /// For how long the service has answered nobody, of the time from one instant to the other.
    pub(super) fn silence(&self, from: Instant, to: Instant) -> Duration {
        self.silent_since.map_or(Duration::ZERO, |since| to.saturating_duration_since(from.max(since)))
    }

    /// A poll begins.
    pub(super) fn begin(&mut self, now: Instant) {
        self.next = self.next.map(|_| now + PACE);
    }

    /// Takes up what a poll has shown. Says once when the service goes out of reach, and when it is back.
    pub(super) fn note<T>(&mut self, meaning: &Meaning<T>, now: Instant) {
        if matches!(meaning, Meaning::Disconnected | Meaning::Silent) {
            self.silent_since.get_or_insert(now);
        } else {
            self.silent_since = None;
        }
        if matches!(meaning, Meaning::Disconnected) {
            self.lost = self.lost.saturating_add(1);
            if self.lost == LOST {
                warn!("the service is out of reach; results are asked for until it is back");
            }
            self.next = self.lost.checked_sub(LOST).map(|n| now + lost_wait(n));
        } else {
            self.lost = 0;
            if self.next.take().is_some() {
                info!("the service is back");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testing::start;

    fn lose(reach: &mut Reach, now: Instant) {
        reach.note(&Meaning::<()>::Disconnected, now);
    }

    #[test]
    fn polls_begin_one_after_the_other_while_the_service_is_out_of_reach() {
        let (mut reach, now) = (Reach::default(), start());
        for _ in 0..2 {
            lose(&mut reach, now);
            assert!(reach.allows(now), "one lost connection is no outage");
        }
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            lose(&mut reach, now);
            assert_eq!(reach.next(), Some(now + Duration::from_secs(seconds)));
            assert!(!reach.allows(now));
        }
        let now = now + Duration::from_secs(30);
        assert!(reach.allows(now));
        reach.begin(now);
        assert!(!reach.allows(now));
        assert!(reach.allows(now + PACE));
        reach.note(&Meaning::<()>::Transient { status: 503 }, now);
        assert!(reach.allows(now), "an answer is an answer");
        lose(&mut reach, now);
        assert!(reach.allows(now));
    }

    #[test]
    fn silence_lasts_from_the_first_poll_without_an_answer_to_the_next_answer() {
        let (mut reach, began) = (Reach::default(), start());
        let after = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(reach.silence(began, after(9)), Duration::ZERO);
        reach.note(&Meaning::<()>::Silent, after(2));
        lose(&mut reach, after(5));
        assert_eq!(reach.silence(began, after(9)), Duration::from_secs(7));
        assert_eq!(reach.silence(after(6), after(9)), Duration::from_secs(3));
        assert_eq!(reach.silence(after(9), after(6)), Duration::ZERO);
        reach.note(&Meaning::<()>::Transient { status: 503 }, after(10));
        assert_eq!((reach.silence(began, after(12)), reach.is_silent()), (Duration::ZERO, false));
    }
}

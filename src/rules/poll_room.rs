//! How many polls run at once.

use std::time::{Duration, Instant};

/// After a shortage, twice as many polls may run each time this has passed.
const GROWTH: Duration = Duration::from_secs(2);

/// The number of polls that may run at once: as many as configured, but fewer where the process has no descriptors for so many.
/// The others then wait for their turn, instead of failing to connect again and again.
#[derive(Debug)]
pub(crate) struct PollRoom {
    configured: usize,
    limit: usize,
    grows_at: Option<Instant>,
}

impl PollRoom {
    pub(crate) fn new(configured: usize) -> Self {
        PollRoom { configured, limit: configured, grows_at: None }
    }

    /// The number of polls that may run now.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// When more polls may run, if fewer do than are configured.
    pub(crate) fn grows_at(&self) -> Option<Instant> {
        self.grows_at
    }

    /// Time has passed.
    pub(crate) fn grow(&mut self, now: Instant) {
        while let Some(at) = self.grows_at.filter(|at| *at <= now) {
            self.limit = (2 * self.limit).min(self.configured);
            self.grows_at = (self.limit < self.configured).then_some(at + GROWTH);
        }
    }

    /// There was no descriptor for a poll, while so many others ran. Returns how many of those must end, so that other requests
    /// find descriptors, too; `None` if no others ran, so that there is nothing to learn.
    pub(crate) fn shrink(&mut self, running: usize, now: Instant) -> Option<usize> {
        if running == 0 {
            return None;
        }
        self.limit = self.limit.min(running - running / 8);
        self.grows_at = (self.limit < self.configured).then_some(now + GROWTH);
        Some(running.saturating_sub(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::clock::Clock;

    #[test]
    fn polls_make_room_and_come_back() {
        let now = Clock::system().now();
        let mut room = PollRoom::new(128);
        assert_eq!(room.limit(), 128);
        // Running, how many of them must end, and the limit then.
        for (running, ends, limit) in [(56, 7, 49), (49, 6, 43), (100, 57, 43), (3, 0, 3), (1, 0, 1)] {
            assert_eq!((room.shrink(running, now), room.limit()), (Some(ends), limit));
        }
        assert_eq!(room.shrink(0, now), None);
        for (seconds, limit) in [(1, 1), (2, 2), (3, 2), (6, 8), (13, 64), (14, 128), (9999, 128)] {
            room.grow(now + Duration::from_secs(seconds));
            assert_eq!(room.limit(), limit, "after {seconds} s");
        }
    }

    quickcheck! {
        fn there_is_always_room_for_one(configured: u8, steps: Vec<(bool, u8)>) -> bool {
            let mut now = Clock::system().now();
            let mut room = PollRoom::new(usize::from(configured).max(1));
            steps.into_iter().all(|(shrinks, value)| {
                if shrinks {
                    room.shrink(value.into(), now);
                } else {
                    now += Duration::from_secs(value.into());
                    room.grow(now);
                }
                (1..=room.configured).contains(&room.limit())
            })
        }
    }
}

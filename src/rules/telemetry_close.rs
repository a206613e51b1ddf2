//! How long a close waits for the last telemetry events.

use std::time::{Duration, Instant};

/// The maximum wait for a response before the remaining events are dropped.
const PATIENCE: Duration = Duration::from_millis(400);

/// The waits of one close.
#[derive(Debug)]
pub(crate) struct ClosePatience {
    /// After this, what is left of the time is for the end of the thread.
    give_up: Instant,
    /// How many requests were answered before the current wait.
    answered: Option<u64>,
    is_last: bool,
}

impl ClosePatience {
    /// Of a close that begins now and has until `deadline`.
    pub(crate) fn new(now: Instant, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(now);
        ClosePatience { give_up: now + left - left / 5, answered: None, is_last: false }
    }

    /// Until when to wait for the end of the thread, with this many requests answered so far; `None` if there is no time left, or
    /// none was answered during the last wait.
    pub(crate) fn next(&mut self, answered: u64, now: Instant) -> Option<Instant> {
        if self.is_last || self.answered == Some(answered) {
            return None;
        }
        let until = (now + PATIENCE).min(self.give_up);
        (self.answered, self.is_last) = (Some(answered), until == self.give_up);
        Some(until)
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::start;
    use super::*;

    #[test]
    fn a_close_waits_while_requests_are_answered() {
        // The limit of the close, the requests answered before each wait, and the ends of the waits, in milliseconds.
        for (limit, answered, expected) in [
            (2000, &[0, 0][..], &[400][..]),
            (2000, &[7, 8, 8], &[400, 800]),
            (2000, &[0, 1, 2, 3, 4, 5], &[400, 800, 1200, 1600]),
            (1500, &[0, 1, 2, 3, 4], &[400, 800, 1200]),
            (1250, &[0, 1, 2, 3], &[400, 800, 1000]),
            (100, &[0, 1], &[80]),
            (0, &[0, 1], &[0]),
        ] {
            let (begin, mut now) = (start(), start());
            let mut patience = ClosePatience::new(begin, begin + Duration::from_millis(limit));
            let mut ends = Vec::new();
            for &answered in answered {
                let Some(until) = patience.next(answered, now) else { break };
                ends.push((until - begin).as_millis());
                now = until;
            }
            assert_eq!(ends, expected, "{limit} {answered:?}");
        }
    }

    quickcheck! {
        fn a_fifth_of_the_time_is_left(limit: u32, answered: Vec<u64>) -> bool {
            let (begin, limit) = (start(), Duration::from_millis(limit.into()));
            let mut patience = ClosePatience::new(begin, begin + limit);
            let mut now = begin;
            answered.into_iter().all(|answered| {
                now = patience.next(answered, now).unwrap_or(now);
                now - begin <= limit - limit / 5
            })
        }
    }
}

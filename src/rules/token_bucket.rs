//! How fast samples may be submitted: a token bucket that slows down after a 429.
//!
//! Each submission takes a token. A 429 pauses everyone, empties the bucket and halves its refill rate; each second without
//! a 429 doubles the rate up to the configured one. The pause does not count as time without a 429: nothing is sent during
//! it, and the usual pause of one second would undo the halving each time.
//!
//! Not the crate governor: its quota is fixed, and it reads the clock itself (`docs/decisions/0008`).
//!
//! `session::SamplingLimiter` decides who waits for a token and how many submissions are in flight at once.

use std::time::{Duration, Instant};

use super::retry::MAX_RETRY_AFTER;

/// The maximum pause that one 429 can ask for.
pub(crate) const MAX_PAUSE: Duration = MAX_RETRY_AFTER;

/// The minimum rate after 429s, in tokens per second.
const MIN_RATE: u32 = 10;

/// The time without a 429 after which the rate doubles.
const RECOVERY: Duration = Duration::from_secs(1);

/// [`TokenBucket::level`] counts billionths of a token, so that tokens per second times nanoseconds is exact.
const TOKEN: u64 = 1_000_000_000;

/// A token bucket with an adaptive refill rate.
#[derive(Clone, Debug)]
pub(crate) struct TokenBucket {
    /// The maximum level, in billionths of a token.
    capacity: u64,
    /// The refill rate without 429s, in tokens per second.
    configured: u32,
    /// The current refill rate, in tokens per second.
    rate: u32,
    /// In billionths of a token.
    level: u64,
    /// The instant up to which it has been refilled. During a pause this is the end of the pause, so nothing is added before.
    filled: Instant,
    /// When the rate doubles next, unless it is already back at the configured one.
    doubles_at: Instant,
}

impl TokenBucket {
    /// A full bucket. A burst or rate of zero counts as one.
    pub(crate) fn new(burst: u32, rate: u32, now: Instant) -> Self {
        let capacity = u64::from(burst.max(1)) * TOKEN;
        let rate = rate.max(1);
        TokenBucket { capacity, configured: rate, rate, level: capacity, filled: now, doubles_at: now }
    }

    /// Takes a token, or returns the earliest instant to try again. At that instant there is one token, unless a pause comes
    /// in between.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        self.advance(now);
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                Ok(())
            }
            None => {
                let missing = (TOKEN - self.level).div_ceil(u64::from(self.rate));
                Err(self.filled + Duration::from_nanos(missing))
            }
        }
    }

    /// When [`take`](TokenBucket::take) may be tried, if not now.
    pub(crate) fn ready_at(&self, now: Instant) -> Option<Instant> {
        self.clone().take(now).err()
    }

    /// Pauses after a 429 that asked for this wait, and returns the end of the pause. A running pause is never shortened.
    pub(crate) fn pause(&mut self, now: Instant, wait: Duration) -> Instant {
        self.advance(now);
        self.level = 0;
        self.rate = (self.rate / 2).max(MIN_RATE.min(self.configured));
        self.filled = self.filled.max(now + wait.min(MAX_PAUSE));
        self.doubles_at = self.filled + RECOVERY;
        self.filled
    }

    /// The current refill rate, in tokens per second.
    #[cfg(test)]
    fn rate(&self) -> u32 {
        self.rate
    }

    /// Refills the bucket up to `now`, second by second while the rate recovers.
    fn advance(&mut self, now: Instant) {
        while self.rate < self.configured && self.doubles_at <= now {
            self.fill(self.doubles_at);
            self.rate = self.rate.saturating_mul(2).min(self.configured);
            self.doubles_at += RECOVERY;
        }
        self.fill(now);
    }

    /// Refills the bucket up to `until` at the current rate. An instant in the past changes nothing: threads that share a
    /// bucket may read the clock in one order and call this in another.
    fn fill(&mut self, until: Instant) {
        let nanos = u64::try_from(until.saturating_duration_since(self.filled).as_nanos()).unwrap_or(u64::MAX);
        self.level = self.capacity.min(self.level.saturating_add(nanos.saturating_mul(u64::from(self.rate))));
        self.filled = self.filled.max(until);
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::super::testing::start;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The defaults of `sampling_burst` and `sampling_rate`.
    const BURST: u32 = 400;
    const RATE: u32 = 10_000;

    /// Takes all tokens and counts them.
    fn drain(bucket: &mut TokenBucket, now: Instant) -> usize {
        std::iter::from_fn(|| bucket.take(now).ok()).count()
    }

    #[test]
    fn the_next_token_is_due_when_whole() {
        let now = start();
        let mut bucket = TokenBucket::new(1, 10, now);
        bucket.take(now).unwrap();
        assert_eq!(bucket.take(now + Duration::from_millis(50)), Err(now + Duration::from_millis(100)));
    }

    #[test]
    fn a_full_bucket_gives_burst_then_rate() {
        let t0 = start();
        let mut bucket = TokenBucket::new(BURST, RATE, t0);
        assert_eq!(drain(&mut bucket, t0), 400);
        assert_eq!(bucket.take(t0), Err(t0 + Duration::from_micros(100)));
        assert_eq!(drain(&mut bucket, t0 + Duration::from_millis(10)), 100);
        assert_eq!(drain(&mut bucket, t0 + 1000 * SECOND), 400);
    }

    #[test]
    fn a_429_pauses_empties_halves_and_recovers() {
        let t0 = start();
        let mut bucket = TokenBucket::new(BURST, RATE, t0);
        let end = bucket.pause(t0, 7 * SECOND);
        assert_eq!(end, t0 + 7 * SECOND);
        assert_eq!(bucket.ready_at(t0), Some(end + Duration::from_micros(200)));
        assert_eq!(bucket.take(t0), Err(end + Duration::from_micros(200)));
        assert_eq!(drain(&mut bucket, end), 0, "the pause does not fill the bucket");
        assert_eq!(drain(&mut bucket, end + Duration::from_millis(10)), 50);
        assert_eq!(drain(&mut bucket, end + SECOND), 400);
        assert_eq!(bucket.rate(), RATE);
    }

    #[test]
    fn repeated_pauses_halve_down_to_the_floor() {
        let mut now = start();
        let mut bucket = TokenBucket::new(BURST, RATE, now);
        let rates: Vec<_> = std::iter::repeat_with(|| {
            now = bucket.pause(now, SECOND);
            bucket.rate()
        })
        .take(12)
        .collect();
        assert_eq!(rates, [5000, 2500, 1250, 625, 312, 156, 78, 39, 19, 10, 10, 10]);
        let recovered: Vec<_> = (0..=10)
            .map(|seconds| {
                let _ = bucket.take(now + seconds * SECOND);
                bucket.rate()
            })
            .collect();
        assert_eq!(recovered, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_000]);
    }

    #[test]
    fn pauses_never_shorten_and_are_capped() {
        let t0 = start();
        let mut bucket = TokenBucket::new(BURST, RATE, t0);
        let long = bucket.pause(t0, 10 * SECOND);
        assert_eq!(bucket.pause(t0 + SECOND, SECOND), long);
        assert_eq!(bucket.pause(t0 + SECOND, Duration::MAX), t0 + SECOND + MAX_PAUSE);
    }

    #[test]
    fn a_configured_rate_below_the_floor_is_kept() {
        let t0 = start();
        let mut bucket = TokenBucket::new(1, 2, t0);
        bucket.pause(t0, SECOND);
        assert_eq!(bucket.rate(), 2);
        assert_eq!(TokenBucket::new(0, 0, t0).take(t0), Ok(()));
    }

    /// One step of a property: time passes, then a 429 comes or tokens are taken.
    type Step = (u16, Option<u16>, u8);

    quickcheck! {
        fn never_more_than_burst_plus_rate_times_time(burst: u8, rate: u8, steps: Vec<Step>) -> bool {
            let (burst, rate) = (u32::from(burst % 8) + 1, u32::from(rate) + 1);
            let t0 = start();
            let (mut now, mut bucket, mut taken) = (t0, TokenBucket::new(burst, rate, t0), Vec::new());
            for (millis, pause, tries) in steps {
                now += Duration::from_millis(u64::from(millis % 300));
                if let Some(wait) = pause.filter(|_| tries % 4 == 0) {
                    bucket.pause(now, Duration::from_millis(wait.into()));
                }
                taken.extend((0..tries % 16).filter(|_| bucket.take(now).is_ok()).map(|_| now - t0));
            }
            (0..taken.len()).all(|first| (first..taken.len()).all(|last| {
                let nanos = (taken[last] - taken[first]).as_nanos();
                (last - first + 1) as u128 * 1_000_000_000 <= u128::from(burst) * 1_000_000_000 + u128::from(rate) * nanos
            }))
        }

        fn pauses_give_nothing_and_never_shorten(steps: Vec<Step>) -> bool {
            let mut now = start();
            let (mut bucket, mut paused) = (TokenBucket::new(5, 50, now), now);
            steps.into_iter().all(|(millis, pause, _)| {
                now += Duration::from_millis(u64::from(millis % 3000));
                let lengthened = pause.is_none_or(|wait| {
                    let end = bucket.pause(now, Duration::from_millis(wait.into()));
                    let longer = end >= paused && end <= paused.max(now + MAX_PAUSE);
                    paused = end;
                    longer
                });
                lengthened && (bucket.take(now).is_err() || now >= paused)
            })
        }

        fn the_rate_stays_in_bounds_and_recovers(rate: u32, steps: Vec<Step>) -> bool {
            let rate = rate.max(1);
            let mut now = start();
            let (mut bucket, mut paused) = (TokenBucket::new(5, rate, now), now);
            let bounded = steps.into_iter().all(|(millis, pause, _)| {
                now += Duration::from_millis(millis.into());
                if let Some(wait) = pause {
                    paused = bucket.pause(now, Duration::from_millis(wait.into()));
                }
                let _ = bucket.take(now);
                (MIN_RATE.min(rate)..=rate).contains(&bucket.rate())
            });
            // From 10 per second to the largest rate takes 29 doublings.
            let _ = bucket.take(now.max(paused) + 29 * RECOVERY);
            bounded && bucket.rate() == rate
        }

        fn a_token_is_there_at_the_promised_instant(burst: u8, rate: u32, steps: Vec<Step>) -> bool {
            let mut now = start();
            let mut bucket = TokenBucket::new(burst.into(), rate, now);
            steps.into_iter().all(|(millis, pause, _)| {
                now += Duration::from_millis(millis.into());
                if let Some(wait) = pause {
                    bucket.pause(now, Duration::from_millis(wait.into()));
                }
                match bucket.take(now) {
                    Ok(()) => true,
                    Err(later) => {
                        let is_there = later > now && bucket.clone().take(later).is_ok();
                        now = later;
                        is_there && bucket.take(now).is_ok()
                    }
                }
            })
        }

        fn instants_out_of_order_change_nothing(back: u16) -> bool {
            let t0 = start() + Duration::from_secs(100);
            let mut bucket = TokenBucket::new(1, 1, t0);
            bucket.take(t0).is_ok() && bucket.take(t0 - Duration::from_millis(back.into())) == Err(t0 + SECOND)
        }
    }
}

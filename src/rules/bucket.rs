//! How fast samples may be submitted: a token bucket that listens to 429s.
//!
//! Each submission takes a token. A 429 pauses everyone, empties the bucket and halves the rate at which it is filled;
//! each second without a 429 doubles the rate up to the configured one. The pause itself is not counted: nothing is sent
//! in it, and the usual pause of a second would undo the halving each time.
//!
//! Who waits for a token, and how many submissions are in flight at once, is decided elsewhere.

use std::time::{Duration, Instant};

use super::retry::MAX_RETRY_AFTER;

/// The pause after a 429 that does not say how long (Python client: 1 s).
pub(crate) const DEFAULT_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause that a server may ask for at once.
pub(crate) const MAX_PAUSE: Duration = MAX_RETRY_AFTER;

/// The tokens per second that 429s leave at least.
const MIN_RATE: u32 = 10;

/// How long the bucket must go without a 429 for its rate to double.
const RECOVERY: Duration = Duration::from_secs(1);

/// The unit of [`Bucket::level`] is a billionth of a token, so that a rate per second times nanoseconds is exact.
const TOKEN: u64 = 1_000_000_000;

/// A token bucket.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// The most that the bucket holds, in billionths of a token.
    capacity: u64,
    /// The rate that the bucket returns to, in tokens per second.
    configured: u32,
    /// The rate now.
    rate: u32,
    /// What it holds, in billionths of a token.
    level: u64,
    /// The instant up to which it has been filled. In a pause this is the end of the pause: until then nothing flows.
    filled: Instant,
    /// When the rate doubles next, unless it is the configured one already.
    doubles: Instant,
}

impl Bucket {
    /// A full bucket. A burst or rate of zero counts as one.
    pub(crate) fn new(burst: u32, rate: u32, now: Instant) -> Self {
        let capacity = u64::from(burst.max(1)) * TOKEN;
        let rate = rate.max(1);
        Bucket { capacity, configured: rate, rate, level: capacity, filled: now, doubles: now }
    }

    /// Takes a token, or says when to try again at the earliest. At that instant there is one for the first who asks,
    /// unless a pause has come in between.
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

    /// Heeds a 429 that asked for this wait, and returns when the pause ends. A pause under way is only ever lengthened.
    pub(crate) fn pause(&mut self, now: Instant, wait: Duration) -> Instant {
        self.advance(now);
        self.level = 0;
        self.rate = (self.rate / 2).max(MIN_RATE.min(self.configured));
        self.filled = self.filled.max(now + wait.min(MAX_PAUSE));
        self.doubles = self.filled + RECOVERY;
        self.filled
    }

    /// The tokens per second at present.
    #[cfg(test)]
    fn rate(&self) -> u32 {
        self.rate
    }

    /// Fills the bucket up to `now`, second by second while the rate recovers.
    fn advance(&mut self, now: Instant) {
        while self.rate < self.configured && self.doubles <= now {
            self.fill(self.doubles);
            self.rate = self.rate.saturating_mul(2).min(self.configured);
            self.doubles += RECOVERY;
        }
        self.fill(now);
    }

    /// Fills the bucket up to `until` at the present rate. An instant in the past changes nothing: the threads that share
    /// a bucket may read the clock in one order and come here in another.
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

    /// How many tokens can be had at once.
    fn drain(bucket: &mut Bucket, now: Instant) -> usize {
        std::iter::from_fn(|| bucket.take(now).ok()).count()
    }

    #[test]
    fn a_rested_bucket_gives_its_burst_and_then_its_rate() {
        let t0 = start();
        let mut bucket = Bucket::new(BURST, RATE, t0);
        assert_eq!(drain(&mut bucket, t0), 400);
        assert_eq!(bucket.take(t0), Err(t0 + Duration::from_micros(100)));
        assert_eq!(drain(&mut bucket, t0 + Duration::from_millis(10)), 100);
        assert_eq!(drain(&mut bucket, t0 + 1000 * SECOND), 400);
    }

    #[test]
    fn a_429_pauses_empties_and_halves_and_the_rate_recovers_after_the_pause() {
        let t0 = start();
        let mut bucket = Bucket::new(BURST, RATE, t0);
        let end = bucket.pause(t0, 7 * SECOND);
        assert_eq!(end, t0 + 7 * SECOND);
        assert_eq!(bucket.take(t0), Err(end + Duration::from_micros(200)));
        assert_eq!(drain(&mut bucket, end), 0, "the pause does not fill the bucket");
        assert_eq!(drain(&mut bucket, end + Duration::from_millis(10)), 50);
        assert_eq!(drain(&mut bucket, end + SECOND), 400);
        assert_eq!(bucket.rate(), RATE);
    }

    #[test]
    fn usual_pauses_of_a_second_slow_the_bucket_down_to_its_floor() {
        let mut now = start();
        let mut bucket = Bucket::new(BURST, RATE, now);
        let rates: Vec<_> = std::iter::repeat_with(|| {
            now = bucket.pause(now, DEFAULT_PAUSE);
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
    fn a_short_pause_does_not_shorten_a_long_one_and_a_huge_one_is_capped() {
        let t0 = start();
        let mut bucket = Bucket::new(BURST, RATE, t0);
        let long = bucket.pause(t0, 10 * SECOND);
        assert_eq!(bucket.pause(t0 + SECOND, SECOND), long);
        assert_eq!(bucket.pause(t0 + SECOND, Duration::MAX), t0 + SECOND + MAX_PAUSE);
    }

    #[test]
    fn a_configured_rate_below_the_floor_is_kept() {
        let t0 = start();
        let mut bucket = Bucket::new(1, 2, t0);
        bucket.pause(t0, SECOND);
        assert_eq!(bucket.rate(), 2);
        assert_eq!(Bucket::new(0, 0, t0).take(t0), Ok(()));
    }

    /// What one step of a property does: time passes, then a 429 comes or tokens are taken.
    type Step = (u16, Option<u16>, u8);

    quickcheck! {
        fn never_more_than_the_burst_plus_rate_times_time(burst: u8, rate: u8, steps: Vec<Step>) -> bool {
            let (burst, rate) = (u32::from(burst % 8) + 1, u32::from(rate) + 1);
            let t0 = start();
            let (mut now, mut bucket, mut taken) = (t0, Bucket::new(burst, rate, t0), Vec::new());
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

        fn nothing_is_given_in_a_pause_and_a_pause_is_only_lengthened(steps: Vec<Step>) -> bool {
            let mut now = start();
            let (mut bucket, mut paused) = (Bucket::new(5, 50, now), now);
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

        fn the_rate_stays_in_its_bounds_and_recovers(rate: u32, steps: Vec<Step>) -> bool {
            let rate = rate.max(1);
            let mut now = start();
            let (mut bucket, mut paused) = (Bucket::new(5, rate, now), now);
            let bounded = steps.into_iter().all(|(millis, pause, _)| {
                now += Duration::from_millis(millis.into());
                if let Some(wait) = pause {
                    paused = bucket.pause(now, Duration::from_millis(wait.into()));
                }
                let _ = bucket.take(now);
                (MIN_RATE.min(rate)..=rate).contains(&bucket.rate())
            });
            // From 10 per second to the largest rate there is takes 29 doublings.
            let _ = bucket.take(now.max(paused) + 29 * RECOVERY);
            bounded && bucket.rate() == rate
        }

        fn who_comes_when_told_gets_a_token(burst: u8, rate: u32, steps: Vec<Step>) -> bool {
            let mut now = start();
            let mut bucket = Bucket::new(burst.into(), rate, now);
            steps.into_iter().all(|(millis, pause, _)| {
                now += Duration::from_millis(millis.into());
                if let Some(wait) = pause {
                    bucket.pause(now, Duration::from_millis(wait.into()));
                }
                match bucket.take(now) {
                    Ok(()) => true,
                    Err(later) => {
                        let told = later > now && bucket.clone().take(later).is_ok();
                        now = later;
                        told && bucket.take(now).is_ok()
                    }
                }
            })
        }

        fn instants_out_of_order_change_nothing_that_was_given(back: u16) -> bool {
            let t0 = start() + Duration::from_secs(100);
            let mut bucket = Bucket::new(1, 1, t0);
            bucket.take(t0).is_ok() && bucket.take(t0 - Duration::from_millis(back.into())) == Err(t0 + SECOND)
        }
    }
}

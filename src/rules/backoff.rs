//! How a wait grows with each failure, and how randomness spreads it.

use std::time::Duration;

/// The largest fraction that [`shortened`] takes off a wait: the Python client's factor lies in [0.75, 1].
const MAX_SHORTENING: f64 = 0.25;

/// The wait after `n` earlier failures: `base` doubled `n` times, at most `cap`.
pub(crate) fn backoff(base: Duration, n: u32, cap: Duration) -> Duration {
    base.saturating_mul(2_u32.saturating_pow(n)).min(cap)
}

/// The wait, shortened by up to a quarter, so that clients which failed together do not retry together. `jitter` is a
/// random number in 0..1.
pub(crate) fn shortened(wait: Duration, jitter: f64) -> Duration {
    scaled(wait, 1.0 - MAX_SHORTENING * jitter.clamp(0.0, 1.0))
}

/// The wait times a factor; the wait itself if the product is not a valid duration.
pub(crate) fn scaled(wait: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(wait.as_secs_f64() * factor).unwrap_or(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap() {
        let (base, cap) = (Duration::from_millis(500), Duration::from_secs(10));
        let waits: Vec<_> = [0, 1, 2, 4, 5, 31, 32, 1000, u32::MAX].map(|n| backoff(base, n, cap).as_millis()).into();
        assert_eq!(waits, [500, 1000, 2000, 8000, 10_000, 10_000, 10_000, 10_000, 10_000]);
        assert_eq!(backoff(Duration::ZERO, u32::MAX, cap), Duration::ZERO);
        assert_eq!(backoff(Duration::MAX, 3, Duration::MAX), Duration::MAX);
    }

    #[test]
    fn jitter_shortens_by_at_most_a_quarter() {
        let wait = Duration::from_secs(8);
        assert_eq!(shortened(wait, 0.0), wait);
        assert_eq!(shortened(wait, 1.0), Duration::from_secs(6));
        assert_eq!(shortened(wait, 7.0), Duration::from_secs(6));
        assert_eq!(shortened(wait, f64::NAN), wait);
        assert_eq!(shortened(Duration::MAX, 0.0), Duration::MAX);
    }
}

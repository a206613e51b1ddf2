//! How long a checkpoint may be kept before it expires.

use std::time::Duration;

use crate::error::{Error, Result};

/// An hour.
pub(crate) const MIN_SECONDS: u64 = 3600;

/// Ten years.
pub(crate) const MAX_SECONDS: u64 = 10 * 365 * 24 * 3600;

/// The whole seconds of a checkpoint's lifetime. Refuses one that the service would refuse.
pub(crate) fn ttl_seconds(ttl: Duration) -> Result<u64> {
    let seconds = ttl.as_secs();
    if (MIN_SECONDS..=MAX_SECONDS).contains(&seconds) {
        return Ok(seconds);
    }
    let which = if seconds < MIN_SECONDS { "too short" } else { "too long" };
    Err(Error::invalid_input(format!("a time to live of {ttl:?} is {which}")).with_hint("use 1 hour to 10 years"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_to_ten_years_are_allowed() {
        for (seconds, expected) in [
            (0, None),
            (3599, None),
            (3600, Some(3600)),
            (315_360_000, Some(315_360_000)),
            (315_360_001, None),
            (u64::MAX, None),
        ] {
            assert_eq!(ttl_seconds(Duration::from_secs(seconds)).ok(), expected, "{seconds}");
        }
        assert_eq!(ttl_seconds(Duration::from_millis(3_600_999)).unwrap(), 3600);
        assert!(ttl_seconds(Duration::from_millis(3_599_999)).is_err());
    }
}

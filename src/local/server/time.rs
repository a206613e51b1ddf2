//! The server's clock. The server always runs in real time: no test's clock drives it.

use std::time::{Instant, SystemTime};

use crate::clock::Clock;

/// The monotonic time, for deadlines.
pub(crate) fn now() -> Instant {
    Clock::system().now()
}

/// The date and time of day, for timestamps.
pub(crate) fn wall_clock() -> SystemTime {
    Clock::system().wall()
}

/// The date and time of day, in whole seconds since 1970.
#[cfg(feature = "pretrained")]
pub(crate) fn unix_seconds() -> u64 {
    wall_clock().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

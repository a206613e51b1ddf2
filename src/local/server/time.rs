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

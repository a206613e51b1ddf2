//! The instant by which a call must end.

use std::time::{Duration, Instant};

use super::Clock;
use crate::error::Limit;

/// The instant by which a call must end, and the time limit that sets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) limit: Limit,
}

impl Deadline {
    /// The deadline of a whole blocking call that starts now. `None` without a timeout, or if the deadline is later than an
    /// [`Instant`] can represent.
    pub(crate) fn of_operation(clock: &Clock, timeout: Option<Duration>) -> Option<Self> {
        let at = clock.now().checked_add(timeout?)?;
        Some(Deadline { at, limit: Limit::Operation })
    }

    /// The earlier of the two.
    pub(crate) fn earlier(self, other: Option<Deadline>) -> Deadline {
        other.filter(|other| other.at < self.at).unwrap_or(self)
    }
}

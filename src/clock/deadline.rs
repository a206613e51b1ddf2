//! An instant that ends a call.

use std::time::{Duration, Instant};

use super::Clock;
use crate::error::Limit;

/// An instant that ends a call, and the time limit it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) limit: Limit,
}

impl Deadline {
    /// The end of a whole blocking call that starts now. `None` without a timeout, or if it ends beyond all time.
    pub(crate) fn of_operation(clock: &Clock, timeout: Option<Duration>) -> Option<Self> {
        let at = clock.now().checked_add(timeout?)?;
        Some(Deadline { at, limit: Limit::Operation })
    }

    /// The earlier of the two.
    pub(crate) fn earlier(self, other: Option<Deadline>) -> Deadline {
        other.filter(|other| other.at < self.at).unwrap_or(self)
    }
}

//! How much may wait in a queue.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::{Clock, Monitor};
use crate::error::{Error, ErrorKind, Limit, Result};

/// Bounds a queue by calls and bytes. A single call that is larger than the whole budget is let in alone.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    used: Arc<Monitor<Used>>,
    clock: Clock,
    max_calls: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Used {
    calls: usize,
    bytes: usize,
    closed: bool,
}

/// What to do when the queue is full.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Room {
    /// Fail at once.
    Now,
    /// Wait for room, at most until then.
    Until(Option<Instant>),
}

/// A place in the queue, given back when it drops.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(clock: Clock, max_calls: usize, max_bytes: usize) -> Self {
        Budget { used: Monitor::new(Used::default()), clock, max_calls, max_bytes }
    }

    /// Takes a place for a call of so many bytes.
    pub(crate) fn reserve(&self, bytes: usize, room: Room) -> Result<Reservation> {
        let mut used = self.used.lock();
        loop {
            if used.closed {
                return Err(Error::closed());
            }
            if used.calls == 0 || (used.calls < self.max_calls && bytes <= self.max_bytes.saturating_sub(used.bytes)) {
                used.calls += 1;
                used.bytes = used.bytes.saturating_add(bytes);
                return Ok(Reservation { budget: self.clone(), bytes });
            }
            let deadline = match room {
                Room::Now => return Err(self.full(&used)),
                Room::Until(deadline) => deadline,
            };
            if self.clock.wait_until(&self.used, &mut used, deadline) {
                return Err(Error::timeout(Limit::Operation).with_source(self.full(&used)));
            }
        }
    }

    /// Ends every wait for room.
    pub(crate) fn close(&self) {
        self.used.lock().closed = true;
        self.used.notify_all();
    }

    fn full(&self, used: &Used) -> Error {
        let message = format!("the queue is full: {} calls, {} bytes wait", used.calls, used.bytes);
        Error::new(ErrorKind::QueueFull, message)
            .with_hint("wait for earlier results first, or raise max_queued or max_queued_bytes")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut used = self.budget.used.lock();
        used.calls = used.calls.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(self.bytes);
        drop(used);
        self.budget.used.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn calls_and_bytes_are_bounded_and_given_back() {
        let budget = Budget::new(Clock::system(), 2, 10);
        let first = budget.reserve(4, Room::Now).unwrap();
        assert_eq!(budget.reserve(7, Room::Now).unwrap_err().kind(), ErrorKind::QueueFull);
        let _second = budget.reserve(6, Room::Now).unwrap();
        assert_eq!(budget.reserve(0, Room::Now).unwrap_err().kind(), ErrorKind::QueueFull);
        drop(first);
        budget.reserve(4, Room::Now).unwrap();
    }

    #[test]
    fn a_call_larger_than_the_budget_is_let_in_alone() {
        let budget = Budget::new(Clock::system(), 2, 10);
        let _large = budget.reserve(1000, Room::Now).unwrap();
        assert!(budget.reserve(1, Room::Now).is_err());
    }

    #[test]
    fn a_wait_for_room_ends_with_room_the_deadline_or_the_close() {
        let manual = ManualClock::new();
        let budget = Budget::new(manual.clock(), 1, 10);
        let waiting = |deadline: Option<Instant>| {
            let budget = budget.clone();
            thread::spawn(move || budget.reserve(1, Room::Until(deadline)).map_err(|error| error.kind()))
        };
        let first = budget.reserve(1, Room::Now).unwrap();
        let deadline = manual.clock().now() + Duration::from_secs(5);
        let late = waiting(Some(deadline));
        manual.until_waiting(|waits| waits.len() == 1);
        manual.advance(Duration::from_secs(5));
        assert_eq!(late.join().unwrap().unwrap_err(), ErrorKind::Timeout(Limit::Operation));
        let patient = waiting(None);
        drop(first);
        let second = patient.join().unwrap().unwrap();
        let closed = waiting(None);
        budget.close();
        assert_eq!(closed.join().unwrap().unwrap_err(), ErrorKind::Closed);
        drop(second);
    }
}

//! Bounds a queue by calls and bytes.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::{Clock, Monitor};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::process::Process;

/// The capacity of a queue, in calls and bytes. A single call that is larger than the whole budget is admitted when the queue
/// is empty; otherwise it could never be sent.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    used: Arc<Monitor<Used>>,
    clock: Clock,
    process: Process,
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
pub(crate) enum OnFull {
    /// Fail at once.
    Fail,
    /// Wait for space, up to this deadline if there is one.
    WaitUntil(Option<Instant>),
}

/// A place in the queue, released on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(clock: Clock, max_calls: usize, max_bytes: usize) -> Self {
        let used = Monitor::new(Used::default());
        Budget(Arc::new(Shared { used, clock, process: Process::current(), max_calls, max_bytes }))
    }

    /// Takes a place for a call of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// The queue is full ([`ErrorKind::QueueFull`]), is still full at the deadline ([`ErrorKind::Timeout`]), or is closed
    /// ([`ErrorKind::Closed`]), also in a fork.
    pub(crate) fn reserve(&self, bytes: usize, on_full: OnFull) -> Result<Reservation> {
        let Shared { used: monitor, clock, process, max_calls, max_bytes } = &*self.0;
        process.check()?;
        let began = clock.now();
        let mut used = monitor.lock();
        loop {
            if used.closed {
                return Err(Error::closed());
            }
            if used.calls == 0 || (used.calls < *max_calls && bytes <= max_bytes.saturating_sub(used.bytes)) {
                used.calls += 1;
                used.bytes = used.bytes.saturating_add(bytes);
                return Ok(Reservation { budget: self.clone(), bytes });
            }
            let deadline = match on_full {
                OnFull::Fail => return Err(self.full(&used)),
                OnFull::WaitUntil(deadline) => deadline,
            };
            if clock.wait_until(monitor, &mut used, deadline) {
                let full = self.full(&used);
                let elapsed = clock.now().saturating_duration_since(began);
                let error = Error::timeout(Limit::Operation);
                return Err(error.with_last_word(Limit::Operation, full.message(), 0, elapsed).with_source(full));
            }
        }
    }

    /// Ends every wait for space, and refuses further calls.
    pub(crate) fn close(&self) {
        self.0.used.lock().closed = true;
        self.0.used.notify_all();
    }

    fn full(&self, used: &Used) -> Error {
        let message = format!("the queue is full: {} calls and {} bytes are waiting", used.calls, used.bytes);
        Error::new(ErrorKind::QueueFull, message)
            .with_hint("wait for earlier results first, or raise max_queued or max_queued_bytes")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let Shared { used: monitor, process, .. } = &*self.budget.0;
        if !process.is_current() {
            return;
        }
        let mut used = monitor.lock();
        used.calls = used.calls.saturating_sub(1);
        used.bytes = used.bytes.saturating_sub(self.bytes);
        drop(used);
        monitor.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn calls_and_bytes_are_bounded_until_released() {
        let budget = Budget::new(Clock::system(), 2, 10);
        let first = budget.reserve(4, OnFull::Fail).unwrap();
        assert_eq!(budget.reserve(7, OnFull::Fail).unwrap_err().kind(), ErrorKind::QueueFull);
        let _second = budget.reserve(6, OnFull::Fail).unwrap();
        assert_eq!(budget.reserve(0, OnFull::Fail).unwrap_err().kind(), ErrorKind::QueueFull);
        drop(first);
        budget.reserve(4, OnFull::Fail).unwrap();
    }

    #[test]
    fn an_oversized_call_is_admitted_alone() {
        let budget = Budget::new(Clock::system(), 2, 10);
        let _large = budget.reserve(1000, OnFull::Fail).unwrap();
        assert!(budget.reserve(1, OnFull::Fail).is_err());
    }

    #[test]
    fn waiting_ends_by_space_deadline_or_close() {
        let manual = ManualClock::new();
        let budget = Budget::new(manual.clock(), 1, 10);
        let waiting = |deadline: Option<Instant>| {
            let budget = budget.clone();
            thread::spawn(move || budget.reserve(1, OnFull::WaitUntil(deadline)).map_err(|error| error.kind()))
        };
        let first = budget.reserve(1, OnFull::Fail).unwrap();
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

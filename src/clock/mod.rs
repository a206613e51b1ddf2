//! The only place that reads the time or waits for it.
//!
//! Every wait of the library that has a deadline goes through a [`Clock`], so a test can control it: a `ManualClock`
//! (feature `test-util`) stands still until the test advances it. It knows which threads are waiting, and `advance` returns
//! once the threads that it woke are waiting again. Socket timeouts belong to the operating system and stay real.
//!
//! Mock clocks of other crates (quanta) control the time, but not the waits on channels and condition variables
//! (`docs/decisions/0008`).
#![expect(clippy::disallowed_methods, reason = "every other module reads the time here")]

mod deadline;
#[cfg(any(test, feature = "test-util"))]
mod manual;
#[cfg(not(any(test, feature = "test-util")))]
#[path = "no_manual.rs"]
mod manual;

use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use parking_lot::{Condvar, Mutex, MutexGuard};

pub(crate) use deadline::Deadline;
#[cfg(any(test, feature = "test-util"))]
pub use manual::ManualClock;
#[cfg(not(any(test, feature = "test-util")))]
use manual::ManualClock;

/// A client's source of time: the system's clock, or a `ManualClock` (feature `test-util`) that a test controls.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tinkex::clock::Clock;
///
/// let clock = Clock::system();
/// let start = clock.now();
/// assert!(clock.now() - start < Duration::from_secs(60));
/// assert!(clock.wall() > SystemTime::UNIX_EPOCH);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<ManualClock>);

/// How [`Clock::receive_until`] ended.
#[derive(Debug)]
pub(crate) enum Received<T> {
    Message(T),
    Deadline,
    Disconnected,
}

impl Clock {
    /// The system's clock, which is also the default.
    #[must_use]
    pub fn system() -> Self {
        Clock(None)
    }

    /// The current time, for measuring durations.
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(manual) => manual.now(),
        }
    }

    /// The current date and time of day.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(manual) => manual.wall(),
        }
    }

    /// Waits for a message, up to the deadline.
    pub(crate) fn receive_until<T>(&self, from: &Receiver<T>, deadline: Option<Instant>) -> Received<T> {
        if let Some(manual) = &self.0 {
            return manual.receive_until(from, deadline);
        }
        let received = match deadline {
            Some(at) => from.recv_deadline(at),
            None => from.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok(message) => Received::Message(message),
            Err(RecvTimeoutError::Timeout) => Received::Deadline,
            Err(RecvTimeoutError::Disconnected) => Received::Disconnected,
        }
    }

    /// Waits until the monitor is notified or the deadline has passed. May wake spuriously, as a condition variable does.
    /// Returns whether the deadline has passed.
    pub(crate) fn wait_until<T: Send + 'static>(
        &self,
        monitor: &Arc<Monitor<T>>,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
    ) -> bool {
        self.wait(monitor, guard, deadline, false)
    }

    /// The same for a thread that only watches the others: a manual clock does not list its wait.
    pub(crate) fn watch_until<T: Send + 'static>(
        &self,
        monitor: &Arc<Monitor<T>>,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
    ) -> bool {
        self.wait(monitor, guard, deadline, true)
    }

    fn wait<T: Send + 'static>(
        &self,
        monitor: &Arc<Monitor<T>>,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
        hidden: bool,
    ) -> bool {
        match (&self.0, deadline) {
            (Some(manual), _) => manual.wait_until(monitor, guard, deadline, hidden),
            (None, Some(at)) => monitor.changed.wait_until(guard, at).timed_out(),
            (None, None) => {
                monitor.changed.wait(guard);
                false
            }
        }
    }

    /// Runs something that blocks on the outside world, such as a socket. An advance of a manual clock does not wait for it,
    /// since it may take any time, or wait for the test itself.
    pub(crate) fn outside<R>(&self, run: impl FnOnce() -> R) -> R {
        if let Some(manual) = &self.0 {
            manual.settle(thread::current().id());
        }
        run()
    }

    /// Marks the calling thread as one of the library's own: after an advance, a manual clock waits for it until the guard
    /// drops.
    pub(crate) fn own_thread(&self) -> OwnThread {
        if self.0.is_some() {
            manual::mark_own_thread();
        }
        OwnThread(self.0.clone())
    }
}

/// A value behind a lock, with a condition to wait on through a [`Clock`].
#[derive(Debug, Default)]
pub(crate) struct Monitor<T> {
    state: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitor<T> {
    pub(crate) fn new(state: T) -> Arc<Self> {
        Arc::new(Monitor { state: Mutex::new(state), changed: Condvar::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock()
    }

    pub(crate) fn notify_one(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.changed.notify_all();
    }

    /// Notifies all of a change that is not in the state.
    pub(crate) fn wake_all(&self) {
        // A thread between its check and its wait holds the lock, so this notification reaches it.
        drop(self.lock());
        self.notify_all();
    }
}

/// See [`Clock::own_thread`].
#[derive(Debug)]
pub(crate) struct OwnThread(Option<ManualClock>);

impl Drop for OwnThread {
    fn drop(&mut self) {
        if let Some(manual) = &self.0 {
            manual.settle(thread::current().id());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn advance_returns_once_the_woken_wait_again() {
        let manual = ManualClock::new();
        let clock = manual.clock();
        let (stop, stopped) = unbounded::<()>();
        let (beat, beats) = unbounded();
        let thread = thread::spawn(move || {
            let _own = clock.own_thread();
            let mut next = clock.now();
            loop {
                next += Duration::from_secs(10);
                match clock.receive_until(&stopped, Some(next)) {
                    Received::Deadline => beat.send(()).unwrap(),
                    _ => return,
                }
            }
        });
        manual.until_waiting(|waits| waits == [Duration::from_secs(10)]);
        for expected in 1..=3 {
            manual.advance(Duration::from_secs(10));
            assert_eq!(beats.len(), expected);
        }
        manual.advance(Duration::from_secs(9));
        assert_eq!(beats.len(), 3);
        drop(stop);
        thread.join().unwrap();
    }

    #[test]
    fn a_monitor_wakes_by_notification_or_deadline() {
        let manual = ManualClock::new();
        let clock = manual.clock();
        let monitor = Monitor::new(0);
        let waiter = {
            let (monitor, clock) = (Arc::clone(&monitor), clock.clone());
            thread::spawn(move || {
                let deadline = clock.now() + Duration::from_secs(5);
                let mut value = monitor.lock();
                while *value < 2 {
                    if clock.wait_until(&monitor, &mut value, Some(deadline)) {
                        return Err(*value);
                    }
                }
                Ok(*value)
            })
        };
        manual.until_waiting(|waits| waits.len() == 1);
        *monitor.lock() = 1;
        monitor.notify_all();
        manual.until_waiting(|waits| waits.len() == 1);
        manual.advance(Duration::from_secs(5));
        assert_eq!(waiter.join().unwrap(), Err(1));
    }

    #[test]
    fn a_past_deadline_does_not_wait() {
        let clock = ManualClock::new().clock();
        let (_keep, never) = unbounded::<()>();
        assert!(matches!(clock.receive_until(&never, Some(clock.now())), Received::Deadline));
    }
}

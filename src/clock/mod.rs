//! The one place where time is read and waited for.
//!
//! Every wait of the library with a deadline goes through a [`Clock`], so that a test can drive it: the manual clock stands
//! still until [`ManualClock::advance`] moves it, knows who waits, and returns when those it woke wait again.
//! The timeouts on a socket are the operating system's and stay real.
#![allow(clippy::disallowed_methods)]

mod manual;

use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select};
use parking_lot::{Condvar, Mutex, MutexGuard};

pub use manual::ManualClock;
use manual::Waker;

/// Where a client takes the time from: the system's clock, or one that a test drives.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tinkex::clock::{Clock, ManualClock};
///
/// let manual = ManualClock::new();
/// let clock = manual.clock();
/// let before = clock.now();
/// manual.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now() - before, Duration::from_secs(3600));
/// assert!(clock.wall() >= Clock::system().wall() + Duration::from_secs(3599));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<ManualClock>);

/// What [`Clock::receive_until`] ended with.
#[derive(Debug)]
pub(crate) enum Received<T> {
    Message(T),
    Deadline,
    Disconnected,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Clock(None)
    }

    /// The time now, for measuring.
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            None => Instant::now(),
            Some(manual) => manual.now(),
        }
    }

    /// The date and time of day now.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(manual) => manual.wall(),
        }
    }

    /// Receives a message, or stops at the deadline.
    pub(crate) fn receive_until<T>(&self, from: &Receiver<T>, deadline: Option<Instant>) -> Received<T> {
        let Some(manual) = &self.0 else {
            let received = match deadline {
                Some(at) => from.recv_deadline(at),
                None => from.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            return match received {
                Ok(message) => Received::Message(message),
                Err(RecvTimeoutError::Timeout) => Received::Deadline,
                Err(RecvTimeoutError::Disconnected) => Received::Disconnected,
            };
        };
        if let Ok(message) = from.try_recv() {
            return Received::Message(message);
        }
        let (tick, ticks) = bounded(1);
        let Some(_wait) = manual.register(deadline, Waker::Channel(tick)) else {
            return Received::Deadline;
        };
        select! {
            recv(from) -> message => message.map_or(Received::Disconnected, Received::Message),
            recv(ticks) -> _ => Received::Deadline,
        }
    }

    /// Waits until the monitor is notified or the deadline has passed; may wake for nothing, as a condition variable does.
    /// Says whether the deadline has passed.
    pub(crate) fn wait_until<T: Send + 'static>(
        &self,
        monitor: &Arc<Monitor<T>>,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
    ) -> bool {
        match (&self.0, deadline) {
            (None, Some(at)) => monitor.changed.wait_until(guard, at).timed_out(),
            (None, None) => {
                monitor.changed.wait(guard);
                false
            }
            (Some(manual), _) => {
                let Some(_wait) = manual.register(deadline, Waker::Monitor(Arc::clone(monitor) as _)) else {
                    return true;
                };
                monitor.changed.wait(guard);
                deadline.is_some_and(|at| self.now() >= at)
            }
        }
    }

    /// Runs something that blocks on the outside world: a manual clock does not wait for it.
    pub(crate) fn outside<R>(&self, run: impl FnOnce() -> R) -> R {
        if let Some(manual) = &self.0 {
            manual.settle(thread::current().id());
        }
        run()
    }

    /// Marks the calling thread as one of the library's own, whose work a manual clock waits for, until the guard drops.
    pub(crate) fn own_thread(&self) -> OwnThread {
        OWN.set(true);
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
}

thread_local! {
    static OWN: Cell<bool> = const { Cell::new(false) };
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
    use super::*;
    use crossbeam_channel::unbounded;
    use std::time::Duration;

    #[test]
    fn advance_returns_when_the_woken_thread_waits_again() {
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
    fn a_monitor_is_woken_by_a_notification_and_by_the_deadline() {
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
    fn a_deadline_in_the_past_does_not_wait() {
        let clock = ManualClock::new().clock();
        let (_keep, never) = unbounded::<()>();
        assert!(matches!(clock.receive_until(&never, Some(clock.now())), Received::Deadline));
    }
}

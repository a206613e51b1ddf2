//! The one place where time is read and waited for.
//!
//! Every wait of the library with a deadline goes through a [`Clock`], so that a test can drive it: the manual clock stands
//! still until [`ManualClock::advance`] moves it, knows who waits, and returns when those it woke wait again.
//! The timeouts on a socket are the operating system's and stay real.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// How long, in real time, [`ManualClock`] waits for threads before it gives up: a test that hangs is worse than one that
/// fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a client takes the time from: the system's clock, or one that a test drives.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tinkex::clock::ManualClock;
///
/// let manual = ManualClock::new();
/// let clock = manual.clock();
/// let before = clock.now();
/// manual.advance(Duration::from_secs(3600));
/// assert_eq!(clock.now() - before, Duration::from_secs(3600));
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
            Some(manual) => manual.0.state.lock().now,
        }
    }

    /// The time of day now.
    #[must_use]
    pub fn wall(&self) -> SystemTime {
        match &self.0 {
            None => SystemTime::now(),
            Some(manual) => {
                let state = manual.0.state.lock();
                state.wall_at_start + state.now.duration_since(state.start)
            }
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

/// A clock that a test drives.
///
/// It stands still until it is told to move. Give a client its [`clock`](ManualClock::clock) through
/// [`ConfigBuilder::clock`](crate::config::ConfigBuilder::clock).
#[derive(Clone)]
pub struct ManualClock(Arc<Manual>);

struct Manual {
    state: Mutex<ManualState>,
    changed: Condvar,
}

struct ManualState {
    start: Instant,
    wall_at_start: SystemTime,
    now: Instant,
    next_wait: u64,
    waits: HashMap<u64, Wait>,
    /// Threads of the library that an advance woke and that do not wait again yet.
    awake: HashSet<ThreadId>,
}

struct Wait {
    thread: ThreadId,
    own: bool,
    deadline: Option<Instant>,
    waker: Waker,
}

#[derive(Clone)]
enum Waker {
    Channel(Sender<()>),
    Monitor(Arc<dyn Wake>),
}

trait Wake: Send + Sync {
    fn wake(&self);
}

impl<T: Send> Wake for Monitor<T> {
    fn wake(&self) {
        // Whoever registered holds the lock until it waits; taking it first means that the notification is not lost.
        drop(self.state.lock());
        self.changed.notify_all();
    }
}

impl ManualClock {
    /// A clock that shows the present time and stands still.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        ManualClock(Arc::new(Manual {
            state: Mutex::new(ManualState {
                start: now,
                wall_at_start: SystemTime::now(),
                now,
                next_wait: 0,
                waits: HashMap::new(),
                awake: HashSet::new(),
            }),
            changed: Condvar::new(),
        }))
    }

    /// The clock to hand to a client.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Some(self.clone()))
    }

    /// Moves the time on, wakes those whose deadline has come and returns when the library's threads among them wait again,
    /// have ended, or talk to a server.
    pub fn advance(&self, by: Duration) {
        let mut state = self.0.state.lock();
        state.now += by;
        let now = state.now;
        let (due, woken): (Vec<Waker>, Vec<Option<ThreadId>>) = state
            .waits
            .values()
            .filter(|wait| wait.deadline.is_some_and(|at| at <= now))
            .map(|wait| (wait.waker.clone(), wait.own.then_some(wait.thread)))
            .unzip();
        state.awake.extend(woken.into_iter().flatten());
        drop(state);
        for waker in due {
            match waker {
                Waker::Channel(tick) => drop(tick.try_send(())),
                Waker::Monitor(monitor) => monitor.wake(),
            }
        }
        let mut state = self.0.state.lock();
        let patience = Instant::now() + PATIENCE;
        while !state.awake.is_empty() && !self.0.changed.wait_until(&mut state, patience).timed_out() {}
    }

    /// How long each waiting thread has still to wait, the shortest first; those without a deadline are left out.
    #[must_use]
    pub fn waits(&self) -> Vec<Duration> {
        self.0.state.lock().remaining()
    }

    /// Blocks until the waits, as [`waits`](ManualClock::waits) lists them, are as the test expects.
    ///
    /// # Panics
    ///
    /// When that does not happen within 30 seconds of real time.
    pub fn until_waiting(&self, mut expected: impl FnMut(&[Duration]) -> bool) {
        let patience = Instant::now() + PATIENCE;
        let mut state = self.0.state.lock();
        while !expected(&state.remaining()) {
            let waited = self.0.changed.wait_until(&mut state, patience);
            assert!(!waited.timed_out(), "the expected wait did not begin; waiting: {:?}", state.remaining());
        }
    }

    /// Enters a wait, unless its deadline has passed already.
    fn register(&self, deadline: Option<Instant>, waker: Waker) -> Option<Registered<'_>> {
        let thread = thread::current().id();
        let mut state = self.0.state.lock();
        if deadline.is_some_and(|at| at <= state.now) {
            return None;
        }
        let id = state.next_wait;
        state.next_wait += 1;
        state.waits.insert(id, Wait { thread, own: OWN.get(), deadline, waker });
        state.awake.remove(&thread);
        drop(state);
        self.0.changed.notify_all();
        Some(Registered { clock: self, id })
    }

    /// The thread no longer owes a new wait.
    fn settle(&self, thread: ThreadId) {
        self.0.state.lock().awake.remove(&thread);
        self.0.changed.notify_all();
    }
}

impl ManualState {
    fn remaining(&self) -> Vec<Duration> {
        let mut all: Vec<_> =
            self.waits.values().filter_map(|w| w.deadline).map(|at| at.saturating_duration_since(self.now)).collect();
        all.sort_unstable();
        all
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("waits", &self.waits()).finish_non_exhaustive()
    }
}

struct Registered<'a> {
    clock: &'a ManualClock,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.clock.0.state.lock().waits.remove(&self.id);
        self.clock.0.changed.notify_all();
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

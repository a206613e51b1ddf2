//! A clock that a test controls.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Clock, Monitor, Received};

thread_local! {
    /// Whether this thread belongs to the library. A thread-local, because waits are registered by code that knows neither
    /// the thread nor its owner.
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// See [`Clock::own_thread`].
pub(super) fn mark_own_thread() {
    OWN.set(true);
}

/// How long, in real time, [`ManualClock`] waits for threads before it gives up: a failing test is better than one that
/// hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// A clock that a test controls (feature `test-util`).
///
/// It stands still until [`advance`](ManualClock::advance) moves it. Pass its [`clock`](ManualClock::clock) to
/// [`ConfigBuilder::clock`](crate::ConfigBuilder::clock).
///
/// ```
/// # #[cfg(feature = "local")] {
/// use std::time::Duration;
/// use tinkex::clock::ManualClock;
/// use tinkex::local::LocalServer;
/// use tinkex::{Config, ServiceClient};
///
/// let (server, manual) = (LocalServer::start()?, ManualClock::new());
/// let config = Config::builder().api_key("tml-local").base_url(server.base_url()).clock(manual.clock()).build()?;
/// let service = ServiceClient::connect(config)?;
///
/// // The client waits for its next heartbeat, or to close an idle connection. A minute of that takes no real time.
/// let mut passed = Duration::ZERO;
/// while passed < Duration::from_secs(60) {
///     let mut next = Duration::ZERO;
///     manual.until_waiting(|waits| {
///         next = waits.first().copied().unwrap_or_default();
///         !next.is_zero()
///     });
///     manual.advance(next);
///     passed += next;
/// }
/// println!("time left of each wait: {:?}", manual.waits());
/// # }
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Manual>);

struct Manual {
    state: Mutex<ManualState>,
    changed: Condvar,
}

struct ManualState {
    now: Instant,
    /// The wall clock, and when it was last set.
    wall: (SystemTime, Instant),
    next_wait: u64,
    waits: HashMap<u64, Wait>,
    /// Threads of the library that an advance woke and that are not waiting again yet.
    awake: HashSet<ThreadId>,
}

struct Wait {
    thread: ThreadId,
    own: bool,
    /// Whether it is of no interest to tests.
    hidden: bool,
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
        // A thread that registers holds this lock until it waits. Taking it first ensures that the notification reaches it.
        drop(self.state.lock());
        self.changed.notify_all();
    }
}

impl ManualClock {
    /// Creates a clock that stands still at the current time.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        ManualClock(Arc::new(Manual {
            state: Mutex::new(ManualState {
                now,
                wall: (SystemTime::now(), now),
                next_wait: 0,
                waits: HashMap::new(),
                awake: HashSet::new(),
            }),
            changed: Condvar::new(),
        }))
    }

    /// The clock to pass to a client.
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock(Some(self.clone()))
    }

    /// Advances the time and wakes every thread whose deadline has passed. Returns once those that belong to the library
    /// wait again, have ended, or talk to a server, and after 30 seconds of real time at the latest.
    ///
    /// # Panics
    ///
    /// If the new time exceeds what an [`Instant`] can hold.
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
        // Before any thread is woken: a thread that waits again removes itself.
        state.awake.extend(woken.into_iter().flatten());
        // Lock order: a waiting thread holds its monitor's lock while it registers here, so a monitor must not be locked
        // below this lock.
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

    /// Sets the date and time of day, as an administrator or a time server does, forward or back. Nothing that is measured or
    /// waited for changes. It goes on with [`advance`](ManualClock::advance).
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use tinkex::clock::ManualClock;
    ///
    /// let manual = ManualClock::new();
    /// let (clock, start) = (manual.clock(), manual.clock().now());
    /// manual.set_wall(SystemTime::UNIX_EPOCH);
    /// manual.advance(Duration::from_secs(60));
    /// assert_eq!(clock.wall(), SystemTime::UNIX_EPOCH + Duration::from_secs(60));
    /// assert_eq!(clock.now() - start, Duration::from_secs(60));
    /// ```
    pub fn set_wall(&self, to: SystemTime) {
        let mut state = self.0.state.lock();
        state.wall = (to, state.now);
    }

    /// The remaining time of each wait, shortest first. Waits without a deadline are left out.
    #[must_use]
    pub fn waits(&self) -> Vec<Duration> {
        self.0.state.lock().remaining()
    }

    /// Blocks until `expected` accepts the list of [`waits`](ManualClock::waits).
    ///
    /// # Panics
    ///
    /// If that takes more than 30 seconds of real time.
    pub fn until_waiting(&self, mut expected: impl FnMut(&[Duration]) -> bool) {
        let patience = Instant::now() + PATIENCE;
        let mut state = self.0.state.lock();
        while !expected(&state.remaining()) {
            let waited = self.0.changed.wait_until(&mut state, patience);
            assert!(!waited.timed_out(), "the expected wait did not begin; waiting: {:?}", state.remaining());
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.0.state.lock().now
    }

    pub(super) fn wall(&self) -> SystemTime {
        let state = self.0.state.lock();
        let (set_to, set_at) = state.wall;
        set_to + state.now.duration_since(set_at)
    }

    /// See [`Clock::receive_until`].
    pub(super) fn receive_until<T>(&self, from: &Receiver<T>, deadline: Option<Instant>) -> Received<T> {
        if let Ok(message) = from.try_recv() {
            return Received::Message(message);
        }
        let (tick, ticks) = bounded(1);
        let Some(_wait) = self.register(deadline, false, Waker::Channel(tick)) else {
            return Received::Deadline;
        };
        select! {
            recv(from) -> message => message.map_or(Received::Disconnected, Received::Message),
            recv(ticks) -> _ => Received::Deadline,
        }
    }

    /// See [`Clock::wait_until`] and [`Clock::watch_until`].
    pub(super) fn wait_until<T: Send + 'static>(
        &self,
        monitor: &Arc<Monitor<T>>,
        guard: &mut MutexGuard<'_, T>,
        deadline: Option<Instant>,
        hidden: bool,
    ) -> bool {
        let Some(_wait) = self.register(deadline, hidden, Waker::Monitor(Arc::clone(monitor) as _)) else {
            return true;
        };
        monitor.changed.wait(guard);
        deadline.is_some_and(|at| self.now() >= at)
    }

    /// Records a wait, unless its deadline has already passed.
    fn register(&self, deadline: Option<Instant>, hidden: bool, waker: Waker) -> Option<Registered<'_>> {
        let thread = thread::current().id();
        let mut state = self.0.state.lock();
        if deadline.is_some_and(|at| at <= state.now) {
            return None;
        }
        let id = state.next_wait;
        state.next_wait += 1;
        state.waits.insert(id, Wait { thread, own: OWN.get(), hidden, deadline, waker });
        state.awake.remove(&thread);
        drop(state);
        self.0.changed.notify_all();
        Some(Registered { clock: self, id })
    }

    /// Makes an advance stop waiting for this thread.
    pub(super) fn settle(&self, thread: ThreadId) {
        self.0.state.lock().awake.remove(&thread);
        self.0.changed.notify_all();
    }
}

impl ManualState {
    fn remaining(&self) -> Vec<Duration> {
        let shown = self.waits.values().filter(|wait| !wait.hidden);
        let mut all: Vec<_> =
            shown.filter_map(|wait| wait.deadline).map(|at| at.saturating_duration_since(self.now)).collect();
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

/// Ends a wait on drop.
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

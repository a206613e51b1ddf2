//! A clock that a test drives.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Sender;
use parking_lot::{Condvar, Mutex};

use super::{Clock, Monitor, OWN};

/// How long, in real time, [`ManualClock`] waits for threads before it gives up: a test that hangs is worse than one that
/// fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A clock that a test drives.
///
/// It stands still until it is told to move. Give a client its [`clock`](ManualClock::clock) through
/// [`ConfigBuilder::clock`](crate::config::ConfigBuilder::clock).
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
/// // The next heartbeat is due in 10 seconds. A minute of them takes no time at all.
/// for _ in 0..6 {
///     manual.until_waiting(|waits| waits.contains(&Duration::from_secs(10)));
///     manual.advance(Duration::from_secs(10));
/// }
/// println!("what is waited for now: {:?}", manual.waits());
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
pub(super) enum Waker {
    Channel(Sender<()>),
    Monitor(Arc<dyn Wake>),
}

pub(super) trait Wake: Send + Sync {
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
    /// have ended, or talk to a server; at the latest after 30 seconds of real time.
    ///
    /// # Panics
    ///
    /// When the time would be beyond what an [`Instant`] can hold.
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

    pub(super) fn now(&self) -> Instant {
        self.0.state.lock().now
    }

    pub(super) fn wall(&self) -> SystemTime {
        let state = self.0.state.lock();
        state.wall_at_start + state.now.duration_since(state.start)
    }

    /// Enters a wait, unless its deadline has passed already.
    pub(super) fn register(&self, deadline: Option<Instant>, waker: Waker) -> Option<Registered<'_>> {
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
    pub(super) fn settle(&self, thread: ThreadId) {
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

pub(super) struct Registered<'a> {
    clock: &'a ManualClock,
    id: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.clock.0.state.lock().waits.remove(&self.id);
        self.clock.0.changed.notify_all();
    }
}

//! The connections of one client that no request uses, and what is known of the others.
//!
//! ureq's own pool looks at its connections only when a request uses it, and so keeps them open for ever after the last one. Here
//! a thread closes them in time: one that the client has anyway, or one of its own, which runs only while there are any. When the process has no descriptors left, they are closed at
//! once, and a request waits for one that another request gives up.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;
use ureq::http::uri::{Authority, Scheme};
use ureq::unversioned::transport::{ConnectionDetails, ShutdownHandle, Transport};

use super::super::cancel::RequestHandle;
use super::super::request::Purpose;
use super::current::current;
use crate::clock::{Clock, Monitor};
use crate::config::Config;
use crate::process::Process;
use crate::rules::idle_list::IdleList;
use crate::threads::{OwnedThread, ThreadOptions};

/// How long a drop waits for the thread, which is never blocked.
const DROP_LIMIT: Duration = Duration::from_millis(500);

/// Which requests use a connection: those of one purpose, or those to other servers than the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Group {
    Service(Purpose),
    External,
}

impl Group {
    const COUNT: usize = Purpose::ALL.len() + 1;

    fn index(self) -> usize {
        match self {
            Group::Service(purpose) => purpose as usize,
            Group::External => Purpose::ALL.len(),
        }
    }
}

/// What a connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route(Scheme, Authority, Option<ureq::Proxy>);

impl Route {
    pub(super) fn of(details: &ConnectionDetails<'_>) -> Option<Self> {
        let (scheme, authority) = (details.uri.scheme()?.clone(), details.uri.authority()?.clone());
        Some(Route(scheme, authority, details.config.proxy().cloned()))
    }
}

/// A connection, as ureq holds it.
type AnyTransport = Box<dyn Transport>;

/// See the module.
#[derive(Debug)]
pub(in crate::http) struct Connections {
    state: Arc<Monitor<State>>,
    /// For those who wait for a descriptor.
    given_up: Arc<Monitor<GivenUp>>,
    options: ThreadOptions,
    thread: Mutex<Option<OwnedThread>>,
    process: Process,
}

struct State {
    groups: [GroupState; Group::COUNT],
    /// Whether the thread runs that closes them in time.
    is_watched: bool,
    /// Whether another thread does that.
    is_tended: bool,
    /// The polls that use connections, the longest first, and some that have ended.
    polls: Vec<Weak<RequestHandle>>,
    /// When a poll last gave its connection up.
    yielded_at: Option<Instant>,
}

struct GroupState {
    idle: IdleList<Route, AnyTransport>,
    /// How many connections requests use.
    used: usize,
    closed: bool,
    /// What ends with the group and is no connection: name lookups.
    interrupts: Vec<Weak<dyn ShutdownHandle>>,
}

#[derive(Debug, Default)]
struct GivenUp {
    /// How many connections requests have given up so far.
    count: u64,
    waiting: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("is_watched", &self.is_watched).finish_non_exhaustive()
    }
}

impl Connections {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        let (max, options) = (config.max_idle_connections(), config.thread_options());
        let group = || GroupState {
            idle: IdleList::new(max, options.idle_retention),
            used: 0,
            closed: false,
            interrupts: Vec::new(),
        };
        let groups = std::array::from_fn(|_| group());
        Arc::new(Connections {
            state: Monitor::new(State {
                groups,
                is_watched: false,
                is_tended: false,
                polls: Vec::new(),
                yielded_at: None,
            }),
            given_up: Monitor::new(GivenUp::default()),
            options,
            thread: Mutex::default(),
            process: Process::current(),
        })
    }

    /// An open connection that leads there, if one is idle.
    pub(super) fn take(&self, group: Group, route: &Route) -> Option<AnyTransport> {
        loop {
            let now = self.options.clock.now();
            let mut connection = self.state.lock().groups[group.index()].idle.take(route, now)?;
            if connection.is_open() {
                return Some(connection);
            }
        }
    }

    /// A request uses a connection from now on.
    pub(super) fn begin_use(&self, group: Group) {
        let mut state = self.state.lock();
        let own = &mut state.groups[group.index()];
        own.used += 1;
        let used = own.used;
        if group == Group::Service(Purpose::Futures) {
            // Not each time: there may be many.
            if state.polls.len() > 2 * used {
                state.polls.retain(|poll| poll.strong_count() > 0);
            }
            state.polls.extend(current().map(|poll| Arc::downgrade(&poll)));
        }
    }

    /// A request no longer uses this connection, which may serve another if it has a route.
    pub(super) fn end_use(&self, group: Group, connection: AnyTransport, route: Option<Route>) {
        // In a fork the lock may never be released.
        if !self.process.is_current() {
            return;
        }
        let now = self.options.clock.now();
        let mut state = self.state.lock();
        let own = &mut state.groups[group.index()];
        own.used -= 1;
        let gone = match route {
            Some(route) if !own.closed => own.idle.put(route, connection, now),
            _ => Some(connection),
        };
        let starts = state.starts_watch();
        drop(state);
        drop(gone);
        if starts {
            self.start_watch();
        }
        let mut given_up = self.given_up.lock();
        given_up.count += 1;
        if given_up.waiting > 0 {
            self.given_up.notify_one();
        }
    }

    /// Closes all idle connections, since there are no descriptors left, and returns how many there were.
    pub(super) fn close_idle(&self) -> usize {
        let idle = self.take_all();
        if !idle.is_empty() {
            debug!("no descriptors are left: closing {} idle connections", idle.len());
        }
        idle.len()
    }

    fn take_all(&self) -> Vec<AnyTransport> {
        self.state.lock().groups.iter_mut().flat_map(|group| group.idle.take_all()).collect()
    }

    /// How many connections were given up so far.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up.lock().count
    }

    /// Whether a request of this group waits for a descriptor: if others have connections, which they will give up. A poll that
    /// fails has the poller end others, which is sooner.
    pub(super) fn is_worth_waiting(&self, group: Group) -> bool {
        let state = self.state.lock();
        let used = |group: Group| state.groups[group.index()].used;
        let polls = Group::Service(Purpose::Futures);
        if group == polls && used(polls) > 0 {
            return false;
        }
        state.groups.iter().any(|group| group.used > 0)
    }

    /// Waits, in real time, until more connections than these were given up. Returns whether that was in time.
    pub(super) fn wait_for_descriptor(&self, before: u64, until: Instant) -> bool {
        let mut given_up = self.given_up.lock();
        given_up.waiting += 1;
        let mut expired = false;
        while given_up.count == before && !expired {
            expired = Clock::system().wait_until(&self.given_up, &mut given_up, Some(until));
        }
        given_up.waiting -= 1;
        !expired
    }

    /// Has a poll give up its connection: the service may hold it for a minute, while other requests wait for a descriptor. One at
    /// a time, since the poller then ends others, too.
    pub(super) fn yield_poll(&self, pause: Duration) {
        let now = Clock::system().now();
        let mut state = self.state.lock();
        if state.yielded_at.is_some_and(|at| now < at + pause) {
            return;
        }
        state.yielded_at = Some(now);
        let polls = state.polls.clone();
        drop(state);
        polls.iter().filter_map(Weak::upgrade).find(|poll| poll.yield_connection());
    }

    /// Has this shut down with the group. Returns false if the group is closed.
    pub(super) fn interrupt_on_close(&self, group: Group, interrupt: Weak<dyn ShutdownHandle>) -> bool {
        let mut state = self.state.lock();
        let group = &mut state.groups[group.index()];
        group.interrupts.retain(|other| other.strong_count() > 0);
        group.interrupts.push(interrupt);
        !group.closed
    }

    /// Closes the idle connections of a group, and keeps no more.
    pub(super) fn close(&self, group: Group) {
        if !self.process.is_current() {
            return;
        }
        let mut state = self.state.lock();
        let own = &mut state.groups[group.index()];
        own.closed = true;
        let (idle, interrupts) = (own.idle.take_all(), std::mem::take(&mut own.interrupts));
        drop(state);
        drop(idle);
        interrupts.iter().filter_map(Weak::upgrade).for_each(|interrupt| interrupt.shutdown());
        self.state.notify_all();
        self.given_up.lock().count += 1;
        self.given_up.notify_all();
    }

    /// Has the calling thread close idle connections in time, in place of a thread of its own. It must look at least as often as
    /// they expire.
    pub(in crate::http) fn tend(&self) -> Tending<'_> {
        self.state.lock().is_tended = true;
        self.state.notify_all();
        Tending(self)
    }

    fn start_watch(&self) {
        let (state, clock) = (Arc::clone(&self.state), self.options.clock.clone());
        match OwnedThread::spawn(&self.options, "idle", move || watch(&state, &clock)) {
            Ok(thread) => *self.thread.lock() = Some(thread),
            // The next connection that becomes idle tries again. Nothing is logged: ureq's lock is held here.
            Err(_) => self.state.lock().is_watched = false,
        }
    }

    /// Joins the thread, once all groups are closed.
    pub(in crate::http) fn join_by(&self, deadline: Instant) {
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            thread.join_by(deadline);
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        if self.process.is_current() {
            // With none left, the thread ends.
            drop(self.take_all());
            self.state.notify_all();
            self.join_by(Clock::system().now() + DROP_LIMIT);
        }
    }
}

/// The calling thread closes idle connections in time, until this is dropped.
pub(crate) struct Tending<'a>(&'a Connections);

impl Tending<'_> {
    /// When the next one expires.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.0.state.lock().due()
    }

    /// Closes those whose time is over.
    pub(crate) fn close_expired(&self) {
        let expired = self.0.state.lock().take_expired(self.0.options.clock.now());
        drop(expired);
    }
}

impl Drop for Tending<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_tended = false;
        let starts = state.starts_watch();
        drop(state);
        if starts {
            self.0.start_watch();
        }
    }
}

impl State {
    /// Whether a thread has to be started that closes idle connections; it then counts as running.
    fn starts_watch(&mut self) -> bool {
        let starts = !self.is_watched && !self.is_tended && self.due().is_some();
        self.is_watched |= starts;
        starts
    }

    fn take_expired(&mut self, now: Instant) -> Vec<AnyTransport> {
        self.groups.iter_mut().flat_map(|group| group.idle.take_expired(now)).collect()
    }

    fn due(&self) -> Option<Instant> {
        self.groups.iter().filter_map(|group| group.idle.due()).min()
    }
}

/// Closes connections whose time is over, until none is idle or another thread does that.
fn watch(monitor: &Arc<Monitor<State>>, clock: &Clock) {
    let mut state = monitor.lock();
    while !state.is_tended {
        let expired = state.take_expired(clock.now());
        if !expired.is_empty() {
            drop(state);
            drop(expired);
            state = monitor.lock();
            continue;
        }
        let Some(due) = state.due() else { break };
        clock.watch_until(monitor, &mut state, Some(due));
    }
    state.is_watched = false;
}

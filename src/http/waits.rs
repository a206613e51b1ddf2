//! Says which calls wait, why and for how long: in the log, and to observers. The only place that does.
//!
//! [`rules::wait_log`](crate::rules::wait_log) decides what is said and when. A thread of its own carries that out, since a call
//! that waits may be blocked in a socket. It runs only while calls are under way, and for a while after.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::Mutex;

use super::Http;
use crate::clock::{Clock, Monitor};
use crate::config::{Config, MAX_DURATION};
use crate::dispatcher::EventDispatcher;
use crate::error::{ErrorKind, Limit, Result};
use crate::observer::{Event, WaitEnded, WaitKind, Waiting};
use crate::process::Process;
use crate::rules::wait_log::{Doing, PATIENCE, WaitCause, WaitEnd, WaitId, WaitLog};
use crate::threads::{OnFull, OwnedThread, ThreadOptions};

/// The target of the lines in the log, for programs that show waits by themselves.
const TARGET: &str = "tinkex::waiting";

/// The calls of one client that wait.
pub(crate) struct Waits {
    shared: Arc<Shared>,
    options: ThreadOptions,
    thread: Mutex<Option<OwnedThread>>,
    timeout_drop: Duration,
    process: Process,
}

struct Shared {
    state: Arc<Monitor<State>>,
    clock: Clock,
    /// Weak: the observers are closed with the client, which a wait may outlive.
    events: Weak<EventDispatcher>,
}

#[derive(Default)]
struct State {
    log: WaitLog,
    /// When the thread looks again; `None` if nothing is due.
    wakes_at: Option<Instant>,
    is_running: bool,
    closed: bool,
}

/// A call that may have to wait, until it is dropped.
pub(crate) struct Wait {
    shared: Arc<Shared>,
    id: WaitId,
    began: Instant,
    /// Attempts that its request's handle counted before.
    attempts_before: u32,
}

impl Waits {
    pub(super) fn new(config: &Config, events: &Arc<EventDispatcher>) -> Self {
        let (state, clock, events) = (Monitor::new(State::default()), config.clock().clone(), Arc::downgrade(events));
        Waits {
            shared: Arc::new(Shared { state, clock, events }),
            options: config.thread_options(),
            thread: Mutex::default(),
            timeout_drop: config.timeout_drop().min(MAX_DURATION),
            process: Process::current(),
        }
    }

    /// A call begins that may have to wait. `patience` is the wait that is worth a line.
    fn begin(&self, kind: WaitKind, operation: &'static str, patience: Duration, end: WaitEnd, since: Instant) -> Wait {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        let id = state.log.begin(kind, operation, patience, end, since);
        let starts = !state.is_running && !state.closed;
        state.is_running |= starts;
        shared.wake_for(&mut state, id);
        drop(state);
        if starts {
            self.start();
        }
        Wait { shared: Arc::clone(shared), id, began: since, attempts_before: 0 }
    }

    fn start(&self) {
        let (shared, retention) = (Arc::clone(&self.shared), self.options.idle_retention);
        match OwnedThread::spawn(&self.options, "waits", move || shared.watch(retention)) {
            Ok(thread) => *self.thread.lock() = Some(thread),
            Err(error) => {
                // Calls need no such thread. The next one tries again.
                self.shared.state.lock().is_running = false;
                debug!("{error}; waits are not reported");
            }
        }
    }

    /// Says nothing more, and ends the thread.
    pub(super) fn close(&self, deadline: Instant) {
        // In a fork the thread does not exist, and may have held the lock.
        if !self.process.is_current() {
            return;
        }
        self.shared.state.lock().closed = true;
        self.shared.state.notify_all();
        if let Some(thread) = &*self.thread.lock() {
            thread.join_by(deadline);
        }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.close(Clock::system().now() + self.timeout_drop);
    }
}

impl Shared {
    /// Says what is due, until nothing is under way any more.
    fn watch(&self, retention: Duration) {
        let mut state = self.state.lock();
        while !state.closed {
            let now = self.clock.now();
            let lines = state.log.report(now);
            if !lines.is_empty() {
                // Without the lock: the program's logger may use the client.
                drop(state);
                lines.into_iter().for_each(|line| self.say(line));
                state = self.state.lock();
                continue;
            }
            state.wakes_at = state.log.due();
            let until = state.wakes_at.unwrap_or(now + retention);
            // No need to stay after that: such a thread is started once in ten seconds at most.
            if self.clock.watch_until(&self.state, &mut state, Some(until)) && state.log.is_empty() {
                break;
            }
        }
        state.wakes_at = None;
        state.is_running = false;
    }

    /// Has the thread look at this call in time.
    fn wake_for(&self, state: &mut State, id: WaitId) {
        let due = state.log.due_of(id);
        if due.is_some_and(|due| state.wakes_at.is_none_or(|wakes_at| due < wakes_at)) {
            state.wakes_at = due;
            self.state.notify_all();
        }
    }

    fn say(&self, waiting: Waiting) {
        warn!(target: TARGET, "{waiting}");
        self.emit(Event::Waiting(waiting));
    }

    fn ended(&self, ended: Option<WaitEnded>) {
        let Some(ended) = ended else { return };
        warn!(target: TARGET, "{ended}");
        self.emit(Event::WaitEnded(ended));
    }

    fn emit(&self, event: Event) {
        if let Some(events) = self.events.upgrade() {
            events.emit(event);
        }
    }
}

impl Wait {
    /// Why it waits.
    pub(crate) fn note(&self, cause: WaitCause) {
        let mut state = self.shared.state.lock();
        state.log.note(self.id, cause);
        self.shared.wake_for(&mut state, self.id);
    }

    /// Runs something that may block, and is then the reason of the wait.
    pub(crate) fn during<T>(&self, doing: Doing, run: impl FnOnce() -> T) -> T {
        self.set_doing(doing);
        let value = run();
        self.shared.state.lock().log.set_doing(self.id, None);
        value
    }

    /// What it does from now on.
    pub(crate) fn set_doing(&self, doing: Doing) {
        self.shared.state.lock().log.set_doing(self.id, Some(doing));
    }

    /// It has made progress, so its wait begins anew.
    pub(crate) fn progress(&self) {
        let ended = self.shared.state.lock().log.progress(self.id, self.shared.clock.now());
        self.shared.ended(ended);
    }

    /// The attempts that the handle of its request has counted before.
    pub(super) fn after(mut self, attempts_before: u32) -> Self {
        self.attempts_before = attempts_before;
        self
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn attempts_before(&self) -> u32 {
        self.attempts_before
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        let ended = state.log.end(self.id, self.shared.clock.now()).filter(|_| !state.closed);
        drop(state);
        self.shared.ended(ended);
    }
}

impl Http {
    /// A call begins that may have to wait. `patience` is the wait that is worth a line.
    pub(crate) fn wait(
        &self,
        kind: WaitKind,
        operation: &'static str,
        patience: Duration,
        end: WaitEnd,
        since: Instant,
    ) -> Wait {
        self.waits.begin(kind, operation, patience, end, since)
    }

    /// Waits for room in a queue of the client, if it is full and the call waits for that.
    pub(crate) fn wait_for_room<T>(
        &self,
        kind: WaitKind,
        operation: &'static str,
        on_full: OnFull,
        reserve: impl Fn(OnFull) -> Result<T>,
    ) -> Result<T> {
        let OnFull::WaitUntil(deadline) = on_full else { return reserve(on_full) };
        match reserve(OnFull::Fail) {
            Err(error) if error.kind() == ErrorKind::QueueFull => {}
            outcome => return outcome,
        }
        let end = deadline.map_or(WaitEnd::Never, |at| WaitEnd::At(at, Limit::Operation.setting()));
        let wait = self.wait(kind, operation, PATIENCE, end, self.config.clock().now());
        wait.during(Doing::Queued("the client's queue is full"), || reserve(on_full))
    }

    /// Reports no more waits.
    pub(crate) fn close_waits(&self, deadline: Instant) {
        self.waits.close(deadline);
    }
}

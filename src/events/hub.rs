//! Passes on what happens: to the program's observers, on a thread of their own, and to the telemetry.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use log::{debug, error, warn};

use super::{Event, Observers, QueueStateUpdate};
use crate::clock::Clock;
use crate::config::Config;
use crate::types::RequestKind;
use crate::worker::{Pool, panic_text};

/// So many events may wait for a slow observer; more are dropped.
const MAX_WAITING: usize = 1024;

/// Takes note of what happens, at once.
pub(crate) trait Report: Send + Sync {
    /// Called on whichever thread noticed it, without any lock. Must not block.
    fn note(&self, event: &Event);

    /// A queue is paused, which has not been said of its client lately.
    fn note_paused(&self, update: &QueueStateUpdate, kind: RequestKind);
}

/// Where everything that happens in a client is told. With nobody to tell, that costs the look whether there is somebody.
pub(crate) struct Events {
    told: Option<Told>,
    report: OnceLock<Arc<dyn Report>>,
}

/// The observers' thread, which there is only while there is something to tell.
struct Told {
    pool: Pool<Event>,
    backlog: Arc<Backlog>,
    /// Whether they want more than the states of queues.
    all: bool,
    overran: AtomicBool,
    closed: AtomicBool,
    /// How long a drop without a close may take.
    timeout_drop: Duration,
}

#[derive(Default)]
struct Backlog {
    waiting: AtomicUsize,
    missed: AtomicU64,
}

impl Events {
    pub(crate) fn new(config: &Config) -> Self {
        let observers = config.observers().clone();
        let all = observers.all.is_some();
        let told = (all || observers.queue_states.is_some()).then(|| {
            let backlog = Arc::<Backlog>::default();
            let counts = Arc::clone(&backlog);
            let pool = Pool::new(config, "observer", 1, move |event| {
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
                let missed = counts.missed.swap(0, Ordering::Relaxed);
                if missed > 0 {
                    observers.tell(&Event::Missed { count: missed });
                }
                observers.tell(&event);
            });
            let (overran, closed) = (AtomicBool::new(false), AtomicBool::new(false));
            Told { pool, backlog, all, overran, closed, timeout_drop: config.timeout_drop() }
        });
        Events { told, report: OnceLock::new() }
    }

    /// Tells this one, too, from now on.
    pub(crate) fn report_to(&self, report: Arc<dyn Report>) {
        // There is one session, and so one report, at most.
        self.report.set(report).ok();
    }

    /// Whether the program wants to know everything.
    pub(crate) fn is_observed(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.all)
    }

    /// Whether anybody wants to know of failures.
    pub(crate) fn is_heard(&self) -> bool {
        self.is_observed() || self.report.get().is_some()
    }

    /// Tells an event. Called without any lock, since a logger may be the program's and use the client.
    pub(crate) fn tell(&self, event: Event) {
        if let Some(report) = self.report.get() {
            report.note(&event);
        }
        if let Some(told) = self.told.as_ref().filter(|told| told.all || matches!(event, Event::QueueState(_))) {
            told.tell(event);
        }
    }

    /// A queue is paused, which has not been said of its client lately. The observers are told of it as of all states.
    pub(crate) fn report_paused(&self, update: &QueueStateUpdate, kind: RequestKind) {
        if let Some(report) = self.report.get() {
            report.note_paused(update, kind);
        }
    }

    /// Lets the observers hear what waits, up to the deadline in real time, and ends their thread.
    pub(crate) fn close(&self, deadline: Instant) {
        if let Some(told) = &self.told {
            told.close(deadline);
        }
    }
}

impl Told {
    fn tell(&self, event: Event) {
        let backlog = &self.backlog;
        if backlog.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            backlog.waiting.fetch_sub(1, Ordering::Relaxed);
            backlog.missed.fetch_add(1, Ordering::Relaxed);
            if !self.overran.swap(true, Ordering::Relaxed) {
                warn!("the observer is too slow; some events are dropped");
            }
        } else if let Err((_, error)) = self.pool.submit(event) {
            backlog.waiting.fetch_sub(1, Ordering::Relaxed);
            debug!("an event was not told: {error}");
        }
    }

    /// Does nothing the second time.
    fn close(&self, deadline: Instant) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.pool.finish();
        self.pool.join_by(deadline);
        self.pool.close();
        let untold = self.backlog.waiting.load(Ordering::Relaxed);
        if untold > 0 {
            warn!("the client was closed with {untold} events that its observer was too slow to hear");
        }
    }
}

/// A client that comes to nothing, or has no session, is not closed.
impl Drop for Told {
    fn drop(&mut self) {
        self.close(Clock::system().now() + self.timeout_drop);
    }
}

impl Observers {
    /// Calls the program, whose panics stay here: one observer's does not keep the event from the other.
    fn tell(&self, event: &Event) {
        let guarded = |call: &dyn Fn()| {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
                error!("an observer panicked: {}", panic_text(&*panic));
            }
        };
        if let Some(observer) = &self.all {
            guarded(&|| observer.on_event(event));
        }
        if let (Some(observer), Event::QueueState(update)) = (&self.queue_states, event) {
            guarded(&|| observer.on_queue_state(update));
        }
    }
}

//! Delivers events to the program's observers, on a dedicated thread, and to telemetry.
//!
//! The observers run the program's code, which may block, panic or use the client. Hence the dedicated thread and the bounded
//! queue, and no event is emitted under a lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use log::{debug, error, warn};

use crate::clock::Clock;
use crate::config::{Config, MAX_DURATION};
use crate::observer::{Event, Observer, Observers};
use crate::threads::{Pool, panic_text};

/// The maximum number of events queued for a slow observer, as [`Observer::on_event`] documents it. Further ones are dropped.
const MAX_WAITING: usize = 1024;

/// Where everything that happens in a client is emitted. Without observers and telemetry, emitting costs one check.
pub(crate) struct EventDispatcher {
    observed: Option<ObserverThread>,
    telemetry: OnceLock<Arc<dyn Observer>>,
}

/// The observers' thread, which runs only while events are queued.
struct ObserverThread {
    pool: Pool<Event>,
    backlog: Arc<Backlog>,
    /// Whether the observers want more than queue states.
    all: bool,
    overran: AtomicBool,
    closed: AtomicBool,
    /// How long a drop without a close may block.
    timeout_drop: Duration,
}

/// Counters that guard no other data, so relaxed ordering suffices.
#[derive(Default)]
struct Backlog {
    waiting: AtomicUsize,
    missed: AtomicU64,
}

impl EventDispatcher {
    pub(crate) fn new(config: &Config) -> Self {
        let observers = config.observers().clone();
        let all = observers.all.is_some();
        let observed = (all || observers.queue_states.is_some()).then(|| {
            let backlog = Arc::<Backlog>::default();
            let counts = Arc::clone(&backlog);
            let pool = Pool::new(&config.thread_options(), "observer", 1, move |event| {
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
                let missed = counts.missed.swap(0, Ordering::Relaxed);
                if missed > 0 {
                    observers.notify(&Event::Missed { count: missed });
                }
                observers.notify(&event);
            });
            let (overran, closed) = (AtomicBool::new(false), AtomicBool::new(false));
            let timeout_drop = config.timeout_drop().min(MAX_DURATION);
            ObserverThread { pool, backlog, all, overran, closed, timeout_drop }
        });
        EventDispatcher { observed, telemetry: OnceLock::new() }
    }

    /// Also passes all further events to telemetry, on the thread that emits them, so telemetry must not block.
    pub(crate) fn set_telemetry(&self, telemetry: Arc<dyn Observer>) {
        // A client has one session, so this is called at most once.
        self.telemetry.set(telemetry).ok();
    }

    /// Whether the program observes all events.
    pub(crate) fn is_observed(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.all)
    }

    /// Whether failures are observed, by the program or by telemetry.
    pub(crate) fn wants_failures(&self) -> bool {
        self.is_observed() || self.telemetry.get().is_some()
    }

    /// Emits an event. Must be called without any lock: the program's logger may use the client.
    pub(crate) fn emit(&self, event: Event) {
        if let Some(telemetry) = self.telemetry.get() {
            telemetry.on_event(&event);
        }
        if let Some(observed) = self.observed.as_ref().filter(|it| it.all || matches!(event, Event::QueueState(_))) {
            observed.enqueue(event);
        }
    }

    /// Delivers the queued events, until the deadline in real time, and ends the observers' thread.
    pub(crate) fn close(&self, deadline: Instant) {
        if let Some(observed) = &self.observed {
            observed.close(deadline);
        }
    }
}

impl ObserverThread {
    fn enqueue(&self, event: Event) {
        let backlog = &self.backlog;
        if backlog.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            backlog.waiting.fetch_sub(1, Ordering::Relaxed);
            backlog.missed.fetch_add(1, Ordering::Relaxed);
            if !self.overran.swap(true, Ordering::Relaxed) {
                warn!("the observer is too slow; dropping events");
            }
        } else if let Err((_, error)) = self.pool.submit(event) {
            backlog.waiting.fetch_sub(1, Ordering::Relaxed);
            debug!("an event was not delivered: {error}");
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
        let undelivered = self.backlog.waiting.load(Ordering::Relaxed);
        if undelivered > 0 {
            warn!("the client was closed with {undelivered} events not yet delivered to its observer");
        }
    }
}

/// A client whose connect failed, or that has no session, is dropped without a close.
impl Drop for ObserverThread {
    fn drop(&mut self) {
        self.close(Clock::system().now() + self.timeout_drop);
    }
}

impl Observers {
    /// Calls the program's observers. A panic in one is caught, so that the other still gets the event.
    fn notify(&self, event: &Event) {
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

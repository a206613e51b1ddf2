//! What the clients of one connection to the service share: its HTTP connections, session id, counters, poller,
//! submitting threads, sampling gate, heartbeat and telemetry.

mod gate;
mod heartbeat;
mod telemetry;

use std::fmt;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use log::{Level, log};
use parking_lot::Mutex;

pub(crate) use gate::Gate;
use telemetry::Reporter;
pub use telemetry::Telemetry;

use crate::clock::{Clock, Deadline};
use crate::config::{Config, MAX_DURATION};
use crate::error::Result;
use crate::http::{Http, Limits, PROTOCOL_VERSION, Purpose, Request};
use crate::pending::{Poller, PollerHandle};
use crate::rules::seats::GroupId;
use crate::threads::{Budget, OwnedThread, Pool};
use crate::types::wire::{CreateSessionRequest, CreateSessionResponse};

/// A job for a submitting thread.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// Something with threads of its own that ends with the session.
pub(crate) trait Dependent: Send + Sync {
    /// Ends it, within a real time limit.
    fn close(&self, deadline: Instant);
}

/// One session with the service. Threads hold its parts, never the session itself.
pub(crate) struct Session {
    http: Arc<Http>,
    id: String,
    poller: Poller,
    submitters: Arc<Pool<Task>>,
    budget: Budget,
    gate: Arc<Gate>,
    heartbeat: OwnedThread,
    reporter: Option<Reporter>,
    dependents: Mutex<Vec<Weak<dyn Dependent>>>,
    next_model: Arc<AtomicU64>,
    next_sampling_session: Arc<AtomicU64>,
    next_client: AtomicU64,
    closed: AtomicBool,
}

impl Session {
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let http = Arc::new(Http::new(config)?);
        let request = CreateSessionRequest {
            tags: config.tags().into(),
            user_metadata: Some(std::borrow::Cow::Borrowed(config.user_metadata())),
            sdk_version: PROTOCOL_VERSION.into(),
        };
        let deadline = Deadline::of_operation(config.clock(), config.timeout_operation());
        let limits = Limits { deadline, ..http.limits("create_session", Purpose::Session) };
        let session: CreateSessionResponse = http.send_json(Request::post("create_session", &[]), &limits, &request)?;
        for (message, level) in [
            (&session.info_message, Level::Info),
            (&session.warning_message, Level::Warn),
            (&session.error_message, Level::Error),
        ] {
            if let Some(message) = message {
                log!(level, "the service says: {message}");
            }
        }
        let poller = Poller::spawn(&http)?;
        let heartbeat = {
            let (http, id) = (Arc::clone(&http), session.session_id.clone());
            OwnedThread::spawn(&config.thread_options(), "heartbeat", move || heartbeat::run(&http, &id))
        };
        let heartbeat = heartbeat.inspect_err(|_| poller.close(deadline_in(config.timeout_drop())))?;
        Ok(Session {
            reporter: Reporter::spawn(&http, &session.session_id),
            id: session.session_id,
            poller,
            submitters: Arc::new(Pool::new(
                &config.thread_options(),
                "submit",
                config.max_sampling_threads(),
                |task: Task| task(),
            )),
            budget: Budget::new(config.clock().clone(), config.max_queued(), config.max_queued_bytes()),
            gate: Gate::of(config),
            heartbeat,
            dependents: Mutex::default(),
            next_model: Arc::default(),
            next_sampling_session: Arc::default(),
            next_client: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            http,
        })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn http(&self) -> &Arc<Http> {
        &self.http
    }

    pub(crate) fn config(&self) -> &Config {
        self.http.config()
    }

    pub(crate) fn poller(&self) -> &PollerHandle {
        self.poller.handle()
    }

    pub(crate) fn submitters(&self) -> &Arc<Pool<Task>> {
        &self.submitters
    }

    pub(crate) fn telemetry(&self) -> Telemetry {
        Reporter::handle(self.reporter.as_ref())
    }

    /// Bounds what waits for the submitting threads.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// Counts the models of the session.
    pub(crate) fn models(&self) -> &Arc<AtomicU64> {
        &self.next_model
    }

    /// One counter for create_sampling_session and the unnamed save_weights_for_sampler.
    pub(crate) fn sampling_sessions(&self) -> &Arc<AtomicU64> {
        &self.next_sampling_session
    }

    /// A group of its own in the poller.
    pub(crate) fn next_client(&self) -> GroupId {
        GroupId(self.next_client.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes the close of the session close this, too; at once when it is closed already.
    pub(crate) fn adopt(&self, dependent: Weak<dyn Dependent>) {
        let mut dependents = self.dependents.lock();
        dependents.retain(|dependent| dependent.strong_count() > 0);
        dependents.push(dependent);
        drop(dependents);
        if self.closed.load(Ordering::Acquire) {
            self.close_dependents(deadline_in(self.config().timeout_drop()));
        }
    }

    fn close_dependents(&self, deadline: Instant) {
        let dependents = std::mem::take(&mut *self.dependents.lock());
        for dependent in dependents.iter().filter_map(Weak::upgrade) {
            dependent.close(deadline);
        }
    }

    /// Ends everything: whoever waits gets `Closed`, and the threads end within the limit. Does nothing the second time.
    pub(crate) fn close(&self, limit: Duration) {
        let deadline = deadline_in(limit);
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(reporter) = &self.reporter {
            reporter.end();
        }
        self.http.close();
        self.gate.wake_all();
        self.budget.close();
        self.submitters.close();
        self.close_dependents(deadline);
        self.poller.close(deadline);
        self.heartbeat.join_by(deadline);
        self.submitters.join_by(deadline);
        if let Some(reporter) = &self.reporter {
            reporter.join_by(deadline);
        }
        self.http.events().close(deadline);
    }
}

/// Joining threads takes real time, whatever clock drives them.
fn deadline_in(limit: Duration) -> Instant {
    Clock::system().now() + limit.min(MAX_DURATION)
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close(self.config().timeout_drop());
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("base_url", &self.config().base_url())
            .finish_non_exhaustive()
    }
}

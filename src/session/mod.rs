//! What all clients of one session share: HTTP connections, counters, submitting threads, the sampling limiter, the heartbeat
//! and telemetry. It knows nothing of promises.

mod finish;
mod heartbeat_thread;
mod sampling_limiter;
mod sequence;
mod telemetry;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::{Level, log};
use parking_lot::Mutex;

pub(crate) use sampling_limiter::{SamplingLimiter, normalized_url};
pub(crate) use sequence::Sequence;
use telemetry::Reporter;
pub use telemetry::Telemetry;

use crate::clock::{Clock, Deadline};
use crate::config::{Config, MAX_DURATION};
use crate::error::Result;
use crate::http::{Http, Limits, PROTOCOL_VERSION, Purpose, Request, to_json};
use crate::observer::WaitKind;
use crate::rules::wait_log::{Doing, PATIENCE, WaitEnd};
use crate::threads::{Budget, OwnedThread, Pool};
use crate::types::FinishReason;
use crate::types::wire::{ClientConfig, ClientDynamicConfig, CreateSessionRequest, CreateSessionResponse};

/// A job for a submitting thread.
pub(crate) type Task = Box<dyn FnOnce() + Send>;

/// Something that ends with the session: the poller of its promises, the queue of each training client. A trait, since both
/// belong to layers above.
pub(crate) trait Dependent: Send + Sync {
    /// Ends its threads. Blocks up to the deadline, which is in real time.
    fn close(&self, deadline: Instant);
}

/// One session with the service, opened here or by another process. Threads hold parts of it, never the session itself: its drop
/// joins them.
pub(crate) struct Session {
    http: Arc<Http>,
    id: String,
    submitters: Arc<Pool<Task>>,
    budget: Budget,
    limiter: Arc<SamplingLimiter>,
    /// `None` if another process has opened the session: that one keeps it alive, reports on it and ends it.
    heartbeat: Option<OwnedThread>,
    reporter: Option<Reporter>,
    /// In the order of their adoption.
    dependents: Mutex<Vec<Arc<dyn Dependent>>>,
    models: Sequence,
    sampling_sessions: Sequence,
    closed: AtomicBool,
}

impl Session {
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let http = Arc::new(Http::new(config)?);
        let request = CreateSessionRequest {
            tags: config.tags().into(),
            user_metadata: Some(std::borrow::Cow::Borrowed(config.user_metadata())),
            sdk_version: PROTOCOL_VERSION.into(),
            project_id: config.project_id().map(Into::into),
            display_name: config.display_name().map(Into::into),
        };
        let deadline = Deadline::of_operation(config.clock(), config.timeout_operation());
        http.ask_client_config(deadline)?;
        let is_dynamic = http.has_client_config() && http.ask_dynamic_config(deadline);
        let limits = Limits { deadline, ..http.limits("create_session", Purpose::Session) };
        let body = to_json(limits.operation, &request)?;
        let session = http.send_and_read(&Request::post("create_session", &body), &limits, |response| {
            let session: CreateSessionResponse = response.json(limits.operation)?;
            for (message, level) in [
                (&session.info_message, Level::Info),
                (&session.warning_message, Level::Warn),
                (&session.error_message, Level::Error),
            ] {
                if let Some(message) = message.as_deref().and_then(|message| response.line(message)) {
                    log!(level, "the service says: {message}");
                }
            }
            Ok(session)
        })?;
        let heartbeat = {
            let (http, id) = (Arc::clone(&http), session.session_id.clone());
            OwnedThread::spawn(&config.thread_options(), "heartbeat", move || {
                heartbeat_thread::run(&http, &id, is_dynamic);
            })?
        };
        let reporter = Reporter::spawn(&http, &session.session_id);
        Ok(Session::of(http, session.session_id, Some(heartbeat), reporter))
    }

    /// Uses a session that another process has opened, with the settings of the service that it was given; without them, the
    /// service is asked.
    pub(crate) fn join(
        config: &Config,
        id: String,
        settings: Option<ClientConfig>,
        dynamic: Option<ClientDynamicConfig>,
    ) -> Result<Self> {
        let http = Arc::new(Http::new(config)?);
        match settings {
            Some(settings) => http.set_settings(settings, dynamic),
            None => {
                http.ask_client_config(Deadline::of_operation(config.clock(), config.timeout_operation()))?;
            }
        }
        Ok(Session::of(http, id, None, None))
    }

    fn of(http: Arc<Http>, id: String, heartbeat: Option<OwnedThread>, reporter: Option<Reporter>) -> Self {
        let config = http.config();
        // A service of 2025 has no such limit.
        let max_bytes = match http.has_client_config() {
            true => http.client_config().sample_dispatch_bytes_semaphore_size,
            false => usize::MAX,
        };
        Session {
            reporter,
            id,
            submitters: Arc::new(Pool::new(
                &config.thread_options(),
                "submit",
                config.max_sampling_threads(),
                |task: Task| task(),
            )),
            budget: Budget::new(config.clock().clone(), config.max_queued(), config.max_queued_bytes()),
            limiter: SamplingLimiter::of(config, max_bytes),
            heartbeat,
            dependents: Mutex::default(),
            models: Sequence::default(),
            sampling_sessions: Sequence::default(),
            closed: AtomicBool::new(false),
            http,
        }
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

    pub(crate) fn submitters(&self) -> &Arc<Pool<Task>> {
        &self.submitters
    }

    pub(crate) fn telemetry(&self) -> Telemetry {
        Reporter::handle(self.reporter.as_ref())
    }

    /// Bounds the queue of the submitting threads.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn limiter(&self) -> &Arc<SamplingLimiter> {
        &self.limiter
    }

    /// The sequence numbers of the session's models.
    pub(crate) fn models(&self) -> &Sequence {
        &self.models
    }

    /// The sequence numbers of the session's sampling sessions: create_sampling_session and save_weights_for_sampler without a
    /// name share them.
    pub(crate) fn sampling_sessions(&self) -> &Sequence {
        &self.sampling_sessions
    }

    /// Closes this when the session closes; at once if the session is already closed.
    pub(crate) fn adopt(&self, dependent: Arc<dyn Dependent>) {
        self.dependents.lock().push(Arc::clone(&dependent));
        // Only this one, and only if the close has not taken it: the close itself waits for the others to end.
        if self.closed.load(Ordering::Acquire) && self.release(&dependent) {
            dependent.close(deadline_in(self.config().timeout_drop()));
        }
    }

    /// Forgets a dependent. Returns whether it was still there, so that the caller has to close it.
    pub(crate) fn release(&self, dependent: &Arc<dyn Dependent>) -> bool {
        let mut dependents = self.dependents.lock();
        let before = dependents.len();
        dependents.retain(|other| !Arc::ptr_eq(other, dependent));
        dependents.len() < before
    }

    /// The latest first: the training queues hand promises to the poller, which was adopted before them.
    fn close_dependents(&self, deadline: Instant) {
        let dependents = std::mem::take(&mut *self.dependents.lock());
        for dependent in dependents.iter().rev() {
            dependent.close(deadline);
        }
    }

    /// Ends everything: each waiting thread gets `Closed`, and the threads end within the limit. A second call does nothing, and
    /// neither does one in a fork: the session belongs to the other process.
    ///
    /// The service is told first, which needs a connection. Then the connections go: the threads that are joined below wait on
    /// them.
    pub(crate) fn close(&self, reason: FinishReason, detail: Option<&str>, limit: Duration) {
        let deadline = deadline_in(limit);
        if !self.http.process().is_current() {
            return;
        }
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let now = self.config().clock().now();
        let end = WaitEnd::At(now + limit.min(MAX_DURATION), "the time limit of the close");
        let wait = self.http.wait(WaitKind::Close, "close", PATIENCE, end, now);
        wait.during(Doing::Blocked("its last requests and threads end"), || self.end(reason, detail, deadline));
        drop(wait);
        self.http.close_waits(deadline);
        self.http.join_idle(deadline);
        self.http.events().close(deadline);
    }

    fn end(&self, reason: FinishReason, detail: Option<&str>, deadline: Instant) {
        self.http.start_ending();
        if self.heartbeat.is_some() {
            finish::finish(&self.http, &self.id, reason, detail, deadline);
        }
        if let Some(reporter) = &self.reporter {
            reporter.end();
        }
        self.http.close();
        self.limiter.wake_all();
        self.budget.close();
        self.submitters.close();
        self.close_dependents(deadline);
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.join_by(deadline);
        }
        self.submitters.join_by(deadline);
        if let Some(reporter) = &self.reporter {
            reporter.join_by(deadline);
        }
    }
}

/// Threads are joined in real time, whichever clock drives them.
fn deadline_in(limit: Duration) -> Instant {
    Clock::system().now() + limit.min(MAX_DURATION)
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close(finish::reason_of_drop(), None, self.config().timeout_drop());
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use httpmock::Method::POST;
    use httpmock::MockServer;
    use serde_json::json;

    use super::*;
    use crate::config::Proxy;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Dependent for Counter {
        fn close(&self, _deadline: Instant) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A session of a service that can only create it.
    fn open() -> Session {
        let server = MockServer::start();
        let create = server.mock(|when, then| {
            when.method(POST).path("/api/v1/create_session");
            then.json_body(json!({"session_id": "s-1"}));
        });
        let config = Config::builder().api_key("tml-k").base_url(server.base_url()).proxy(Proxy::Off).telemetry(false);
        let session = Session::open(&config.build_with(|_| None).unwrap()).unwrap();
        create.assert();
        session
    }

    #[test]
    fn closing_closes_each_dependent_once() {
        let session = open();
        let counters: [Arc<Counter>; 3] = std::array::from_fn(|_| Arc::default());
        let closes = || counters.each_ref().map(|counter| counter.0.load(Ordering::Relaxed));
        let adopt = |index: usize| session.adopt(Arc::clone(&counters[index]) as Arc<dyn Dependent>);
        (0..2).for_each(adopt);
        assert!(session.release(&(Arc::clone(&counters[0]) as Arc<dyn Dependent>)));
        session.close(FinishReason::Success, None, Duration::from_secs(10));
        assert_eq!(closes(), [0, 1, 0], "the first was released");
        adopt(2);
        assert_eq!(closes(), [0, 1, 1]);
    }

    #[test]
    fn adopting_during_a_close_leaves_the_others() {
        let session = open();
        let (early, late) = (Arc::<Counter>::default(), Arc::<Counter>::default());
        session.adopt(Arc::clone(&early) as Arc<dyn Dependent>);
        // A close has begun, but has not reached the dependents yet.
        session.closed.store(true, Ordering::Release);
        session.adopt(Arc::clone(&late) as Arc<dyn Dependent>);
        assert_eq!([&early, &late].map(|counter| counter.0.load(Ordering::Relaxed)), [0, 1]);
        session.closed.store(false, Ordering::Release);
        session.close(FinishReason::Success, None, Duration::from_secs(10));
        assert_eq!([&early, &late].map(|counter| counter.0.load(Ordering::Relaxed)), [1, 1]);
    }
}

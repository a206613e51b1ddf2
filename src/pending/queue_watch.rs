//! Who is told of the state of the server's queues: the log, and the program's observer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use log::{debug, warn};
use parking_lot::Mutex;

use crate::config::Config;
use crate::rules::queue_log::QueueLog;
use crate::rules::seats::GroupId;
use crate::types::{QueueState, RequestKind};
use crate::worker::Pool;

/// So many updates may wait for a slow observer; more are dropped.
const MAX_UPDATES: usize = 1024;

/// Is told of the state of the queues that the program's requests wait in.
///
/// A server that is not done with a request may say whether its queue moves or why it is paused. Set one with
/// [`queue_state_observer`](crate::config::ConfigBuilder::queue_state_observer); a closure will do. Paused queues are logged
/// besides, at level warn, at most once a minute for each client.
///
/// # Examples
///
/// ```
/// use tinkex::{Config, QueueStateUpdate};
///
/// let config = Config::builder()
///     .api_key("tml-example")
///     .base_url("http://127.0.0.1:8000")
///     .queue_state_observer(|update: &QueueStateUpdate| {
///         println!("{} of {}: {}", update.request_id, update.operation, update.queue_state);
///     })
///     .build()?;
/// # Ok::<(), tinkex::Error>(())
/// ```
pub trait QueueStateObserver: Send + Sync {
    /// Called with each answer that names the state of a queue, in the order in which the answers came, on a thread that does
    /// nothing else: it may block, call the clients, wait for results and drop the last handle. While it is busy, up to 1024
    /// updates wait, and more are dropped. A panic is logged and otherwise ignored.
    fn on_queue_state(&self, update: &QueueStateUpdate);
}

impl<F: Fn(&QueueStateUpdate) + Send + Sync> QueueStateObserver for F {
    fn on_queue_state(&self, update: &QueueStateUpdate) {
        self(update);
    }
}

/// What a server said of the queue that a request waits in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStateUpdate {
    /// The client's method whose result is waited for.
    pub operation: &'static str,
    /// The id of the promise.
    pub request_id: Arc<str>,
    /// Whether the queue moves.
    pub queue_state: QueueState,
    /// Why it is in this state, in the server's words, if it says so.
    pub reason: Option<String>,
}

/// The program's observer, as the configuration keeps it.
#[derive(Clone)]
pub(crate) struct Observer(pub(crate) Arc<dyn QueueStateObserver>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Tells the log and the observer.
pub(super) struct QueueWatch {
    log: Mutex<QueueLog>,
    told: Option<Told>,
    config: Config,
}

/// The observer's thread, which there is only while there is something to tell.
struct Told {
    pool: Pool<QueueStateUpdate>,
    queued: Arc<AtomicUsize>,
    overran: AtomicBool,
}

impl QueueWatch {
    pub(super) fn new(config: &Config) -> Self {
        let told = config.queue_state_observer().cloned().map(|Observer(observer)| {
            let queued = Arc::<AtomicUsize>::default();
            let waiting = Arc::clone(&queued);
            let pool = Pool::new(config, "observer", 1, move |update: QueueStateUpdate| {
                waiting.fetch_sub(1, Ordering::Relaxed);
                observer.on_queue_state(&update);
            });
            Told { pool, queued, overran: AtomicBool::new(false) }
        });
        QueueWatch { log: Mutex::default(), told, config: config.clone() }
    }

    /// A server named the state of a queue. Called without any lock, since a logger may be the program's and use the client.
    pub(super) fn heard(&self, client: GroupId, kind: RequestKind, update: QueueStateUpdate) {
        let now = self.config.clock().now();
        let line = self.log.lock().line(client, kind, &update.queue_state, update.reason.as_deref(), now);
        if let Some(line) = line {
            warn!("{line}");
        }
        if let Some(told) = &self.told {
            told.tell(update);
        }
    }

    pub(super) fn close(&self) {
        if let Some(told) = &self.told {
            told.pool.close();
        }
    }

    pub(super) fn join_by(&self, deadline: Instant) {
        if let Some(told) = &self.told {
            told.pool.join_by(deadline);
        }
    }
}

impl Told {
    fn tell(&self, update: QueueStateUpdate) {
        if self.queued.fetch_add(1, Ordering::Relaxed) >= MAX_UPDATES {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            if !self.overran.swap(true, Ordering::Relaxed) {
                warn!("the queue state observer is too slow; some updates are dropped");
            }
        } else if let Err((_, error)) = self.pool.submit(update) {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            debug!("a queue state was not told: {error}");
        }
    }
}

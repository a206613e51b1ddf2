//! The server around the model: HTTP, endpoints, promises, queues.
//!
//! | thread | how many | does |
//! |---|---|---|
//! | event loop | one | owns all sockets and deadlines ([`event_loop`], [`connection`], [`http`]) |
//! | handlers | one for each processor, four at most | read a request's body and do what its endpoint says ([`routes`], [`input`], [`output`]) |
//! | trainers | one for each training run | its tasks, in the order of arrival ([`work`]) |
//! | samplers | one for each processor | samples |
//!
//! What takes time is promised ([`promises`]); what waits for it costs a table entry, not a thread ([`reply`]). What the
//! server knows is in tables ([`state`], [`records`]), and what must outlive it in files ([`store`], [`weights`]).

mod activity;
mod connection;
mod event_loop;
mod faults;
mod http;
mod input;
mod keys;
mod output;
mod percent;
mod promises;
mod records;
mod reply;
mod routes;
mod state;
mod store;
mod weights;
mod work;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle, available_parallelism};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use mio::{Poll, Waker};
use serde::{Deserialize, Serialize};

use self::activity::Monitor;
pub use self::activity::{Activity, LoggedRequest};
use self::connection::Limits;
use self::event_loop::{EventLoop, Job, WAKER, bind, listen};
use self::faults::Chaos;
pub use self::faults::{Fault, Faults, ParseFaultsError};
use self::http::Response;
use self::keys::Signer;
use self::promises::Promises;
use self::reply::{Mailbox, Message};
use self::routes::{KeyCheck, Service};
use self::state::State;
use self::store::{Lock, Store};
use super::model::Model;
use crate::clock::Clock;

/// The time. The server lives in real time: nothing in it is driven by a test's clock.
fn now() -> Instant {
    Clock::system().now()
}

/// The time of day, likewise.
fn wall() -> SystemTime {
    Clock::system().wall()
}

/// How a server is set up.
pub(super) struct Settings {
    pub(super) models: Vec<Arc<dyn Model>>,
    pub(super) hold_time: Duration,
    pub(super) result_time: Duration,
    pub(super) session_time: Duration,
    pub(super) link_time: Duration,
    pub(super) max_models: usize,
    /// None keeps everything in memory.
    pub(super) data_dir: Option<PathBuf>,
    pub(super) key_check: KeyCheck,
    pub(super) faults: Vec<Fault>,
    pub(super) fault_seed: u64,
    pub(super) log_capacity: usize,
    pub(super) max_connections: usize,
    pub(super) limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            models: Vec::new(),
            hold_time: Duration::from_secs(30),
            result_time: Duration::from_secs(600),
            session_time: Duration::from_secs(600),
            link_time: Duration::from_secs(15 * 60),
            max_models: 64,
            data_dir: None,
            key_check: Arc::new(|_| true),
            faults: Vec::new(),
            fault_seed: 0,
            log_capacity: 10_000,
            max_connections: 4096,
            limits: Limits {
                max_body: 64 * 1024 * 1024,
                timeout_header: Duration::from_secs(10),
                timeout_idle: Duration::from_secs(120),
            },
        }
    }
}

/// A running server. Dropping it ends it.
pub(super) struct Server {
    address: SocketAddr,
    monitor: Arc<Monitor>,
    faults: Arc<Chaos>,
    state: Arc<State>,
    mailbox: Arc<Mailbox>,
    /// The event loop and the handlers. The threads that compute are told to end and end after the task in hand.
    threads: Vec<JoinHandle<()>>,
    /// Of the directory, where there is one.
    _lock: Option<Lock>,
}

impl Server {
    pub(super) fn start(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(Waker::new(poll.registry(), WAKER)?));
        let listener = listen(bind(address)?)?;
        let address = listener.local_addr()?;
        let monitor = Arc::new(Monitor::new(settings.log_capacity));
        let faults = Arc::new(Chaos::new(settings.faults, settings.fault_seed));
        let (sampling, samples) = unbounded();
        let (store, lock) = match settings.data_dir {
            None => (Store::in_memory(), None),
            Some(folder) => Store::open(&folder).map(|(store, lock)| (store, Some(lock)))?,
        };
        let past = Past::begin(&store)?;
        let promises = Promises::new(settings.result_time, past.starts << 32);
        let (max_models, session_time) = (settings.max_models, settings.session_time);
        let state = Arc::new(State::new(settings.models, promises, store, max_models, session_time, sampling)?);
        let service = Service {
            state: state.clone(),
            hold_time: settings.hold_time,
            link_time: settings.link_time,
            key_check: settings.key_check,
            signer: Signer::new(past.secret),
            address,
        };

        // From here on the server ends properly, should a thread not start. It ends its handlers by dropping the event
        // loop, so that must be the younger.
        let mut server = Server { address, monitor, faults, state, mailbox, threads: Vec::new(), _lock: lock };
        let (jobs, arriving) = unbounded();
        let event_loop = EventLoop::new(
            poll,
            listener,
            settings.max_connections,
            settings.limits,
            server.mailbox.clone(),
            jobs,
            server.monitor.clone(),
        )?;
        let processors = available_parallelism().map_or(1, usize::from);
        for _ in 0..processors {
            let (state, samples) = (server.state.clone(), samples.clone());
            spawn("tinkex-sample", move || work::sample_all(&state, &samples))?;
        }
        let desk = Arc::new(Desk {
            service,
            monitor: server.monitor.clone(),
            faults: server.faults.clone(),
            reap_after: session_time.clamp(Duration::from_secs(1), Duration::from_secs(60)),
        });
        for _ in 0..processors.min(4) {
            let (desk, arriving) = (desk.clone(), arriving.clone());
            server.threads.push(spawn("tinkex-handle", move || desk.serve(&arriving))?);
        }
        server.threads.push(spawn("tinkex-server", move || event_loop.run())?);
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }

    pub(super) fn faults(&self) -> &Chaos {
        &self.faults
    }

    pub(super) fn pause(&self) -> io::Result<()> {
        self.ask(Message::Pause)
    }

    pub(super) fn resume(&self) -> io::Result<()> {
        self.ask(Message::Resume)
    }

    fn ask(&self, message: fn(crossbeam_channel::Sender<io::Result<()>>) -> Message) -> io::Result<()> {
        let (done, answer) = bounded(1);
        self.mailbox.send(message(done));
        answer.recv().unwrap_or_else(|_| Err(io::Error::other("the server has ended")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.state.stop();
        self.mailbox.send(Message::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the local server panicked");
            }
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// What the servers of one directory share over time.
#[derive(Serialize, Deserialize)]
struct Past {
    /// How often a server started before this one.
    starts: u64,
    /// What links are signed with.
    secret: [u8; 32],
}

impl Past {
    /// What was before, with this start recorded.
    fn begin(store: &Store) -> io::Result<Self> {
        let record = "server.json";
        let past = store.recorded(&[], record)?.unwrap_or_else(|| Past { starts: 0, secret: secret() });
        store.record(&[], record, &Past { starts: past.starts + 1, ..past })?;
        Ok(past)
    }
}

/// Bytes that nobody can guess: the standard library takes the keys of its hash tables from the system.
fn secret() -> [u8; 32] {
    let mut secret = [0; 32];
    let random = RandomState::new();
    for (at, piece) in secret.chunks_exact_mut(8).enumerate() {
        piece.copy_from_slice(&random.hash_one(at).to_le_bytes());
    }
    secret
}

/// Where requests arrive.
struct Desk {
    service: Service,
    monitor: Arc<Monitor>,
    faults: Arc<Chaos>,
    /// How often silent sessions are looked for when no request comes.
    reap_after: Duration,
}

impl Desk {
    fn serve(&self, jobs: &Receiver<Job>) {
        loop {
            let received = jobs.recv_timeout(self.reap_after);
            self.service.state.reap(now());
            let Job { request, mut reply } = match received {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.monitor.log(reply.to.connection, &request);
            let verdict = self.faults.judge(&request.path, &request.body);
            reply.delivery = verdict.delivery;
            if let Some(response) = verdict.instead {
                reply.answer(response);
            } else if catch_unwind(AssertUnwindSafe(|| self.service.answer(&request, &reply))).is_err() {
                reply.answer(Response::detail(500, "the server failed at this request"));
            }
        }
    }
}

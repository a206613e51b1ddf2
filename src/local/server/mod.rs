//! The server around the model: HTTP, endpoints, promises, queues.
//!
//! | thread | how many | does |
//! |---|---|---|
//! | event loop | one | owns all sockets and deadlines ([`event_loop`], [`connection`], [`http`]) |
//! | handlers | one for each processor, four at most | read a request's body and do what its endpoint says ([`routes`], [`input`], [`state`]) |
//! | trainers | one for each training run | its tasks, in the order of arrival ([`work`]) |
//! | samplers | one for each processor | samples |
//!
//! What takes time is promised ([`promises`]); what waits for it costs a table entry, not a thread ([`reply`]).

mod activity;
mod connection;
mod event_loop;
mod faults;
mod http;
mod input;
mod promises;
mod reply;
mod routes;
mod state;
mod work;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};
use mio::{Poll, Waker};

use self::activity::Monitor;
pub use self::activity::{Activity, LoggedRequest};
use self::connection::Limits;
use self::event_loop::{EventLoop, Job, WAKER, bind, listen};
pub use self::faults::Fault;
use self::faults::Faults;
use self::http::Response;
use self::promises::Promises;
use self::reply::{Mailbox, Message};
use self::routes::{KeyCheck, Service};
use self::state::State;
use super::model::Model;
use crate::clock::Clock;

/// The time. The server lives in real time: nothing in it is driven by a test's clock.
fn now() -> Instant {
    Clock::system().now()
}

/// How a server is set up.
pub(super) struct Settings {
    pub(super) models: Vec<Arc<dyn Model>>,
    pub(super) hold_time: Duration,
    pub(super) result_time: Duration,
    pub(super) key_check: KeyCheck,
    pub(super) faults: Vec<Fault>,
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
            key_check: Arc::new(|_| true),
            faults: Vec::new(),
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
    faults: Arc<Faults>,
    state: Arc<State>,
    mailbox: Arc<Mailbox>,
    /// The event loop and the handlers. The threads that compute are told to end and end after the task in hand.
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(Waker::new(poll.registry(), WAKER)?));
        let listener = listen(bind(address)?)?;
        let address = listener.local_addr()?;
        let monitor = Arc::new(Monitor::new(settings.log_capacity));
        let faults = Arc::new(Faults::new(settings.faults));
        let (sampling, samples) = unbounded();
        let state = Arc::new(State::new(settings.models, Promises::new(settings.result_time), sampling));
        let service = Service { state: state.clone(), hold_time: settings.hold_time, key_check: settings.key_check };

        // From here on the server ends properly, should a thread not start. It ends its handlers by dropping the event
        // loop, so that must be the younger.
        let mut server = Server { address, monitor, faults, state, mailbox, threads: Vec::new() };
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
        let desk = Arc::new(Desk { service, monitor: server.monitor.clone(), faults: server.faults.clone() });
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

    pub(super) fn faults(&self) -> &Faults {
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

/// Where requests arrive.
struct Desk {
    service: Service,
    monitor: Arc<Monitor>,
    faults: Arc<Faults>,
}

impl Desk {
    fn serve(&self, jobs: &Receiver<Job>) {
        for Job { request, mut reply } in jobs {
            self.monitor.log(reply.to.connection, &request);
            let verdict = self.faults.judge(activity::endpoint(&request.path));
            reply.delivery = verdict.delivery;
            if let Some(response) = verdict.instead {
                reply.answer(response);
            } else if catch_unwind(AssertUnwindSafe(|| self.service.answer(&request, &reply))).is_err() {
                reply.answer(Response::detail(500, "the server failed at this request"));
            }
        }
    }
}

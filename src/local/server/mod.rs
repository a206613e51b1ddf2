//! The server around the models: HTTP, endpoints, promises, task queues.
//!
//! | thread | number | job |
//! |---|---|---|
//! | event loop | one | owns all sockets and deadlines ([`net`]) |
//! | handlers | one per processor, at most four | log a request, apply faults, run its endpoint ([`request_dispatcher`], [`api`]) |
//! | run workers | one per training run in memory | execute its tasks in the order of arrival ([`compute`]) |
//! | sampling workers | one for each sample that runs, at most 64 | execute sample tasks ([`compute`]) |
//! | answering threads | one per request of OpenAI's API, at most 64 | ask a model, and send what it samples ([`answer_pool`]) |
//!
//! Each module uses only modules below it:
//!
//! ```text
//! Server            starts and stops the threads
//! request_dispatcher
//!                   request → log → faults → endpoint
//! faults            rules that make requests fail
//! stub              answers without computing
//! api               routes, decoding and checks, handlers; OpenAI's API
//! answer_pool       threads that answer OpenAI's requests
//! origins           web pages that may use OpenAI's API
//! compute           worker threads, loading and saving of weights
//! state             tables, promises, records on disk, tasks as data
//! net               event loop, connections, responders
//! activity          log of requests, open connections and held polls
//! http1             requests and responses as bytes
//! flags, path_segment, time, tokenizer_packages, wire_formats
//! ```
//!
//! A request that takes time gets a promise ([`state`]). A poll that waits for a result costs a table entry, not a
//! thread, so thousands can wait at once.

pub(super) mod activity;
#[cfg(feature = "pretrained")]
pub(super) mod answer_pool;
mod api;
mod compute;
mod faults;
mod flags;
pub(crate) mod http1;
pub(super) mod net;
#[cfg(feature = "pretrained")]
pub(super) mod origins;
pub(super) mod path_segment;
mod request_dispatcher;
mod server_settings;
mod state;
mod stub;
#[cfg(test)]
mod tests;
pub(super) mod time;
mod tokenizer_packages;
mod wire_formats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle, available_parallelism};
use std::time::Duration;
use std::{fmt, io, mem};

use crossbeam_channel::{Sender, bounded, unbounded};
use mio::{Poll, Waker};

use self::activity::ActivityTracker;
pub use self::activity::{Activity, LoggedRequest};
#[cfg(feature = "pretrained")]
use self::api::OpenAi;
use self::api::{ApiContext, LinkSigner, TokenSigner};
use self::compute::spawn_sample_worker;
use self::faults::FaultInjector;
pub use self::faults::{Fault, Faults, ParseFaultsError};
pub use self::flags::{Flag, ParseFlagError};
use self::net::{EventLoop, Mailbox, Message, WAKER, bind_and_listen};
use self::request_dispatcher::Dispatcher;
pub(super) use self::server_settings::Settings;
use self::state::{PromiseSettings, PromiseTable, ServerRecord, ServerState, Store};
use self::stub::Stub;
pub use self::wire_formats::WireFormats;
use crate::local::directory_lock::DirectoryLock;
use crate::process::Process;

/// More handler threads than this gain nothing: they share one lock on the tables.
const MAX_HANDLERS: usize = 4;

/// A running server. Dropping it stops it.
pub(super) struct Server {
    address: SocketAddr,
    activity: Arc<ActivityTracker>,
    faults: Arc<FaultInjector>,
    state: Arc<ServerState>,
    mailbox: Arc<Mailbox>,
    /// The event loop and the handlers. The workers are not joined: they end after their current task.
    threads: Vec<JoinHandle<()>>,
    /// On the data directory, if there is one.
    lock: Option<DirectoryLock>,
    process: Process,
}

impl Server {
    pub(super) fn start(address: SocketAddr, settings: Settings) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Arc::new(Mailbox::new(Waker::new(poll.registry(), WAKER)?));
        let listener =
            bind_and_listen(address).map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
        let address = listener.local_addr()?;
        let activity = Arc::new(ActivityTracker::new(settings.log_capacity));
        let faults = Arc::new(FaultInjector::new(settings.faults, settings.fault_seed));
        let (store, lock) = match settings.data_dir {
            None => (Store::in_memory(), None),
            Some(folder) => Store::open(&folder).map(|(store, lock)| (store, Some(lock)))?,
        };
        let record = ServerRecord::for_next_start(&store)?;
        // Each start has its own range of 2³² promise ids, so that no id is used again after a restart.
        let promises = PromiseSettings {
            result_time: settings.result_time,
            abandon_time: settings.session_time,
            metadata_above: settings.metadata_above,
        };
        let promises = PromiseTable::new(promises, record.starts << 32);
        let (max_models, session_time) = (settings.max_models, settings.session_time);
        let flags = settings.flags;
        let state = ServerState::recover(settings.models, flags, promises, store, max_models, session_time)?;
        let state = Arc::new(state);
        let stub = settings.stub.map(|delay| Stub::new(delay, settings.hold_time, settings.wire));
        let context = ApiContext {
            state: state.clone(),
            hold_time: settings.hold_time,
            link_time: settings.link_time,
            min_ttl: settings.min_ttl,
            key_check: settings.key_check,
            tokens: TokenSigner::new(record.secret),
            token_time: settings.token_time,
            wire: settings.wire,
            signer: LinkSigner::new(record.secret),
            address,
            #[cfg(feature = "pretrained")]
            openai: OpenAi::new(settings.allowed_origins),
        };

        // If a thread fails to start below, dropping `server` stops those that did start. The drop joins the handlers, and
        // they end once the event loop's end of the channel is gone: so `event_loop` must be declared after `server`, which
        // makes it drop first.
        let max_body = settings.limits.max_body;
        let process = Process::current();
        let mut server = Server { address, activity, faults, state, mailbox, threads: Vec::new(), lock, process };
        let (requests, request_queue) = unbounded();
        let event_loop = EventLoop::new(
            poll,
            listener,
            settings.max_connections,
            settings.limits,
            server.mailbox.clone(),
            requests,
            server.activity.clone(),
        )?;
        let processors = available_parallelism().map_or(1, usize::from);
        spawn_sample_worker(&server.state)?;
        let dispatcher = Arc::new(Dispatcher {
            context,
            activity: server.activity.clone(),
            faults: server.faults.clone(),
            stub,
            max_body,
            reap_interval: session_time.clamp(Duration::from_secs(1), Duration::from_secs(60)),
        });
        for _ in 0..processors.min(MAX_HANDLERS) {
            let (dispatcher, request_queue) = (dispatcher.clone(), request_queue.clone());
            server.threads.push(spawn("tinkex-handle", move || dispatcher.run(&request_queue))?);
        }
        server.threads.push(spawn("tinkex-server", move || event_loop.run())?);
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn activity(&self) -> &ActivityTracker {
        &self.activity
    }

    pub(super) fn faults(&self) -> &FaultInjector {
        &self.faults
    }

    pub(super) fn pause(&self) -> io::Result<()> {
        self.request(Message::Pause)
    }

    pub(super) fn resume(&self) -> io::Result<()> {
        self.request(Message::Resume)
    }

    /// Sends a message to the event loop and waits for its result.
    fn request(&self, message: fn(Sender<io::Result<()>>) -> Message) -> io::Result<()> {
        if !self.process.is_current() {
            return Err(io::Error::other("the server runs in the process that started it, and this is its fork"));
        }
        let (sender, result) = bounded(1);
        self.mailbox.send(message(sender));
        result.recv().unwrap_or_else(|_| Err(io::Error::other("the server has stopped")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.process.is_current() {
            // In a fork the threads and the lock are those of the other process. Dropping them would detach a new thread that has
            // got the memory of an old one, and release the directory.
            mem::forget((mem::take(&mut self.threads), self.lock.take()));
            return;
        }
        self.state.stop();
        self.mailbox.send(Message::Stop);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the local server panicked");
            }
        }
        // Only now: no client is to get the cancellation as the result of its sample.
        self.state.promises.cancel_all();
        // Workers end after their current task; the directory belongs to the next server.
        self.state.store.close();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

pub(super) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(run)
}

//! A scripted service on loopback, which records every request.
//!
//! It does what a mock server cannot: hold a response until the test opens a gate, reset a connection, stop sending, and tell
//! which request came over which connection, and when a connection ended.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

// A test that fails while it holds the record does not poison it: the end of the service would end all tests.
use parking_lot::{Condvar, Mutex, MutexGuard};
use tinkex::ConfigBuilder;
use tinkex::clock::ManualClock;

use super::connection::{reset_on_close, serve};
use super::{PATIENCE, RecordedRequest, Reply, config_for};

pub(super) type Script<R> = Box<dyn Fn(&RecordedRequest) -> R + Send + Sync>;

#[derive(Default)]
pub(super) struct Record {
    pub(super) requests: Vec<RecordedRequest>,
    opened: usize,
    ended: HashSet<usize>,
    streams: HashMap<usize, TcpStream>,
    /// How many of the next connections are reset.
    resets: usize,
    /// Whether the service is to stop listening.
    stops: bool,
    /// Whether new connections are neither accepted nor refused.
    vanished: bool,
    /// Those that wait in vain to be accepted.
    ignored: Vec<TcpStream>,
}

pub(super) struct Shared {
    pub(super) record: Mutex<Record>,
    pub(super) changed: Condvar,
    pub(super) script: Script<Reply>,
    pub(super) options: Options,
    /// Held while the service stops listening, or listens again. Whether it may stop.
    listening: Mutex<bool>,
}

/// How a service differs from one that reads each request, records it and replies.
pub(super) struct Options {
    /// The reply to the head of a request, before its body is read.
    pub(super) reply_to_head: Script<Option<Reply>>,
    /// Reads a body in pieces of this size, with this pause before each.
    pub(super) slow: Option<(usize, Duration)>,
    /// Whether requests are recorded.
    pub(super) record: bool,
    /// Whether it can turn into a black hole.
    pub(super) may_vanish: bool,
    /// Whether the script gets the requests that only services of 2026 know. Otherwise they get a 404 and are not recorded.
    pub(super) is_current: bool,
}

/// Whether this is a request, below `/api/v1/`, that a client sends of its own accord and services of 2025 do not know.
pub fn is_for_current_services(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    matches!(path, "client/config" | "client/dynamic_config")
        || (path.starts_with("sessions/") && path.ends_with("/finish"))
}

impl Default for Options {
    fn default() -> Self {
        Options { reply_to_head: Box::new(|_| None), slow: None, record: true, may_vanish: false, is_current: false }
    }
}

/// A listener whose connections buffer so little that a small body usually blocks the sender: on Linux 336 KiB on both sides
/// together, measured. Small packets keep the client's buffer small, too, but the system may let it grow on a busy machine.
pub fn listener_with_small_buffers() -> TcpListener {
    listener(16 * 1024, Some(536))
}

/// A listener whose queue of connections is soon full.
fn listener_with_short_queue() -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    socket.into()
}

fn listener(receive_buffer: usize, packet: Option<u32>) -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(receive_buffer).unwrap();
    if let Some(packet) = packet.filter(|_| cfg!(unix)) {
        socket.set_tcp_mss(packet).unwrap();
    }
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(128).unwrap();
    socket.into()
}

pub struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// Handles for faults of connections, for a script to use.
#[derive(Clone)]
pub struct Connections {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Connections {
    /// Closes all open connections.
    pub fn close_all(&self) {
        for stream in self.shared.record.lock().streams.values() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Closes all, and resets this many of the next ones as soon as they are accepted.
    pub fn reset_next(&self, count: usize) {
        self.shared.record.lock().resets = count;
        self.close_all();
    }

    /// Blocks until the client has closed this connection. It sends nothing more before.
    pub fn wait_for_the_client_to_close(&self, connection: usize) {
        let stream = self.shared.record.lock().streams[&connection].try_clone().unwrap();
        stream.peek(&mut [0]).ok();
    }

    /// Stops listening, so that connections are refused. Those that are open stay.
    pub fn refuse(&self) {
        let may_stop = self.shared.listening.lock();
        if !*may_stop {
            return;
        }
        self.shared.record.lock().stops = true;
        // The listener waits for a connection, and has ended when this one has.
        if let Ok(mut woken) = TcpStream::connect(self.address) {
            woken.read_to_end(&mut Vec::new()).ok();
        }
    }

    /// Listens again, on the same port. Returns whether connections were refused.
    pub fn listen_again(&self) -> bool {
        let _listening = self.shared.listening.lock();
        let was_refusing = std::mem::take(&mut self.shared.record.lock().stops);
        if was_refusing {
            accept(TcpListener::bind(self.address).unwrap(), &self.shared);
        }
        was_refusing
    }

    /// Listens from now on, whatever a script still asks for.
    pub fn listen_for_good(&self) {
        *self.shared.listening.lock() = false;
        self.listen_again();
    }

    /// Stops listening for good.
    pub fn end(&self) {
        *self.shared.listening.lock() = true;
        self.refuse();
    }
}

impl Service {
    pub fn start(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        Service::listen(TcpListener::bind("127.0.0.1:0").unwrap(), Options::default(), script)
    }

    /// A service of 2026: the script and the record also get the requests for settings, and those that end a session.
    pub fn start_current(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let options = Options { is_current: true, ..Options::default() };
        Service::listen(TcpListener::bind("127.0.0.1:0").unwrap(), options, script)
    }

    /// A service that records no requests, for tests that measure memory.
    pub fn start_unrecorded(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let options = Options { record: false, ..Options::default() };
        Service::listen(TcpListener::bind("127.0.0.1:0").unwrap(), options, script)
    }

    /// The same, of 2026.
    pub fn start_unrecorded_current(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let options = Options { record: false, is_current: true, ..Options::default() };
        Service::listen(TcpListener::bind("127.0.0.1:0").unwrap(), options, script)
    }

    /// A service that may also reply to the head of a request. It then closes the connection without reading the body, which
    /// resets it.
    pub fn start_early(
        reply_to_head: impl Fn(&RecordedRequest) -> Option<Reply> + Send + Sync + 'static,
        script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let options = Options { reply_to_head: Box::new(reply_to_head), ..Options::default() };
        Service::listen(listener_with_small_buffers(), options, script)
    }

    /// A service of 2026 that may reply so to the head of a request.
    pub fn start_current_early(
        reply_to_head: impl Fn(&RecordedRequest) -> Option<Reply> + Send + Sync + 'static,
        script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let options = Options { reply_to_head: Box::new(reply_to_head), is_current: true, ..Options::default() };
        Service::listen(TcpListener::bind("127.0.0.1:0").unwrap(), options, script)
    }

    /// A service that reads requests in pieces of this size, with a pause of real time before each. It reads the rest at once
    /// when no more is left than the client's send buffer holds.
    pub fn start_slow(
        piece: usize,
        pause: Duration,
        script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Service::listen(listener(32 * 1024, None), Options { slow: Some((piece, pause)), ..Options::default() }, script)
    }

    /// A service that can [`vanish`](Service::vanish).
    pub fn start_vanishing(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        let options = Options { may_vanish: true, ..Options::default() };
        Service::listen(listener_with_short_queue(), options, script)
    }

    /// Turns into a black hole for new connections: they are neither accepted nor refused.
    pub fn vanish(&self) {
        assert!(self.shared.options.may_vanish);
        self.shared.record.lock().vanished = true;
        while let Ok(stream) = TcpStream::connect_timeout(&self.address, Duration::from_millis(100)) {
            self.shared.record.lock().ignored.push(stream);
        }
    }

    fn listen(
        listener: TcpListener,
        options: Options,
        script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let script = Box::new(script);
        let shared = Arc::new(Shared {
            record: Mutex::default(),
            changed: Condvar::new(),
            script,
            options,
            listening: Mutex::new(true),
        });
        accept(listener, &shared);
        Service { address, shared }
    }

    /// What can be done to its connections.
    pub fn connections(&self) -> Connections {
        Connections { address: self.address, shared: Arc::clone(&self.shared) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A configuration for this service, without telemetry, so that every request is one that the test is about. Its address
    /// is its own, so that tests share no sampling limiter.
    pub fn config(&self) -> ConfigBuilder {
        config_for(self.url())
    }

    /// The same, with a clock that the test advances. No heartbeat is due.
    pub fn manual_config(&self, manual: &ManualClock) -> ConfigBuilder {
        self.config().clock(manual.clock()).heartbeat_interval(Duration::from_secs(365 * 24 * 3600))
    }

    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.record.lock().requests.clone()
    }

    pub fn requests_to(&self, path: &str) -> Vec<RecordedRequest> {
        self.shared.record.lock().requests.iter().filter(|request| request.path == path).cloned().collect()
    }

    /// Blocks until the requests are as expected, and returns them.
    pub fn wait_until(&self, expected: impl Fn(&[RecordedRequest]) -> bool) -> Vec<RecordedRequest> {
        self.record_when(expected).requests.clone()
    }

    /// The record, once the requests are as expected.
    fn record_when(&self, expected: impl Fn(&[RecordedRequest]) -> bool) -> MutexGuard<'_, Record> {
        let mut record = self.shared.record.lock();
        let timeout = self.shared.changed.wait_while_for(&mut record, |record| !expected(&record.requests), PATIENCE);
        let paths: Vec<_> = record.requests.iter().map(|request| &request.path).collect();
        assert!(!timeout.timed_out(), "not requested in time; requested: {paths:?}");
        record
    }

    /// Blocks until there are this many requests to this path, and returns them.
    pub fn wait_for_count(&self, path: &str, count: usize) -> Vec<RecordedRequest> {
        drop(self.record_when(|requests| requests.iter().filter(|request| request.path == path).count() >= count));
        self.requests_to(path)
    }

    /// Blocks until all connections have ended.
    pub fn wait_for_no_connection(&self) {
        let mut record = self.shared.record.lock();
        let timeout = self.shared.changed.wait_while_for(&mut record, |record| !record.streams.is_empty(), PATIENCE);
        assert!(!timeout.timed_out(), "{} connections are still open", record.streams.len());
    }

    /// Blocks until this connection has ended.
    pub fn wait_for_disconnect(&self, connection: usize) {
        let mut record = self.shared.record.lock();
        let timeout = self.shared.changed.wait_while_for(&mut record, |r| !r.ended.contains(&connection), PATIENCE);
        assert!(!timeout.timed_out(), "connection {connection} is still open");
    }
}

/// Accepts connections on a thread, and serves each on one of its own.
fn accept(listener: TcpListener, shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let last = loop {
            let Ok((stream, _)) = listener.accept() else { return };
            let mut record = shared.record.lock();
            if record.vanished {
                record.ignored.push(stream);
                drop(record);
                loop {
                    thread::park();
                }
            }
            if record.stops {
                break stream;
            }
            let connection = record.opened;
            record.opened += 1;
            if record.resets > 0 {
                record.resets -= 1;
                record.ended.insert(connection);
                reset_on_close(&stream);
                continue;
            }
            stream.set_nodelay(true).unwrap();
            record.streams.insert(connection, stream.try_clone().unwrap());
            drop(record);
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                serve(&shared, connection, stream);
                let mut record = shared.record.lock();
                record.streams.remove(&connection);
                record.ended.insert(connection);
                drop(record);
                shared.changed.notify_all();
            });
        };
        drop(listener);
        // Whoever waits for the end of this connection knows that nothing listens any more.
        drop(last);
    });
}

impl Drop for Service {
    fn drop(&mut self) {
        self.connections().close_all();
    }
}

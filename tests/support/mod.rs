//! A scripted Tinker service on loopback: it records every request and answers as the test says.
//!
//! It does what a mock cannot: hold an answer until the test lets go, reset, fall silent, and say which requests came over
//! which connection and when a connection ended.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part of the support")]

pub mod captured_log;
mod exchange;
mod gate;
pub mod golden;
mod healthy;
pub mod mock;
#[cfg(all(unix, feature = "cli"))]
pub mod terminal;

use std::collections::{HashMap, HashSet};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

pub use exchange::{RecordedRequest, Reply};
pub use gate::{Gate, Gauge};
pub use healthy::{healthy_service, result, service_with_polls};
use tinkex::Config;
use tinkex::clock::ManualClock;
use tinkex::{ConfigBuilder, Proxy};

/// A test that waits longer than this for something that must happen has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The API key in the configurations of the tests.
pub const KEY: &str = "tml-test-key";

#[derive(Default)]
struct Record {
    seen: Vec<RecordedRequest>,
    opened: usize,
    ended: HashSet<usize>,
    streams: HashMap<usize, TcpStream>,
}

type Script<R> = Box<dyn Fn(&RecordedRequest) -> R + Send + Sync>;

struct Shared {
    record: Mutex<Record>,
    changed: Condvar,
    at_head: Script<Option<Reply>>,
    script: Script<Reply>,
    slow: Option<(usize, Duration)>,
}

/// One whose connections hold little that nobody has read, so that a body need not be huge to get stuck: by their small packets,
/// the client's side holds little, too. On Linux both together hold some 100 kB.
pub fn small_listener() -> TcpListener {
    listener(16 * 1024, Some(536))
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

impl Service {
    pub fn start(script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static) -> Self {
        Service::listen(TcpListener::bind("127.0.0.1:0").unwrap(), None, |_| None, script)
    }

    /// A service that may also reply to the head of a request. The connection is then closed while the body is on its way,
    /// which resets it.
    pub fn start_early(
        at_head: impl Fn(&RecordedRequest) -> Option<Reply> + Send + Sync + 'static,
        script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Service::listen(small_listener(), None, at_head, script)
    }

    /// A service that takes requests in pieces of this size, with a pause of real time before each. Once no more is left than
    /// the client's side of the connection holds, it takes the rest at once.
    pub fn start_slow(
        piece: usize,
        pause: Duration,
        script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Service::listen(listener(32 * 1024, None), Some((piece, pause)), |_| None, script)
    }

    fn listen(
        listener: TcpListener,
        slow: Option<(usize, Duration)>,
        at_head: impl Fn(&RecordedRequest) -> Option<Reply> + Send + Sync + 'static,
        script: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (at_head, script) = (Box::new(at_head), Box::new(script));
        let shared = Arc::new(Shared { record: Mutex::default(), changed: Condvar::new(), at_head, script, slow });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                stream.set_nodelay(true).unwrap();
                let shared = Arc::clone(&accepting);
                let connection = {
                    let mut record = shared.record.lock().unwrap();
                    let connection = record.opened;
                    record.opened += 1;
                    record.streams.insert(connection, stream.try_clone().unwrap());
                    connection
                };
                thread::spawn(move || {
                    exchange::serve(&shared, connection, stream);
                    let mut record = shared.record.lock().unwrap();
                    record.streams.remove(&connection);
                    record.ended.insert(connection);
                    drop(record);
                    shared.changed.notify_all();
                });
            }
        });
        Service { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A configuration for this service, with a key of its own so that tests share no sampling gate. Without telemetry, so that
    /// every request is one that the test is about.
    pub fn config(&self) -> ConfigBuilder {
        config_for(self.url())
    }

    /// The same, by a clock that the test drives. No heartbeat is due.
    pub fn manual_config(&self, manual: &ManualClock) -> ConfigBuilder {
        self.config().clock(manual.clock()).heartbeat_interval(Duration::from_secs(365 * 24 * 3600))
    }

    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.record.lock().unwrap().seen.clone()
    }

    pub fn requests_to(&self, path: &str) -> Vec<RecordedRequest> {
        self.requests().into_iter().filter(|request| request.path == path).collect()
    }

    /// Blocks until what was seen is as expected, and returns it.
    pub fn wait_until(&self, expected: impl Fn(&[RecordedRequest]) -> bool) -> Vec<RecordedRequest> {
        let record = self.shared.record.lock().unwrap();
        let waited = self.shared.changed.wait_timeout_while(record, PATIENCE, |record| !expected(&record.seen));
        let (record, timeout) = waited.unwrap();
        let paths: Vec<_> = record.seen.iter().map(|request| &request.path).collect();
        assert!(!timeout.timed_out(), "not seen in time; seen: {paths:?}");
        record.seen.clone()
    }

    /// Blocks until so many requests to this path were seen.
    pub fn wait_for_count(&self, path: &str, count: usize) -> Vec<RecordedRequest> {
        self.wait_until(|requests| requests.iter().filter(|request| request.path == path).count() >= count);
        self.requests_to(path)
    }

    /// Blocks until this connection has ended.
    pub fn wait_for_disconnect(&self, connection: usize) {
        let record = self.shared.record.lock().unwrap();
        let waited = self.shared.changed.wait_timeout_while(record, PATIENCE, |r| !r.ended.contains(&connection));
        assert!(!waited.unwrap().1.timed_out(), "connection {connection} is still open");
    }
}

/// A configuration without telemetry for the service at this address.
fn config_for(url: String) -> ConfigBuilder {
    Config::builder().api_key(KEY).base_url(url).proxy(Proxy::Off).telemetry(false)
}

impl Drop for Service {
    fn drop(&mut self) {
        for stream in self.shared.record.lock().unwrap().streams.values() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// Waits until the client's shortest wait is between these milliseconds, and lets them pass.
pub fn pass(manual: &ManualClock, millis: std::ops::RangeInclusive<u128>) {
    let mut wait = Duration::ZERO;
    manual.until_waiting(|waits| {
        wait = waits.first().copied().unwrap_or_default();
        millis.contains(&wait.as_millis())
    });
    manual.advance(wait);
}

/// A client of this configuration.
pub fn connect(config: ConfigBuilder) -> tinkex::ServiceClient {
    tinkex::ServiceClient::connect(config.build().unwrap()).unwrap()
}

/// One datum of three tokens.
pub fn batch() -> tinkex::types::Batch {
    use tinkex::types::{Datum, ModelInput};
    let datum = Datum::new(ModelInput::from_tokens(vec![1, 2, 3])).input("target_tokens", vec![2_i64, 3, 4]).unwrap();
    vec![datum.input("weights", vec![1.0_f32; 3]).unwrap()].into()
}

//! A scripted Tinker service on loopback: it records every request and answers as the test says.
//!
//! It does what a mock cannot: hold an answer until the test lets go, reset, fall silent, and say which requests came over
//! which connection and when a connection ended.
#![allow(dead_code, reason = "each test file uses its own part of the support")]

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tinkex::Config;
use tinkex::clock::ManualClock;
use tinkex::config::{ConfigBuilder, Proxy};

/// A test that waits longer than this for something that must happen has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request as the service saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The number of the TCP connection, from 0.
    pub connection: usize,
    pub method: String,
    /// Below `/api/v1/`, with the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Value,
    pub raw: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Which poll of its promise it is, from 0.
    pub fn iteration(&self) -> Option<u32> {
        self.header("x-tinker-request-iteration")?.parse().ok()
    }

    pub fn request_id(&self) -> &str {
        self.body["request_id"].as_str().unwrap_or_default()
    }

    pub fn seq_id(&self) -> Option<u64> {
        self.body["seq_id"].as_u64()
    }
}

/// What the service does with a request.
pub enum Reply {
    Json(u16, Value),
    Full {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// This answer, once the gate is open; the connection ends when the client closes it before.
    Held(Arc<Gate>, Box<Reply>),
    /// Never answers; the connection stays open until the client closes it.
    Silence,
    /// Closes the connection without an answer.
    Close,
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, then silence.
    Stall(Vec<u8>),
    /// These bytes; after them nothing is read until the gate opens.
    Deaf(Vec<u8>, Arc<Gate>),
    /// These bytes one after the other, with a pause of real time before each.
    Slow(Vec<Vec<u8>>, Duration),
}

impl Reply {
    pub fn ok(body: Value) -> Self {
        Reply::Json(200, body)
    }

    pub fn held(gate: &Arc<Gate>, reply: Reply) -> Self {
        Reply::Held(Arc::clone(gate), Box::new(reply))
    }

    pub fn with_headers(status: u16, headers: &[(&'static str, &str)], body: &Value) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Reply::Full { status, headers, body: body.to_string().into_bytes() }
    }
}

#[derive(Default)]
struct Record {
    seen: Vec<Seen>,
    opened: usize,
    ended: HashSet<usize>,
    streams: HashMap<usize, TcpStream>,
}

type Script<R> = Box<dyn Fn(&Seen) -> R + Send + Sync>;

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
    pub fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Service::listen(TcpListener::bind("127.0.0.1:0").unwrap(), None, |_| None, script)
    }

    /// A service that may also reply to the head of a request. The connection is then closed while the body is on its way,
    /// which resets it.
    pub fn start_early(
        at_head: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Service::listen(small_listener(), None, at_head, script)
    }

    /// A service that takes requests in pieces of this size, with a pause of real time before each. Once no more is left than
    /// the client's side of the connection holds, it takes the rest at once.
    pub fn start_slow(piece: usize, pause: Duration, script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Service::listen(listener(32 * 1024, None), Some((piece, pause)), |_| None, script)
    }

    fn listen(
        listener: TcpListener,
        slow: Option<(usize, Duration)>,
        at_head: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
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
                    serve(&shared, connection, stream);
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

    /// A configuration for this service, with a key of its own so that tests share no sampling gate.
    pub fn config(&self) -> ConfigBuilder {
        Config::builder().api_key("tml-test-key").base_url(self.url()).proxy(Proxy::Off)
    }

    /// The same, by a clock that the test drives. No heartbeat is due.
    pub fn manual_config(&self, manual: &ManualClock) -> ConfigBuilder {
        self.config().clock(manual.clock()).heartbeat_interval(Duration::from_secs(365 * 24 * 3600))
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.record.lock().unwrap().seen.clone()
    }

    pub fn seen_at(&self, path: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path == path).collect()
    }

    /// Blocks until what was seen is as expected, and returns it.
    pub fn until_seen(&self, expected: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let record = self.shared.record.lock().unwrap();
        let waited = self.shared.changed.wait_timeout_while(record, PATIENCE, |record| !expected(&record.seen));
        let (record, timeout) = waited.unwrap();
        let paths: Vec<_> = record.seen.iter().map(|seen| &seen.path).collect();
        assert!(!timeout.timed_out(), "not seen in time; seen: {paths:?}");
        record.seen.clone()
    }

    /// Blocks until so many requests to this path were seen.
    pub fn until_count(&self, path: &str, count: usize) -> Vec<Seen> {
        self.until_seen(|seen| seen.iter().filter(|seen| seen.path == path).count() >= count);
        self.seen_at(path)
    }

    /// Blocks until this connection has ended.
    pub fn until_ended(&self, connection: usize) {
        let record = self.shared.record.lock().unwrap();
        let waited = self.shared.changed.wait_timeout_while(record, PATIENCE, |r| !r.ended.contains(&connection));
        assert!(!waited.unwrap().1.timed_out(), "connection {connection} is still open");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        for stream in self.shared.record.lock().unwrap().streams.values() {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn serve(shared: &Shared, connection: usize, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    while let Some((mut seen, head, length)) = read_head(connection, &mut stream, &mut buffer) {
        let early = (shared.at_head)(&seen);
        if early.is_none() {
            while buffer.len() < head + length {
                let left = head + length - buffer.len();
                if let Some((piece, pause)) = shared.slow.filter(|_| left > 4 << 20) {
                    // Nobody ever notifies: this waits for as long as the pause.
                    let nothing = Mutex::new(());
                    drop(Condvar::new().wait_timeout(nothing.lock().unwrap(), pause).unwrap());
                    let goal = buffer.len() + piece;
                    while buffer.len() < goal.min(head + length) && read_more(&mut stream, &mut buffer) {}
                } else if !read_more(&mut stream, &mut buffer) {
                    return;
                }
            }
            seen.raw = buffer[head..head + length].to_vec();
            seen.body = serde_json::from_slice(&seen.raw).unwrap_or(Value::Null);
            buffer.drain(..head + length);
        }
        shared.record.lock().unwrap().seen.push(seen.clone());
        shared.changed.notify_all();
        if let Some(reply) = early {
            answer(&mut stream, reply);
            // Data that nobody has read makes the close a reset.
            stream.peek(&mut [0]).ok();
            return;
        }
        if !answer(&mut stream, (shared.script)(&seen)) {
            return;
        }
    }
}

/// Whether the connection goes on.
fn answer(stream: &mut TcpStream, reply: Reply) -> bool {
    let (status, headers, body) = match reply {
        Reply::Json(status, body) => {
            (status, vec![("content-type", "application/json".to_owned())], body.to_string().into_bytes())
        }
        Reply::Full { status, headers, body } => (status, headers, body),
        Reply::Held(gate, then) => return gate.pass_unless_closed(stream) && answer(stream, *then),
        Reply::Silence => return answer(stream, Reply::Stall(Vec::new())),
        Reply::Close => return false,
        Reply::Raw(bytes) => {
            stream.write_all(&bytes).ok();
            stream.shutdown(Shutdown::Write).ok();
            return false;
        }
        Reply::Stall(bytes) => {
            stream.write_all(&bytes).ok();
            let mut rest = [0; 1024];
            while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
            return false;
        }
        Reply::Deaf(bytes, gate) => {
            stream.write_all(&bytes).ok();
            gate.pass();
            return false;
        }
        Reply::Slow(pieces, pause) => {
            stream.set_read_timeout(Some(pause)).unwrap();
            let sent = pieces.iter().all(|piece| {
                // The client sends nothing meanwhile: this waits for as long as the pause.
                stream.peek(&mut [0]).is_err() && stream.write_all(piece).is_ok()
            });
            stream.set_read_timeout(None).unwrap();
            return sent;
        }
    };
    let mut bytes = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("\r\n");
    stream.write_all(&[bytes.as_bytes(), &body].concat()).is_ok()
}

/// The request without its body, the length of its head, and the length of its body.
fn read_head(connection: usize, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(Seen, usize, usize)> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        if let Ok(httparse::Status::Complete(head)) = request.parse(buffer) {
            let headers: Vec<(String, String)> = request
                .headers
                .iter()
                .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length = length.map_or(0, |(_, value)| value.parse().unwrap());
            let path = request.path.unwrap().trim_start_matches("/api/v1/").to_owned();
            let method = request.method.unwrap().to_owned();
            let seen = Seen { connection, method, path, headers, body: Value::Null, raw: Vec::new() };
            return Some((seen, head, length));
        }
        if !read_more(stream, buffer) {
            return None;
        }
    }
}

fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 16 * 1024];
    match stream.read(&mut chunk) {
        Ok(0) | Err(_) => false,
        Ok(read) => {
            buffer.extend_from_slice(&chunk[..read]);
            true
        }
    }
}

/// What a service that is well answers. Promises are named after the request: `PATH:MODEL OR SAMPLER:SEQ`.
pub fn well(seen: &Seen) -> Reply {
    let body = &seen.body;
    Reply::ok(match seen.path.as_str() {
        "create_session" => json!({"session_id": "session-1"}),
        "session_heartbeat" => json!({"type": "session_heartbeat"}),
        "healthz" => json!({"status": "ok"}),
        "get_server_capabilities" => json!({"supported_models": [{"model_name": "base"}]}),
        "get_info" => json!({"model_id": body["model_id"], "model_data": {}}),
        "create_sampling_session" => {
            json!({"sampling_session_id": format!("sampler-{}", body["sampling_session_seq_id"])})
        }
        "create_model" => json!({"request_id": format!("create_model:model-{}:0", body["model_seq_id"])}),
        "retrieve_future" => return result(seen.request_id()),
        path => {
            let owner = body["model_id"].as_str().or(body["sampling_session_id"].as_str()).unwrap_or_default();
            json!({"request_id": format!("{path}:{owner}:{}", body["seq_id"])})
        }
    })
}

/// The result of a promise of [`well`].
pub fn result(request_id: &str) -> Reply {
    let mut parts = request_id.split(':');
    let (path, owner, seq_id) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let seq_id: u32 = seq_id.parse().unwrap_or_default();
    Reply::ok(match path.unwrap_or_default() {
        "create_model" => json!({"model_id": owner}),
        "forward" | "forward_backward" => json!({
            "loss_fn_output_type": "ArrayRecord",
            "loss_fn_outputs": [{"logprobs": {"data": [-0.5], "dtype": "float32", "shape": [1]}}],
            "metrics": {"loss:sum": f64::from(seq_id)},
        }),
        "optim_step" => json!({"metrics": {"step": f64::from(seq_id)}}),
        "unload_model" => json!({"model_id": owner}),
        "save_weights" => json!({"path": "tinker://run/weights/a"}),
        "load_weights" => json!({"path": "tinker://run/weights/a"}),
        "save_weights_for_sampler" => json!({"path": "tinker://run/sampler_weights/a", "sampling_session_id": "saved"}),
        "asample" => json!({"sequences": [{"stop_reason": "stop", "tokens": [seq_id], "logprobs": [-0.25]}]}),
        other => panic!("no result for {other:?}"),
    })
}

/// A client of this configuration.
pub fn connect(config: ConfigBuilder) -> tinkex::ServiceClient {
    tinkex::ServiceClient::connect(config.build().unwrap()).unwrap()
}

/// A service that answers polls as the script says, and the rest well.
pub fn polled(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Service {
    Service::start(move |seen| if seen.path == "retrieve_future" { script(seen) } else { well(seen) })
}

/// One datum of three tokens.
pub fn batch() -> tinkex::types::Batch {
    use tinkex::types::{Datum, ModelInput};
    let datum = Datum::new(ModelInput::from_tokens(vec![1, 2, 3])).input("target_tokens", vec![2_i64, 3, 4]).unwrap();
    vec![datum.input("weights", vec![1.0_f32; 3]).unwrap()].into()
}

/// A gate that a script waits at until the test opens it.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
    }

    /// Waits until it is open, or until the client closes the connection; says whether it is open.
    fn pass_unless_closed(self: &Arc<Self>, stream: &TcpStream) -> bool {
        let closed = Arc::new(AtomicBool::new(false));
        let (watched, gate, gone) = (stream.try_clone().unwrap(), Arc::clone(self), Arc::clone(&closed));
        // Ends with the connection, or with the next request on it.
        thread::spawn(move || {
            if watched.peek(&mut [0]).map_or(true, |read| read == 0) {
                gone.store(true, Ordering::Release);
                drop(gate.open.lock().unwrap());
                gate.changed.notify_all();
            }
        });
        let waits = |open: &mut bool| !*open && !closed.load(Ordering::Acquire);
        *self.changed.wait_timeout_while(self.open.lock().unwrap(), PATIENCE, waits).unwrap().0
    }
}

/// How many are inside at once, now and at most.
#[derive(Default)]
pub struct Gauge {
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    pub fn enter(&self) -> impl Drop + '_ {
        struct Inside<'a>(&'a Gauge);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.inside.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.most.fetch_max(self.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Inside(self)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

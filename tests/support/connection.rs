//! One connection: requests as they are read, and replies as they are written.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::Gate;
use super::service::{Shared, is_for_current_services};

/// A request as the service received it.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
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

impl RecordedRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The number of this poll of its promise, from 0.
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

/// How the service responds to a request.
pub enum Reply {
    Json(u16, Value),
    Full {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Vec<u8>,
    },
    /// This reply, once the gate is open; the connection ends if the client closes it first.
    Held(Arc<Gate>, Box<Reply>),
    /// No response; the connection stays open until the client closes it.
    Silence,
    /// Closes the connection without a response.
    Close,
    /// Resets the connection without a response.
    Reset,
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// These bytes, then nothing, on an open connection.
    Stall(Vec<u8>),
    /// These bytes; then nothing is read until the gate opens.
    StopReading(Vec<u8>, Arc<Gate>),
    /// These pieces in turn, with a pause of real time before each.
    Drip(Vec<Vec<u8>>, Duration),
}

impl Reply {
    /// A success of this content type.
    pub fn typed(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Reply::Full { status: 200, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }

    pub fn ok(body: Value) -> Self {
        Reply::Json(200, body)
    }

    /// The bytes of a reply with a status.
    pub fn into_bytes(self) -> Vec<u8> {
        let (status, headers, body) = match self {
            Reply::Json(status, body) => {
                (status, vec![("content-type", "application/json".to_owned())], body.to_string().into_bytes())
            }
            Reply::Full { status, headers, body } => (status, headers, body),
            _ => panic!("a reply without a status"),
        };
        let mut bytes = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str("\r\n");
        [bytes.as_bytes(), &body].concat()
    }

    pub fn no_content() -> Self {
        Reply::Full { status: 204, headers: Vec::new(), body: Vec::new() }
    }

    pub fn held(gate: &Arc<Gate>, reply: Reply) -> Self {
        Reply::Held(Arc::clone(gate), Box::new(reply))
    }

    pub fn with_headers(status: u16, headers: &[(&'static str, &str)], body: &Value) -> Self {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Reply::Full { status, headers, body: body.to_string().into_bytes() }
    }
}

pub(super) fn serve(shared: &Shared, connection: usize, mut stream: TcpStream) {
    let mut buffer = Vec::new();
    while let Some((mut seen, head, length)) = read_head(connection, &mut stream, &mut buffer) {
        let is_unknown = !shared.options.is_current && is_for_current_services(&seen.path);
        let early = if is_unknown { None } else { (shared.options.reply_to_head)(&seen) };
        if early.is_none() {
            while buffer.len() < head + length {
                let left = head + length - buffer.len();
                if let Some((piece, pause)) = shared.options.slow.filter(|_| left > 4 << 20) {
                    // Nobody notifies, so this waits for the whole pause.
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
        if is_unknown {
            if !write(&mut stream, Reply::Json(404, json!({"detail": "Not Found"}))) {
                return;
            }
            continue;
        }
        if shared.options.record {
            shared.record.lock().requests.push(seen.clone());
            shared.changed.notify_all();
        }
        if let Some(reply) = early {
            if matches!(reply, Reply::Close) {
                return reset_on_close(&stream);
            }
            write(&mut stream, reply);
            // Unread data turns the close into a reset.
            stream.peek(&mut [0]).ok();
            return;
        }
        if !write(&mut stream, (shared.script)(&seen)) {
            return;
        }
    }
}

/// Writes a reply. Returns whether the connection stays open.
fn write(stream: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Json(..) | Reply::Full { .. } => return stream.write_all(&reply.into_bytes()).is_ok(),
        Reply::Held(gate, then) => return gate.pass_unless_closed(stream) && write(stream, *then),
        Reply::Silence => return write(stream, Reply::Stall(Vec::new())),
        Reply::Close => {}
        Reply::Reset => reset_on_close(stream),
        Reply::Raw(bytes) => {
            stream.write_all(&bytes).ok();
            stream.shutdown(Shutdown::Write).ok();
        }
        Reply::Stall(bytes) => {
            stream.write_all(&bytes).ok();
            let mut rest = [0; 1024];
            while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
        }
        Reply::StopReading(bytes, gate) => {
            stream.write_all(&bytes).ok();
            gate.pass();
        }
        Reply::Drip(pieces, pause) => {
            stream.set_read_timeout(Some(pause)).unwrap();
            let sent = pieces.iter().all(|piece| {
                // The client sends nothing, so this waits for the whole pause.
                stream.peek(&mut [0]).is_err() && stream.write_all(piece).is_ok()
            });
            stream.set_read_timeout(None).unwrap();
            return sent;
        }
    }
    false
}

/// The request without its body, the length of its head, and the length of its body. A malformed request gets a 400.
fn read_head(
    connection: usize,
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Option<(RecordedRequest, usize, usize)> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(buffer);
        if parsed.is_err() {
            write(stream, Reply::Json(400, Value::Null));
            return None;
        }
        if let Ok(httparse::Status::Complete(head)) = parsed {
            let headers: Vec<(String, String)> = request
                .headers
                .iter()
                .map(|h| (h.name.to_ascii_lowercase(), String::from_utf8_lossy(h.value).into_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name == "content-length");
            let length = length.map_or(0, |(_, value)| value.parse().unwrap());
            let path = request.path.unwrap().trim_start_matches("/api/v1/").to_owned();
            let method = request.method.unwrap().to_owned();
            let seen = RecordedRequest { connection, method, path, headers, body: Value::Null, raw: Vec::new() };
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

/// Has the close of this connection reset it: such a close does not linger.
pub(super) fn reset_on_close(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

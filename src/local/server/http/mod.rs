//! HTTP/1.1 as bytes: requests out of a buffer, answers into one.
//!
//! Decides what a well-formed request is and how large it may be. Knows no sockets, no threads and no clock.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

/// Servers and proxies commonly stop at 8 to 64 KiB; signed cookies of a proxy in front may take some.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;
/// A chunk's size in hexadecimal digits, and extensions that nobody sends.
const MAX_CHUNK_LINE: usize = 1024;

/// A complete request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// What follows the `?`; empty if nothing does.
    pub(super) query: String,
    /// Names in lower case, in the order in which they came.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) keep_alive: bool,
}

impl Request {
    /// The first value of a header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer. Its body is shared, because a promise's result may be asked for more than once.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(Cow<'static, str>, String)>,
    pub(super) body: Arc<Vec<u8>>,
}

impl Response {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Response { status, headers: Vec::new(), body: Arc::new(body.into()) }
    }

    /// A body of JSON; numbers that JSON cannot express become `null`.
    pub(super) fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Response::new(status, body),
            Err(error) => Response::detail(500, &format!("the answer could not be written as JSON: {error}")),
        }
    }

    /// A refusal in the form of the service: `{"detail": text}`.
    pub(super) fn detail(status: u16, detail: &str) -> Self {
        Response::new(status, serde_json::json!({ "detail": detail }).to_string())
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The text of a refusal.
    pub(super) fn words(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// The status line and the headers, sent at this time of day.
    pub(super) fn head(&self, keep_alive: bool, sent: SystemTime) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let mut line = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        line("date", &httpdate::fmt_http_date(sent));
        for (name, value) in &self.headers {
            line(name, value);
        }
        if self.status != 204 {
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                line("content-type", "application/json");
            }
            line("content-length", &self.body.len().to_string());
        }
        if !keep_alive {
            line("connection", "close");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

/// What the bytes of a connection have come to.
#[derive(Debug)]
pub(super) enum Event {
    /// The client waits for `100 Continue` before it sends the body.
    Continue,
    /// A request is complete.
    Request(Request),
}

/// Collects the bytes of a connection and takes requests out of them.
#[derive(Debug)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    stage: Stage,
    max_body: usize,
}

#[derive(Debug)]
enum Stage {
    Head,
    Body { request: Request, rest: Rest },
}

/// What is still to come of a body.
#[derive(Clone, Copy, Debug)]
enum Rest {
    Length(usize),
    ChunkSize,
    /// Zero stands for the line end after the data.
    Chunk(usize),
    Trailers,
}

/// One step of taking a body out of the buffer.
enum Step {
    Done,
    Again,
    Starved,
}

impl Parser {
    pub(super) fn new(max_body: usize) -> Self {
        Parser { buffer: Vec::new(), stage: Stage::Head, max_body }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether no byte of a next request has come.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Head) && self.buffer.is_empty()
    }

    /// Whether the head of a request is complete and its body is not.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.stage, Stage::Body { .. })
    }

    /// Whether as much is waiting here as anyone may send ahead of an answer.
    pub(super) fn is_full(&self) -> bool {
        self.buffer.len() >= MAX_HEAD
    }

    /// The next event, or none until more bytes come. An error is the refusal to send before closing.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Response> {
        if let Stage::Head = self.stage {
            let Some((request, rest)) = self.head()? else { return Ok(None) };
            let waits = request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
            self.stage = Stage::Body { request, rest };
            if waits && self.buffer.is_empty() {
                return Ok(Some(Event::Continue));
            }
        }
        self.body()
    }

    fn head(&mut self) -> Result<Option<(Request, Rest)>, Response> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let length = match parsed.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if self.buffer.len() <= MAX_HEAD => return Ok(None),
            Ok(_) => return Err(Response::detail(431, "the headers are too long")),
            Err(httparse::Error::TooManyHeaders) => return Err(Response::detail(431, "too many headers")),
            Err(error) => return Err(Response::detail(400, &format!("not an HTTP request: {error}"))),
        };
        let target = parsed.path.unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Request {
            method: parsed.method.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: (parsed.headers.iter())
                .map(|header| (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned()))
                .collect(),
            body: Vec::new(),
            keep_alive: parsed.version == Some(1),
        };
        self.buffer.drain(..length);
        if let Some(connection) = request.header("connection").map(str::to_ascii_lowercase) {
            request.keep_alive = match connection.as_str() {
                "close" => false,
                "keep-alive" => true,
                _ => request.keep_alive,
            };
        }
        let rest = self.framing(&request)?;
        Ok(Some((request, rest)))
    }

    /// How the end of the body is to be found. Two answers to that question are refused, as they invite smuggling (RFC
    /// 9112, 6.3).
    fn framing(&self, request: &Request) -> Result<Rest, Response> {
        let mut lengths = request.headers.iter().filter(|(name, _)| name == "content-length").map(|(_, value)| value);
        let length = lengths.next();
        match request.header("transfer-encoding") {
            Some(_) if length.is_some() => {
                Err(Response::detail(400, "both content-length and transfer-encoding are given"))
            }
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => Ok(Rest::ChunkSize),
            Some(_) => Err(Response::detail(501, "only the transfer encoding chunked is known")),
            None => {
                if lengths.any(|other| Some(other) != length) {
                    return Err(Response::detail(400, "content-length is given twice"));
                }
                let digits = |value: &String| value.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.map_or(Some(0), |value| value.parse().ok().filter(|_: &usize| digits(value)));
                let length = length.ok_or_else(|| Response::detail(400, "content-length is not a number"))?;
                check_body(length, self.max_body)?;
                Ok(Rest::Length(length))
            }
        }
    }

    fn body(&mut self) -> Result<Option<Event>, Response> {
        loop {
            match self.body_step()? {
                Step::Again => {}
                Step::Starved => return Ok(None),
                Step::Done => {
                    return Ok(match std::mem::replace(&mut self.stage, Stage::Head) {
                        Stage::Body { request, .. } => Some(Event::Request(request)),
                        Stage::Head => None,
                    });
                }
            }
        }
    }

    fn body_step(&mut self) -> Result<Step, Response> {
        let Stage::Body { request, rest } = &mut self.stage else { return Ok(Step::Starved) };
        match *rest {
            Rest::Length(wanted) => {
                let taken = wanted.min(self.buffer.len());
                request.body.extend_from_slice(&self.buffer[..taken]);
                self.buffer.drain(..taken);
                *rest = Rest::Length(wanted - taken);
                return Ok(if taken == wanted { Step::Done } else { Step::Starved });
            }
            Rest::Chunk(0) => match self.buffer.get(..2) {
                Some(b"\r\n") => {
                    self.buffer.drain(..2);
                    *rest = Rest::ChunkSize;
                }
                Some(_) => return Err(Response::detail(400, "a chunk is longer than it says")),
                None => return Ok(Step::Starved),
            },
            Rest::Chunk(wanted) => {
                let taken = wanted.min(self.buffer.len());
                request.body.extend_from_slice(&self.buffer[..taken]);
                self.buffer.drain(..taken);
                *rest = Rest::Chunk(wanted - taken);
                if taken < wanted {
                    return Ok(Step::Starved);
                }
            }
            Rest::ChunkSize => match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((line, size))) => {
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    check_body(request.body.len().saturating_add(size), self.max_body)?;
                    self.buffer.drain(..line);
                    *rest = if size == 0 { Rest::Trailers } else { Rest::Chunk(size) };
                }
                Ok(httparse::Status::Partial) if self.buffer.len() <= MAX_CHUNK_LINE => return Ok(Step::Starved),
                _ => return Err(Response::detail(400, "a chunk's size is not a number")),
            },
            Rest::Trailers => match self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) => {
                    self.buffer.drain(..end + 2);
                    if end == 0 {
                        return Ok(Step::Done);
                    }
                }
                None if self.buffer.len() > MAX_HEAD => {
                    return Err(Response::detail(431, "the trailers are too long"));
                }
                None => return Ok(Step::Starved),
            },
        }
        Ok(Step::Again)
    }
}

fn check_body(length: usize, max_body: usize) -> Result<(), Response> {
    if length <= max_body {
        return Ok(());
    }
    Err(Response::detail(413, &format!("the body is longer than {max_body} bytes")))
}

#[cfg(test)]
mod tests;

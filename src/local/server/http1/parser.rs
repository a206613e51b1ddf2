//! The parser: requests out of the bytes of a connection, built on httparse.

use super::message::{Request, Response};

/// Common limits of servers and proxies are 8 to 64 KiB. The upper end, because an authenticating proxy may add cookies.
pub(super) const MAX_HEAD: usize = 64 * 1024;
pub(super) const MAX_HEADERS: usize = 100;
/// A chunk's size in hexadecimal digits, and extensions, which clients do not send in practice.
const MAX_CHUNK_LINE: usize = 1024;

/// What the parser found in the bytes of a connection.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// The client waits for `100 Continue` before it sends the body.
    ExpectContinue,
    /// A complete request.
    Request(Request),
}

/// Buffers the bytes of a connection and parses requests from them.
#[derive(Debug)]
pub(crate) struct Parser {
    buffer: Vec<u8>,
    state: State,
    max_body: usize,
}

#[derive(Debug)]
enum State {
    Head,
    Body { request: Request, remaining: Remaining },
}

/// The part of a body that has not arrived yet.
#[derive(Clone, Copy, Debug)]
enum Remaining {
    Length(usize),
    ChunkSize,
    /// Bytes of the current chunk; zero means the line end after them.
    Chunk(usize),
    Trailers,
}

/// One step of reading a body from the buffer.
enum Step {
    Complete,
    Progress,
    NeedMore,
}

impl Parser {
    pub(crate) fn new(max_body: usize) -> Self {
        Parser { buffer: Vec::new(), state: State::Head, max_body }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether no byte of the next request has arrived.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.buffer.is_empty()
    }

    /// Whether the head of a request is complete and its body is not.
    pub(crate) fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body { .. })
    }

    /// Whether the buffer holds as much as a client may send ahead of the response.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= MAX_HEAD
    }

    /// The next item, or `None` until more bytes arrive. An error is the response to send before closing.
    pub(crate) fn next(&mut self) -> Result<Option<Parsed>, Response> {
        if let State::Head = self.state {
            let Some((request, remaining)) = self.head()? else { return Ok(None) };
            let expects_continue =
                request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
            self.state = State::Body { request, remaining };
            if expects_continue && self.buffer.is_empty() {
                return Ok(Some(Parsed::ExpectContinue));
            }
        }
        self.body()
    }

    fn head(&mut self) -> Result<Option<(Request, Remaining)>, Response> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let length = match parsed.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if self.buffer.len() <= MAX_HEAD => return Ok(None),
            Ok(_) => return Err(Response::error(431, "the headers are too long")),
            Err(httparse::Error::TooManyHeaders) => return Err(Response::error(431, "too many headers")),
            Err(error) => return Err(Response::error(400, &format!("not an HTTP request: {error}"))),
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
            takes_chunks: parsed.version == Some(1),
        };
        self.buffer.drain(..length);
        if let Some(connection) = request.header("connection").map(str::to_ascii_lowercase) {
            request.keep_alive = match connection.as_str() {
                "close" => false,
                "keep-alive" => true,
                _ => request.keep_alive,
            };
        }
        let remaining = self.framing(&request)?;
        Ok(Some((request, remaining)))
    }

    /// How the end of the body is found. A request that frames its body in two ways is rejected: a proxy and a server may
    /// each choose another, which allows request smuggling (RFC 9112, 6.3).
    fn framing(&self, request: &Request) -> Result<Remaining, Response> {
        let mut lengths = request.headers.iter().filter(|(name, _)| name == "content-length").map(|(_, value)| value);
        let length = lengths.next();
        match request.header("transfer-encoding") {
            Some(_) if length.is_some() => {
                Err(Response::error(400, "content-length and transfer-encoding exclude each other"))
            }
            Some(coding) if coding.eq_ignore_ascii_case("chunked") => Ok(Remaining::ChunkSize),
            Some(_) => Err(Response::error(400, "the only supported transfer encoding is chunked")),
            None => {
                if lengths.any(|other| Some(other) != length) {
                    return Err(Response::error(400, "content-length has two values"));
                }
                let digits = |value: &String| value.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.map_or(Some(0), |value| value.parse().ok().filter(|_: &usize| digits(value)));
                let length = length.ok_or_else(|| Response::error(400, "content-length is not a number"))?;
                check_body(length, self.max_body)?;
                Ok(Remaining::Length(length))
            }
        }
    }

    fn body(&mut self) -> Result<Option<Parsed>, Response> {
        loop {
            match self.body_step()? {
                Step::Progress => {}
                Step::NeedMore => return Ok(None),
                Step::Complete => {
                    return Ok(match std::mem::replace(&mut self.state, State::Head) {
                        State::Body { request, .. } => Some(Parsed::Request(request)),
                        State::Head => None,
                    });
                }
            }
        }
    }

    fn body_step(&mut self) -> Result<Step, Response> {
        let State::Body { request, remaining } = &mut self.state else { return Ok(Step::NeedMore) };
        match *remaining {
            Remaining::Length(wanted) => {
                let available = wanted.min(self.buffer.len());
                request.body.extend_from_slice(&self.buffer[..available]);
                self.buffer.drain(..available);
                *remaining = Remaining::Length(wanted - available);
                return Ok(if available == wanted { Step::Complete } else { Step::NeedMore });
            }
            Remaining::Chunk(0) => match self.buffer.get(..2) {
                Some(b"\r\n") => {
                    self.buffer.drain(..2);
                    *remaining = Remaining::ChunkSize;
                }
                Some(_) => return Err(Response::error(400, "a chunk is longer than its size")),
                None => return Ok(Step::NeedMore),
            },
            Remaining::Chunk(wanted) => {
                let available = wanted.min(self.buffer.len());
                request.body.extend_from_slice(&self.buffer[..available]);
                self.buffer.drain(..available);
                *remaining = Remaining::Chunk(wanted - available);
                if available < wanted {
                    return Ok(Step::NeedMore);
                }
            }
            Remaining::ChunkSize => match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((line, size))) if line <= MAX_CHUNK_LINE => {
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    check_body(request.body.len().saturating_add(size), self.max_body)?;
                    self.buffer.drain(..line);
                    *remaining = if size == 0 { Remaining::Trailers } else { Remaining::Chunk(size) };
                }
                Ok(httparse::Status::Partial) if self.buffer.len() <= MAX_CHUNK_LINE => return Ok(Step::NeedMore),
                Ok(_) => return Err(Response::error(400, "the line of a chunk's size is too long")),
                Err(_) => return Err(Response::error(400, "a chunk size is not a hexadecimal number")),
            },
            Remaining::Trailers => match self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) if end < MAX_HEAD => {
                    self.buffer.drain(..end + 2);
                    if end == 0 {
                        return Ok(Step::Complete);
                    }
                }
                None if self.buffer.len() <= MAX_HEAD => return Ok(Step::NeedMore),
                _ => return Err(Response::error(431, "the trailers are too long")),
            },
        }
        Ok(Step::Progress)
    }
}

fn check_body(length: usize, max_body: usize) -> Result<(), Response> {
    if length <= max_body {
        return Ok(());
    }
    Err(Response::error(413, &format!("the body is longer than {max_body} bytes")))
}

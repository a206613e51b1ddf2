//! Requests and responses.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::media_types;
use crate::rules::wire_format::WireFormat;

/// A complete request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// The part after the `?`; empty without one.
    pub(crate) query: String,
    /// In order of arrival, with lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) keep_alive: bool,
    /// Whether the client reads a body in chunks: HTTP/1.0 has none (RFC 9112, 6.1).
    pub(crate) takes_chunks: bool,
}

impl Request {
    /// The first value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The format of the body: JSON unless its `content-type` is protobuf.
    pub(crate) fn format(&self) -> WireFormat {
        media_types::format_of(self.header("content-type").unwrap_or_default())
    }

    /// The format that the client prefers for the response: JSON unless `accept` names protobuf.
    pub(crate) fn preferred_format(&self) -> WireFormat {
        let accepted = self.headers.iter().filter(|(name, _)| name == "accept");
        media_types::preferred(accepted.map(|(_, value)| value.as_str()))
    }
}

/// A response. Its body is shared, because the result of a promise may be sent more than once.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) body: Arc<Vec<u8>>,
}

impl Response {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Response { status, headers: Vec::new(), body: Arc::new(body.into()) }
    }

    /// A JSON body; numbers that JSON cannot express become `null`.
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Response::new(status, body),
            Err(error) => Response::temporary(500, &format!("the response could not be serialized: {error}")),
        }
    }

    /// A final refusal: the same request would be refused again. Its status is none that clients repeat.
    pub(crate) fn error(status: u16, detail: &str) -> Self {
        debug_assert!(!is_repeated(status), "clients repeat a request for minutes after {status}: {detail}");
        Response::with_detail(status, detail)
    }

    /// A refusal that may be over when the client repeats the request, with a status that makes it do so. The documentation of
    /// [`crate::local`] lists them.
    pub(crate) fn temporary(status: u16, detail: &str) -> Self {
        debug_assert!(is_repeated(status), "no client repeats a request after {status}: {detail}");
        Response::with_detail(status, detail)
    }

    /// An error in the service's format: `{"detail": text}`.
    pub(crate) fn with_detail(status: u16, detail: &str) -> Self {
        Response::new(status, serde_json::json!({ "detail": detail }).to_string())
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The `detail` of an error response; empty for any other.
    pub(crate) fn detail(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// The status line and the headers, with `date` as the time of sending.
    pub(crate) fn head(&self, keep_alive: bool, date: SystemTime) -> Vec<u8> {
        let length = self.body.len().to_string();
        self.head_of(Some(("content-length", &length)), keep_alive, date)
    }

    /// The head of a response whose body comes in pieces: in chunks, or up to the end of the connection.
    pub(crate) fn stream_head(&self, keep_alive: bool, date: SystemTime) -> Vec<u8> {
        self.head_of(keep_alive.then_some(("transfer-encoding", "chunked")), keep_alive, date)
    }

    /// `framing` is the header that says where the body ends.
    fn head_of(&self, framing: Option<(&str, &str)>, keep_alive: bool, date: SystemTime) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason_phrase(self.status));
        let mut line = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        line("date", &httpdate::fmt_http_date(date));
        for (name, value) in &self.headers {
            line(name, value);
        }
        if self.status != 204 {
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                line("content-type", "application/json");
            }
            if let Some((name, value)) = framing {
                line(name, value);
            }
        }
        if !keep_alive {
            line("connection", "close");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

/// Whether the official clients repeat a request that gets this status: for up to 5 min, and samples and passes for longer.
fn is_repeated(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500..)
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
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

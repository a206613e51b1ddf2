//! What can go wrong with a request: a row for each.

use std::time::Duration;

use serde_json::json;
use tinkex::types::wire::protobuf;

use crate::support::Reply;

/// A fault.
pub struct Fault {
    pub name: String,
    pub kind: Kind,
}

/// What happens to the request.
pub enum Kind {
    /// Connections are refused, until the client waits before it tries again.
    Refused,
    /// The connection is reset when it is made.
    ResetAtOnce,
    /// It is reset when the head of the request has arrived. Its body is not read.
    ResetWithin,
    /// The request is not run, and this is the reply.
    Instead(fn() -> Reply),
    /// The request is not run, and gets no response.
    Silence,
    /// The server is stopped: no request is run, and none gets a response. When the client has given this one up, the server goes on,
    /// and runs it and all others.
    Stopped,
    /// The request is run; then the server is killed: connections end, and are refused until the client waits before it tries again.
    /// Then it has started again on the same data.
    Restarted,
    /// The request is not run, and this is the status, with a header.
    Status(u16, Option<(&'static str, &'static str)>),
    /// The request is not run, and a gateway responds with this status and a page.
    Page(u16),
    /// The request is run, and this is done to its reply.
    Changed(fn(Reply) -> Reply),
    /// The request is run, and this makes its reply stop, or come slower than the limit.
    Stalled(fn(Reply) -> Reply),
    /// The request is run, and this is the status.
    StatusAfter(u16),
}

impl Kind {
    /// The status that the client gets.
    pub fn status(&self) -> Option<u16> {
        match self {
            Kind::Status(status, _) | Kind::Page(status) | Kind::StatusAfter(status) => Some(*status),
            Kind::Changed(_) | Kind::Stalled(_) => Some(200),
            _ => None,
        }
    }

    /// Whether the client notices it by a limit of real time.
    pub fn is_silent(&self) -> bool {
        matches!(self, Kind::Silence | Kind::Stopped | Kind::Stalled(_))
    }
}

/// How long a silent server is waited for, in real time; three times as long for a large pass.
pub const IDLE: Duration = Duration::from_millis(100);

/// The size of the largest response that is taken.
pub const MOST_BYTES: u64 = 256 * 1024;

const CONNECTIONS: [(&str, Kind); 17] = [
    ("refused", Kind::Refused),
    ("reset before the request", Kind::ResetAtOnce),
    ("reset within the request", Kind::ResetWithin),
    ("closed before it is run", Kind::Instead(|| Reply::Close)),
    ("silence before it is run", Kind::Silence),
    ("not HTTP", Kind::Instead(|| Reply::Raw(b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()))),
    ("closed after it is run", Kind::Changed(|_| Reply::Close)),
    ("reset after it is run", Kind::Changed(|_| Reply::Reset)),
    ("silence after it is run", Kind::Stalled(|_| Reply::Silence)),
    ("closed within the head", Kind::Changed(|reply| Reply::Raw(head(reply)))),
    ("silence within the head", Kind::Stalled(|reply| Reply::Stall(head(reply)))),
    ("closed within the body", Kind::Changed(|reply| Reply::Raw(cut(reply)))),
    ("silence within the body", Kind::Stalled(|reply| Reply::Stall(cut(reply)))),
    ("a slow response", Kind::Changed(|reply| drip(reply, IDLE / 10))),
    ("a response slower than the limit", Kind::Stalled(|reply| drip(reply, 9 * IDLE))),
    ("stopped and continued", Kind::Stopped),
    ("killed and restarted", Kind::Restarted),
];

const BODIES: [(&str, Kind); 9] = [
    ("200, empty", Kind::Changed(|_| Reply::typed("application/json", b""))),
    ("200, half of the JSON", Kind::Changed(|_| Reply::typed("application/json", br#"{"request_id": "a", "#))),
    ("200, HTML", Kind::Changed(|_| Reply::typed("text/html", b"<html><body>Please log in</body></html>"))),
    ("200, a number", Kind::Changed(|_| Reply::typed("application/json", b"7"))),
    ("200, an empty object", Kind::Changed(|_| Reply::typed("application/json", b"{}"))),
    ("200, an error that is null", Kind::Changed(null_error)),
    ("200, content type text", Kind::Changed(|reply| retyped(reply, "text/plain"))),
    ("200, content type protobuf", Kind::Changed(|reply| retyped(reply, protobuf::CONTENT_TYPE))),
    ("200, too large", Kind::Changed(|_| Reply::typed("application/json", vec![b' '; MOST_BYTES as usize + 1]))),
];

const STATUSES: [u16; 17] = [400, 401, 402, 403, 404, 405, 408, 409, 410, 413, 415, 422, 429, 500, 502, 503, 504];

/// Those that a gateway may say in its own name.
const PAGES: [u16; 3] = [404, 408, 410];

/// Those that a gateway may also send when the request was run.
const STATUSES_AFTER: [u16; 7] = [408, 500, 502, 503, 504, 520, 524];

const HEADERS: [(&str, &str); 11] = [
    ("retry-after", "2"),
    ("retry-after", "61"),
    ("retry-after", "-1"),
    ("retry-after", "1e308"),
    ("retry-after", "nan"),
    ("retry-after", "9223372036854775808"),
    ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"),
    ("retry-after-ms", "1500"),
    ("retry-after-ms", "soon"),
    ("x-should-retry", "true"),
    ("x-should-retry", "false"),
];

/// How a service refuses a token that it has given.
pub const INVALID_TOKEN: (&str, &str) = ("www-authenticate", "Bearer error=\"invalid_token\"");

/// All faults. The statuses with a header are of interest wherever a request is sent again by its own rules.
pub fn all() -> Vec<Fault> {
    let named = |(name, kind): (&str, Kind)| Fault { name: name.to_owned(), kind };
    let statuses = STATUSES.map(|status| Fault { name: status.to_string(), kind: Kind::Status(status, None) });
    let pages = PAGES.map(|status| Fault { name: format!("{status}, HTML"), kind: Kind::Page(status) });
    let after = STATUSES_AFTER
        .map(|status| Fault { name: format!("{status} after it is run"), kind: Kind::StatusAfter(status) });
    let with_header = [400, 429, 503].into_iter().flat_map(|status| {
        HEADERS.map(|header| Fault {
            name: format!("{status} with {}: {}", header.0, header.1),
            kind: Kind::Status(status, Some(header)),
        })
    });
    let named = CONNECTIONS.into_iter().chain(BODIES).map(named);
    let invalid = Fault { name: "401, invalid token".to_owned(), kind: Kind::Status(401, Some(INVALID_TOKEN)) };
    named.chain(statuses).chain(pages).chain(after).chain(with_header).chain([invalid]).collect()
}

/// The response of a status.
pub fn status(status: u16, header: Option<(&'static str, &'static str)>) -> Reply {
    Reply::with_headers(status, header.as_slice(), &json!({"detail": "a fault"}))
}

/// The response of a gateway.
pub fn page(status: u16) -> Reply {
    let headers = vec![("content-type", "text/html".to_owned())];
    Reply::Full { status, headers, body: b"<html><body>nothing here</body></html>".to_vec() }
}

fn head(reply: Reply) -> Vec<u8> {
    let mut bytes = reply.into_bytes();
    bytes.truncate(30);
    bytes
}

/// Without the last byte. A response without a body is cut in its head.
fn cut(reply: Reply) -> Vec<u8> {
    let mut bytes = reply.into_bytes();
    bytes.pop();
    bytes
}

/// The head, and then a body that comes in pieces, with these pauses.
fn drip(reply: Reply, pause: Duration) -> Reply {
    let bytes = reply.into_bytes();
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| end + 4);
    let (head, body) = bytes.split_at(head);
    let pieces = body.chunks(body.len().div_ceil(4).max(1)).map(<[u8]>::to_vec);
    Reply::Drip(std::iter::once(head.to_vec()).chain(pieces).collect(), pause)
}

/// The same JSON with an error that is none.
fn null_error(reply: Reply) -> Reply {
    match reply {
        Reply::Json(status, mut body) if body.is_object() => {
            body["error"] = json!(null);
            Reply::Json(status, body)
        }
        other => other,
    }
}

fn retyped(reply: Reply, content_type: &str) -> Reply {
    match reply {
        Reply::Json(status, body) => {
            let headers = vec![("content-type", content_type.to_owned())];
            Reply::Full { status, headers, body: body.to_string().into_bytes() }
        }
        Reply::Full { status, mut headers, body } => {
            headers.retain(|(name, _)| *name != "content-type");
            headers.push(("content-type", content_type.to_owned()));
            Reply::Full { status, headers, body }
        }
        other => other,
    }
}

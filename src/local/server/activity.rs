//! The requests that the server received and what is open now, for tests and demonstrations.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prost::Message;
use serde::Deserialize;

use super::http1::Request;
use super::time::now;
use crate::rules::wire_format::WireFormat;

/// A request as it arrived, whatever the response was. [`LocalServer::activity`](crate::local::LocalServer::activity) has an
/// example.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoggedRequest {
    /// Position in the order of arrival since the server started, from zero.
    pub index: u64,
    /// The TCP connection it arrived on; connections are numbered from 1 in the order of acceptance.
    pub connection: usize,
    /// Time of arrival since the start of the server.
    pub at: Duration,
    /// The method, such as `POST`.
    pub method: String,
    /// The path without the query, such as `/api/v1/asample`.
    pub path: String,
    headers: Vec<(String, String)>,
    /// The sequence number in the body: the first present of `seq_id`, `model_seq_id` and `sampling_session_seq_id`.
    pub seq: Option<u64>,
    /// What the sequence number belongs to: the first present of the ids of a model, sampling session and session in the
    /// body.
    pub subject: Option<String>,
    /// The promise that a `retrieve_future` request polls.
    pub request_id: Option<String>,
    /// The value of `x-stainless-retry-count`: zero for the first attempt.
    pub attempt: Option<u32>,
}

impl LoggedRequest {
    /// The last segment of the path, such as `asample`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The headers in the order sent, with lower-case names. The values of those that may give access to something, such as
    /// `x-api-key`, `authorization`, `cookie` and names that end in `-token`, are replaced by `…`.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The first value of a header, by its lower-case name. Secrets are replaced as in [`headers`](LoggedRequest::headers).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The size of a logged request for which the log has room, in bytes: a few times that of a usual one. Larger ones take the
/// room of others, so that no client fills the memory.
const BYTES_OF_A_REQUEST: usize = 8 * 1024;

/// Whether a header gives whoever knows its value access to something.
fn is_secret(name: &str) -> bool {
    const SECRETS: [&str; 5] = ["x-api-key", "authorization", "cookie", "cf-access-client-id", "secret"];
    SECRETS.iter().any(|secret| name.contains(secret)) || name.ends_with("-token")
}

/// The fields of a body that are logged; all others are skipped.
#[derive(Default, Deserialize)]
struct LoggedFields {
    seq_id: Option<u64>,
    model_seq_id: Option<u64>,
    sampling_session_seq_id: Option<u64>,
    model_id: Option<String>,
    sampling_session_id: Option<String>,
    session_id: Option<String>,
    request_id: Option<String>,
}

/// Those of a pass in protobuf.
#[derive(Clone, PartialEq, prost::Message)]
struct LoggedPass {
    #[prost(string, tag = "1")]
    model_id: String,
    #[prost(int32, tag = "2")]
    seq_id: i32,
}

impl LoggedFields {
    /// The fields of a request's body; none if it is malformed.
    fn of(request: &Request) -> Self {
        match request.format() {
            WireFormat::Json => serde_json::from_slice(&request.body).unwrap_or_default(),
            WireFormat::Protobuf => {
                let LoggedPass { model_id, seq_id } = LoggedPass::decode(&*request.body).unwrap_or_default();
                let seq_id = u64::try_from(seq_id).ok().filter(|&seq_id| seq_id > 0);
                LoggedFields { seq_id, model_id: Some(model_id), ..LoggedFields::default() }
            }
        }
    }
}

impl LoggedRequest {
    /// The size in memory, in bytes.
    fn size(&self) -> usize {
        let ids = [&self.subject, &self.request_id].into_iter().flatten().map(String::len);
        let headers = self.headers.iter().map(|header| size_of_val(header) + header.0.len() + header.1.len());
        size_of_val(self) + self.method.len() + self.path.len() + ids.chain(headers).sum::<usize>()
    }
}

/// A snapshot of the server: the requests received so far, and the open connections and polls.
/// [`LocalServer::activity`](crate::local::LocalServer::activity) has an example.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    pub(crate) requests: VecDeque<LoggedRequest>,
    /// The size of the logged requests in bytes.
    logged_bytes: usize,
    pub(crate) arrived: u64,
    pub(crate) connections: usize,
    pub(crate) held_polls: usize,
    pub(crate) traffic: Traffic,
}

/// What went over the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) accepted: usize,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, more: Traffic) {
        self.accepted += more.accepted;
        self.received += more.received;
        self.sent += more.sent;
    }
}

impl Activity {
    /// The logged requests in the order of arrival. Once the log is full, each new request drops the oldest.
    pub fn requests(&self) -> impl DoubleEndedIterator<Item = &LoggedRequest> {
        self.requests.iter()
    }

    /// The requests to one endpoint, such as `asample`.
    pub fn requests_to<'a>(&'a self, endpoint: &'a str) -> impl DoubleEndedIterator<Item = &'a LoggedRequest> {
        self.requests.iter().filter(move |request| request.endpoint() == endpoint)
    }

    /// Number of requests that have arrived since the start.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Number of open TCP connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Number of polls that are held open because their result is not ready yet.
    #[must_use]
    pub fn held_polls(&self) -> usize {
        self.held_polls
    }

    /// Number of TCP connections that were accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.traffic.accepted
    }

    /// Number of bytes received since the start, with the heads of requests.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.traffic.received
    }

    /// Number of bytes sent since the start, with the heads of responses.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.traffic.sent
    }
}

/// The current [`Activity`], shared by the server's threads, with a way to wait for a change.
#[derive(Debug)]
pub(crate) struct ActivityTracker {
    activity: Mutex<Activity>,
    changed: Condvar,
    started: Instant,
    capacity: usize,
}

impl ActivityTracker {
    pub(crate) fn new(capacity: usize) -> Self {
        ActivityTracker { activity: Mutex::default(), changed: Condvar::new(), started: now(), capacity }
    }

    pub(crate) fn log(&self, connection: usize, request: &Request) {
        if self.capacity == 0 {
            return self.update(|activity| activity.arrived += 1);
        }
        let fields = LoggedFields::of(request);
        let entry = LoggedRequest {
            index: 0,
            connection,
            at: now().duration_since(self.started),
            method: request.method.clone(),
            path: request.path.clone(),
            headers: (request.headers.iter())
                .map(|(name, value)| (name.clone(), if is_secret(name) { "…".to_owned() } else { value.clone() }))
                .collect(),
            seq: fields.seq_id.or(fields.model_seq_id).or(fields.sampling_session_seq_id),
            subject: fields.model_id.or(fields.sampling_session_id).or(fields.session_id),
            request_id: fields.request_id,
            attempt: request.header("x-stainless-retry-count").and_then(|value| value.parse().ok()),
        };
        self.update(|activity| {
            let entry = LoggedRequest { index: activity.arrived, ..entry };
            activity.logged_bytes += entry.size();
            activity.requests.push_back(entry);
            activity.arrived += 1;
            self.drop_oldest(activity);
        });
    }

    /// Drops the oldest requests beyond the capacity. The newest stays whatever its size.
    fn drop_oldest(&self, activity: &mut Activity) {
        let most_bytes = self.capacity.saturating_mul(BYTES_OF_A_REQUEST);
        while activity.requests.len() > self.capacity
            || (activity.requests.len() > 1 && activity.logged_bytes > most_bytes)
        {
            let Some(dropped) = activity.requests.pop_front() else { return };
            activity.logged_bytes -= dropped.size();
        }
    }

    pub(crate) fn update(&self, update: impl FnOnce(&mut Activity)) {
        update(&mut self.activity.lock());
        self.changed.notify_all();
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Activity) -> T) -> T {
        read(&self.activity.lock())
    }

    /// Waits until the condition holds; returns `false` on timeout.
    pub(crate) fn wait_until(&self, timeout: Duration, mut condition: impl FnMut(&Activity) -> bool) -> bool {
        let mut activity = self.activity.lock();
        !self.changed.wait_while_for(&mut activity, |activity| !condition(activity), timeout).timed_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_give_access_are_secret() {
        for (name, expected) in [
            ("x-api-key", true),
            ("authorization", true),
            ("proxy-authorization", true),
            ("cookie", true),
            ("x-tinker-weights-access-token", true),
            ("cf-access-client-id", true),
            ("cf-access-client-secret", true),
            ("x-idempotency-key", false),
            ("x-tinker-request-type", false),
            ("user-agent", false),
        ] {
            assert_eq!(is_secret(name), expected, "{name}");
        }
    }

    #[test]
    fn large_requests_take_the_room_of_others() {
        let tracker = ActivityTracker::new(100);
        let log = |id: usize| {
            let request = Request {
                method: "POST".to_owned(),
                path: "/api/v1/retrieve_future".to_owned(),
                query: String::new(),
                headers: vec![("x-a".to_owned(), "b".repeat(1000))],
                body: serde_json::json!({ "request_id": "x".repeat(id) }).to_string().into(),
                keep_alive: true,
                takes_chunks: true,
            };
            tracker.log(1, &request);
            tracker.read(|activity| activity.requests.len())
        };
        (1..=100).for_each(|count| assert_eq!(log(100), count));
        assert_eq!(log(100), 100);
        assert_eq!(log(600 * 1024), 100);
        let count = log(100 * 1024);
        assert!((50..90).contains(&count), "{count}");
        assert_eq!(log(2 * 1024 * 1024), 1);
        assert_eq!(log(100), 1);
        assert_eq!(log(100), 2);
        assert_eq!(tracker.read(Activity::arrived), 106);
    }
}

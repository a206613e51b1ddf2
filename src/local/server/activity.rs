//! What the server has seen and holds, for tests and for demonstrations.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Deserialize;

use super::http::Request;

/// A request as the server saw it arrive, whatever became of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LoggedRequest {
    /// Its place in the order of arrival, from zero over all requests since the start.
    pub index: u64,
    /// The TCP connection that it came on, from 1 in the order in which they were accepted.
    pub connection: usize,
    /// How long after the start of the server it arrived.
    pub at: Duration,
    /// The method, such as `POST`.
    pub method: String,
    /// The path without the query, such as `/api/v1/asample`.
    pub path: String,
    /// The headers with their names in lower case. The value of `x-api-key` is replaced by `…`.
    pub headers: Vec<(String, String)>,
    /// The sequence number in the body: `seq_id`, `model_seq_id` or `sampling_session_seq_id`, the first that is there.
    pub seq: Option<u64>,
    /// What the sequence number counts for: the id of the model, sampling session or session in the body, the first
    /// that is there.
    pub subject: Option<String>,
    /// The promise that `retrieve_future` asks for.
    pub request_id: Option<String>,
    /// The value of `x-stainless-retry-count`: zero for a first attempt.
    pub attempt: Option<u32>,
}

impl LoggedRequest {
    /// The last segment of the path, such as `asample`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        endpoint(&self.path)
    }

    /// The first value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What tests call a path by.
fn endpoint(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The part of a body that the log is about; everything else is skipped.
#[derive(Default, Deserialize)]
struct Numbers {
    seq_id: Option<u64>,
    model_seq_id: Option<u64>,
    sampling_session_seq_id: Option<u64>,
    model_id: Option<String>,
    sampling_session_id: Option<String>,
    session_id: Option<String>,
    request_id: Option<String>,
}

/// A view of the server at one moment: the requests that arrived and what is open now.
#[derive(Clone, Debug, Default)]
pub struct Activity {
    pub(super) requests: VecDeque<LoggedRequest>,
    pub(super) arrived: u64,
    pub(super) connections: usize,
    pub(super) held_polls: usize,
}

impl Activity {
    /// The requests in the order of arrival; only the newest, when there were more than the log's capacity.
    pub fn requests(&self) -> impl DoubleEndedIterator<Item = &LoggedRequest> {
        self.requests.iter()
    }

    /// The requests to one endpoint, such as `asample`.
    pub fn requests_to<'a>(&'a self, endpoint: &'a str) -> impl DoubleEndedIterator<Item = &'a LoggedRequest> {
        self.requests.iter().filter(move |request| request.endpoint() == endpoint)
    }

    /// How many requests have arrived since the start.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    /// How many TCP connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How many requests for a result are being held, because the result is not there yet.
    #[must_use]
    pub fn held_polls(&self) -> usize {
        self.held_polls
    }
}

/// The activity, shared by the threads of the server, with a way to wait for a change.
#[derive(Debug)]
pub(in crate::local) struct Monitor {
    seen: Mutex<Activity>,
    changed: Condvar,
    started: Instant,
    capacity: usize,
}

impl Monitor {
    pub(super) fn new(capacity: usize) -> Self {
        let started = super::now();
        Monitor { seen: Mutex::default(), changed: Condvar::new(), started, capacity }
    }

    pub(super) fn log(&self, connection: usize, request: &Request) {
        let numbers: Numbers = match self.capacity {
            0 => Numbers::default(),
            _ => serde_json::from_slice(&request.body).unwrap_or_default(),
        };
        let entry = LoggedRequest {
            index: 0,
            connection,
            at: super::now().duration_since(self.started),
            method: request.method.clone(),
            path: request.path.clone(),
            headers: (request.headers.iter())
                .map(|(name, value)| (name.clone(), if name == "x-api-key" { "…".to_owned() } else { value.clone() }))
                .collect(),
            seq: numbers.seq_id.or(numbers.model_seq_id).or(numbers.sampling_session_seq_id),
            subject: numbers.model_id.or(numbers.sampling_session_id).or(numbers.session_id),
            request_id: numbers.request_id,
            attempt: request.header("x-stainless-retry-count").and_then(|value| value.parse().ok()),
        };
        self.change(|seen| {
            seen.requests.push_back(LoggedRequest { index: seen.arrived, ..entry });
            seen.arrived += 1;
            while seen.requests.len() > self.capacity {
                seen.requests.pop_front();
            }
        });
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Activity)) {
        change(&mut self.seen.lock());
        self.changed.notify_all();
    }

    pub(in crate::local) fn view<T>(&self, view: impl FnOnce(&Activity) -> T) -> T {
        view(&self.seen.lock())
    }

    /// Waits until the condition holds; false when it doesn't within the time.
    pub(in crate::local) fn wait_until(&self, timeout: Duration, mut condition: impl FnMut(&Activity) -> bool) -> bool {
        let mut seen = self.seen.lock();
        !self.changed.wait_while_for(&mut seen, |seen| !condition(seen), timeout).timed_out()
    }
}

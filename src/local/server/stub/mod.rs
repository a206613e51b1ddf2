//! A server that computes nothing, so that only clients cost time: passes, steps and samples get results of the right form and size
//! at once, or after a while. All else is answered by the endpoints.

mod outcome;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;

use self::outcome::Outcome;
use super::activity::ActivityTracker;
use super::http1::{Request, Response};
use super::net::Responder;
use super::state::StoredResult;
use super::time::now;
use super::wire_formats::WireFormats;
use crate::types::QueueState;
use crate::types::wire::{Promise, RetrieveFutureRequest};

/// Begins the id of a promise: then come its number, when its result is ready, and what it is.
const PREFIX: &str = "stub-";

/// As good as never, and no time overflows.
const MAX_DELAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// Results with more numbers than this together are made anew.
const KEPT_NUMBERS: usize = 1 << 21;

/// What a server that computes nothing knows.
#[derive(Debug)]
pub(crate) struct Stub {
    delay: Duration,
    hold_time: Duration,
    wire: WireFormats,
    started: Instant,
    promises: AtomicU64,
    waiting: Mutex<Waiting>,
    results: Mutex<Results>,
}

/// The polls that wait for a result, until all results are ready.
#[derive(Debug, Default)]
struct Waiting {
    is_released: bool,
    polls: Vec<(Responder, Response)>,
    /// When as many wait, those that no longer do are removed.
    full: usize,
}

/// The results that were sent before. Making one would cost more than sending it.
#[derive(Debug, Default)]
struct Results {
    made: HashMap<Outcome, Arc<StoredResult>>,
    numbers: usize,
}

impl Stub {
    pub(crate) fn new(delay: Duration, hold_time: Duration, wire: WireFormats) -> Self {
        let (promises, waiting, results) = (AtomicU64::new(0), Mutex::default(), Mutex::default());
        Stub { delay: delay.min(MAX_DELAY), hold_time, wire, started: now(), promises, waiting, results }
    }

    /// Answers a request, if it is one for the stub.
    pub(crate) fn answer(&self, activity: &ActivityTracker, request: &mut Request, responder: &Responder) -> bool {
        let response = match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/api/v1/forward" | "/api/v1/forward_backward") if self.wire.takes(request.format()) => {
                let format = request.format();
                self.promise(Outcome::of_pass(mem::take(&mut request.body), format))
            }
            ("POST", "/api/v1/optim_step") => self.promise(Some(Outcome::Step)),
            ("POST", "/api/v1/asample") => self.promise(Outcome::of_sample(&request.body)),
            ("POST", "/api/v1/retrieve_future") => return self.poll(request, responder),
            ("GET", "/stub") => activity.read(|activity| {
                let counts = json!({
                    "requests": activity.arrived(),
                    "received": activity.received(),
                    "sent": activity.sent(),
                    "accepted": activity.accepted(),
                    "connections": activity.connections(),
                    "held_polls": activity.held_polls(),
                    "promises": self.promises.load(Ordering::Relaxed),
                });
                Response::json(200, &counts)
            }),
            ("POST", "/stub/release") => {
                let mut waiting = self.waiting.lock();
                waiting.is_released = true;
                waiting.polls.drain(..).for_each(|(poll, result)| poll.respond(result));
                Response::new(204, "")
            }
            _ => return false,
        };
        responder.respond(response);
        true
    }

    fn promise(&self, outcome: Option<Outcome>) -> Response {
        let Some(outcome) = outcome else { return Response::error(422, "the body is malformed") };
        if !outcome.is_allowed() {
            return Response::error(400, "the result would be too large for a server that computes nothing");
        }
        let number = self.promises.fetch_add(1, Ordering::Relaxed);
        let ready = (now().duration_since(self.started) + self.delay).as_millis();
        let sample_sequence_ids = match outcome {
            Outcome::Sample { sequences, .. } => {
                Some((0..sequences).map(|index| format!("{PREFIX}{number}:{index}")).collect())
            }
            _ => None,
        };
        let promise = Promise::new(format!("{PREFIX}{number}-{ready}-{outcome}"));
        Response::json(200, &Promise { sample_sequence_ids, ..promise })
    }

    /// Answers a poll, or holds it until the result is ready, if the promise is one of the stub's.
    fn poll(&self, request: &Request, responder: &Responder) -> bool {
        let Ok(poll) = serde_json::from_slice::<RetrieveFutureRequest<'_>>(&request.body) else { return false };
        let Some((ready, outcome)) = parse(&poll.request_id) else { return false };
        let format = self.wire.answered(request.preferred_format());
        let result = self.results.lock().get(&outcome);
        let result = result.response(format);
        let now = now();
        let ready = self.started.checked_add(ready).filter(|ready| *ready > now);
        let mut waiting = self.waiting.lock();
        match ready {
            Some(ready) if !waiting.is_released => {
                waiting.add(responder, &result);
                let not_ready = || Response::json(408, &json!({ "queue_state": QueueState::Active }));
                let until = now.checked_add(self.hold_time).filter(|until| *until < ready);
                let fallback = until.map_or(result, |_| not_ready());
                responder.hold(Some(until.unwrap_or(ready)), fallback);
            }
            _ => responder.respond(result),
        }
        true
    }
}

/// When the result of a promise is ready, as a time since the start, and what it is.
fn parse(id: &str) -> Option<(Duration, Outcome)> {
    let mut parts = id.strip_prefix(PREFIX)?.splitn(3, '-');
    parts.next()?;
    Some((Duration::from_millis(parts.next()?.parse().ok()?), Outcome::parse(parts.next()?)?))
}

impl Waiting {
    fn add(&mut self, poll: &Responder, result: &Response) {
        if self.polls.len() >= self.full {
            self.polls.retain(|(poll, _)| poll.is_awaited());
            self.full = 2 * self.polls.len() + 64;
        }
        self.polls.push((poll.clone(), result.clone()));
    }
}

impl Results {
    fn get(&mut self, outcome: &Outcome) -> Arc<StoredResult> {
        if let Some(result) = self.made.get(outcome) {
            return result.clone();
        }
        self.numbers += outcome.numbers().unwrap_or_default();
        if self.numbers > KEPT_NUMBERS || self.made.len() > 1024 {
            self.made.clear();
            self.numbers = outcome.numbers().unwrap_or_default();
        }
        let result = Arc::new(StoredResult::new(Ok(outcome.output())));
        self.made.insert(outcome.clone(), result.clone());
        result
    }
}

//! Promises: the server responds to a request that takes time with a promise, and the client polls for the result.
//!
//! A promise is created when the request arrives and fulfilled when a worker has the result. It is evicted some time after
//! the result was first retrieved, or after a longer time if it is never retrieved. A poll that arrives before the result
//! leaves its [`Responder`] here: waiting costs a table entry, not a thread.
//!
//! Promises end with the server. The ids of the next server start above all ids that this one can have used, so a poll for
//! an old promise gets 410 and never the result of another request.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::owner::Owner;
use super::task_output::{StoredResult, TaskOutput};
use crate::local::server::http1::Response;
use crate::local::server::net::Responder;
use crate::local::server::time::now;
use crate::rules::wire_format::WireFormat;
use crate::types::RequestErrorCategory;
use crate::types::wire::RequestFailedResponse;

/// Minimum time that a result waits for its first poll. Without a bound, abandoned results would fill the memory of a server
/// that runs for weeks.
const UNRETRIEVED_TIME: Duration = Duration::from_secs(3600);

/// Why the work behind a promise failed.
#[derive(Debug)]
pub(crate) struct TaskError {
    category: RequestErrorCategory,
    message: String,
}

impl TaskError {
    /// The client's mistake.
    pub(crate) fn user(message: impl Into<String>) -> Self {
        TaskError { category: RequestErrorCategory::User, message: message.into() }
    }

    /// The server's mistake.
    pub(crate) fn server(message: impl Into<String>) -> Self {
        TaskError { category: RequestErrorCategory::Server, message: message.into() }
    }
}

/// The id of a promise: a number, in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PromiseId(u64);

impl PromiseId {
    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("request-")?;
        // Each id has one spelling: neither "+1" nor "01".
        number.parse().ok().filter(|parsed: &u64| parsed.to_string() == number).map(PromiseId)
    }
}

impl fmt::Display for PromiseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request-{}", self.0)
    }
}

/// The outcome of a poll.
#[derive(Debug)]
pub(crate) enum PollResult {
    Ready(Response),
    /// The responder is kept and called when the result is ready.
    Held,
    /// The promise existed and was evicted.
    Expired,
    Unknown,
    /// The promise belongs to another API key.
    Forbidden,
}

/// All promises of a server.
#[derive(Debug)]
pub(crate) struct PromiseTable {
    promises: Mutex<Promises>,
    result_time: Duration,
}

#[derive(Debug, Default)]
struct Promises {
    next_id: u64,
    by_id: HashMap<PromiseId, Promise>,
    /// When each promise was fulfilled, oldest first.
    fulfilled: VecDeque<(Instant, PromiseId)>,
    /// When each result was first retrieved, oldest first.
    retrieved: VecDeque<(Instant, PromiseId)>,
}

#[derive(Debug)]
struct Promise {
    owner: Owner,
    state: PromiseState,
}

#[derive(Debug)]
enum PromiseState {
    Pending(Vec<HeldPoll>),
    Fulfilled { result: Arc<StoredResult>, retrieved: bool },
}

/// A poll that waits for the result.
#[derive(Debug)]
struct HeldPoll {
    responder: Responder,
    /// What the poll accepts.
    format: WireFormat,
}

impl PromiseTable {
    /// Keeps a result for `result_time` after it was first retrieved. Ids start at `first_id`.
    pub(crate) fn new(result_time: Duration, first_id: u64) -> Self {
        PromiseTable { promises: Mutex::new(Promises { next_id: first_id, ..Promises::default() }), result_time }
    }

    pub(crate) fn create(&self, owner: &Owner) -> PromiseId {
        let mut promises = self.promises.lock();
        let id = PromiseId(promises.next_id);
        promises.next_id += 1;
        promises.by_id.insert(id, Promise { owner: owner.clone(), state: PromiseState::Pending(Vec::new()) });
        id
    }

    /// Fulfills a promise and responds to the polls that wait for it. Only the first result counts.
    pub(crate) fn fulfill(&self, id: PromiseId, output: Result<TaskOutput, TaskError>) {
        let output = output.map_err(|TaskError { category, message }| {
            log::warn!("{id} failed: {message}");
            RequestFailedResponse { error: message, category }
        });
        let result = Arc::new(StoredResult::new(output));
        let awaited: Vec<HeldPoll> = {
            let mut promises = self.promises.lock();
            let Some(Promise { state: state @ PromiseState::Pending(_), .. }) = promises.by_id.get_mut(&id) else {
                return;
            };
            let fulfilled = PromiseState::Fulfilled { result: result.clone(), retrieved: false };
            let PromiseState::Pending(polls) = std::mem::replace(state, fulfilled) else { return };
            promises.fulfilled.push_back((now(), id));
            let awaited: Vec<_> = polls.into_iter().filter(|poll| poll.responder.is_awaited()).collect();
            if !awaited.is_empty() {
                promises.mark_retrieved(id);
            }
            awaited
        };
        // Encoded outside the lock: results can be large.
        for HeldPoll { responder, format } in awaited {
            responder.respond(result.response(format));
        }
    }

    /// Polls for a result, in the format that the poll accepts.
    pub(crate) fn poll(&self, id: &str, owner: &Owner, format: WireFormat, responder: &Responder) -> PollResult {
        let result = {
            let mut promises = self.promises.lock();
            let Some(id) = PromiseId::parse(id).filter(|id| id.0 < promises.next_id) else {
                return PollResult::Unknown;
            };
            let result = match promises.by_id.get_mut(&id) {
                None => return PollResult::Expired,
                Some(promise) if promise.owner != *owner => return PollResult::Forbidden,
                Some(Promise { state: PromiseState::Fulfilled { result, .. }, .. }) => result.clone(),
                Some(Promise { state: PromiseState::Pending(polls), .. }) => {
                    // Each poll drops the earlier ones that timed out or whose connection closed.
                    polls.retain(|poll| poll.responder.is_awaited());
                    polls.push(HeldPoll { responder: responder.clone(), format });
                    return PollResult::Held;
                }
            };
            promises.mark_retrieved(id);
            result
        };
        PollResult::Ready(result.response(format))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let promises = self.promises.lock();
        promises.by_id.len() + promises.fulfilled.len() + promises.retrieved.len()
    }

    /// Whether a promise is pending, or its result is kept.
    pub(crate) fn contains(&self, id: PromiseId) -> bool {
        self.promises.lock().by_id.contains_key(&id)
    }

    /// Evicts the results whose time has passed. Pending promises are never evicted.
    pub(crate) fn evict_expired(&self, now: Instant) {
        let Promises { by_id, fulfilled, retrieved, .. } = &mut *self.promises.lock();
        let has_passed = |when: &Instant, time: Duration| now.duration_since(*when) >= time;
        while retrieved.front().is_some_and(|(when, _)| has_passed(when, self.result_time)) {
            retrieved.pop_front().map(|(_, id)| by_id.remove(&id));
        }
        let unretrieved_time = self.result_time.max(UNRETRIEVED_TIME);
        while fulfilled.front().is_some_and(|(when, id)| has_passed(when, unretrieved_time) || !by_id.contains_key(id))
        {
            let Some((_, id)) = fulfilled.pop_front() else { break };
            if let Some(Promise { state: PromiseState::Fulfilled { retrieved: false, .. }, .. }) = by_id.get(&id) {
                by_id.remove(&id);
            }
        }
    }
}

impl Promises {
    /// Starts the time that a result is kept. Only the first retrieval counts.
    fn mark_retrieved(&mut self, id: PromiseId) {
        let Some(Promise { state: PromiseState::Fulfilled { retrieved, .. }, .. }) = self.by_id.get_mut(&id) else {
            return;
        };
        if !std::mem::replace(retrieved, true) {
            self.retrieved.push_back((now(), id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::OptimStepResponse;

    #[test]
    fn only_fulfilled_promises_are_evicted_after_an_hour() {
        let (table, owner) = (PromiseTable::new(Duration::ZERO, 0), Owner::of_key("tml-test"));
        let (fulfilled, pending) = (table.create(&owner), table.create(&owner));
        table.fulfill(fulfilled, Ok(TaskOutput::OptimStep(OptimStepResponse::default())));
        let known = |ids: &[PromiseId]| ids.iter().all(|id| table.promises.lock().by_id.contains_key(id));
        table.evict_expired(now() + UNRETRIEVED_TIME / 2);
        assert!(known(&[fulfilled, pending]));
        table.evict_expired(now() + UNRETRIEVED_TIME);
        assert!(!known(&[fulfilled]) && known(&[pending]));
        assert!(table.promises.lock().fulfilled.is_empty());
    }
}

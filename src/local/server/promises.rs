//! Promises: what is given out for work that takes time, and how its result is fetched.
//!
//! A promise is made when the request arrives, kept when a worker has the result, and forgotten some time after the
//! result was first handed out, or a longer time after it was there and nobody came. A poll that comes too early leaves its [`Reply`] here and costs nothing until then.
//! Promises end with the server, so their numbers go on where those of the server before it ended at the latest: a poll
//! for an older one is told that it has expired, never another's result.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use super::http::Response;
use super::keys::Owner;
use super::reply::Reply;
use crate::types::RequestErrorCategory;
use crate::types::wire::RequestFailedResponse;

/// How long a result waits for someone to fetch it, unless it would stay longer after that: results that no client wants
/// any more must not fill the memory of a server that runs for weeks.
const UNCLAIMED: Duration = Duration::from_secs(3600);

/// Why a promise cannot be kept.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) category: RequestErrorCategory,
    pub(super) error: String,
}

impl Failure {
    pub(super) fn user(error: impl Into<String>) -> Self {
        Failure { category: RequestErrorCategory::User, error: error.into() }
    }

    pub(super) fn server(error: impl Into<String>) -> Self {
        Failure { category: RequestErrorCategory::Server, error: error.into() }
    }
}

/// The number of a promise, in the order in which they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PromiseId(u64);

impl PromiseId {
    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("request-")?;
        // One spelling for each: neither "+1" nor "01".
        number.parse().ok().filter(|parsed: &u64| parsed.to_string() == number).map(PromiseId)
    }
}

impl std::fmt::Display for PromiseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "request-{}", self.0)
    }
}

/// What a poll finds.
#[derive(Debug)]
pub(super) enum Polled {
    Ready(Response),
    /// The reply is kept and will be answered when the result is there.
    Held,
    /// It was there once: its result was handed out long ago.
    Expired,
    Unknown,
    /// It was promised to another key.
    Foreign,
}

/// All promises of a server.
#[derive(Debug)]
pub(super) struct Promises {
    table: Mutex<Table>,
    result_time: Duration,
}

#[derive(Debug, Default)]
struct Table {
    made: u64,
    open: HashMap<PromiseId, Promise>,
    /// When a result was there, oldest first.
    kept: VecDeque<(Instant, PromiseId)>,
    /// When a result was first handed out, oldest first.
    handed_out: VecDeque<(Instant, PromiseId)>,
}

#[derive(Debug)]
struct Promise {
    owner: Owner,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Open(Vec<Reply>),
    Kept { result: Response, handed_out: bool },
}

impl Promises {
    /// Results stay for `result_time` after they were first handed out. The first promise has the number `first`.
    pub(super) fn new(result_time: Duration, first: u64) -> Self {
        Promises { table: Mutex::new(Table { made: first, ..Table::default() }), result_time }
    }

    pub(super) fn make(&self, owner: &Owner) -> PromiseId {
        let mut table = self.table.lock();
        let id = PromiseId(table.made);
        table.made += 1;
        table.open.insert(id, Promise { owner: owner.clone(), stage: Stage::Open(Vec::new()) });
        id
    }

    /// Keeps a promise and answers the polls that wait for it. Only the first result counts.
    pub(super) fn keep<T: Serialize>(&self, id: PromiseId, result: Result<T, Failure>) {
        let result = match result {
            Ok(value) => Response::json(200, &value),
            Err(Failure { category, error }) => {
                log::warn!("{id} failed: {error}");
                Response::json(200, &RequestFailedResponse { error, category })
            }
        };
        let mut table = self.table.lock();
        let Some(Promise { stage: stage @ Stage::Open(_), .. }) = table.open.get_mut(&id) else { return };
        let kept = Stage::Kept { result: result.clone(), handed_out: false };
        let Stage::Open(replies) = std::mem::replace(stage, kept) else { return };
        table.kept.push_back((super::now(), id));
        for reply in replies.into_iter().filter(Reply::is_awaited) {
            table.hand_out(id);
            reply.answer(result.clone());
        }
    }

    pub(super) fn poll(&self, id: &str, owner: &Owner, reply: &Reply) -> Polled {
        let mut table = self.table.lock();
        let Some(id) = PromiseId::parse(id).filter(|id| id.0 < table.made) else { return Polled::Unknown };
        let result = match table.open.get_mut(&id) {
            None => return Polled::Expired,
            Some(promise) if promise.owner != *owner => return Polled::Foreign,
            Some(Promise { stage: Stage::Kept { result, .. }, .. }) => result.clone(),
            Some(Promise { stage: Stage::Open(replies), .. }) => {
                // Polls that ran out of time, or whose connection is gone, are swept out by the next one.
                replies.retain(Reply::is_awaited);
                replies.push(reply.clone());
                return Polled::Held;
            }
        };
        table.hand_out(id);
        Polled::Ready(result)
    }
}

impl Promises {
    /// Forgets the results whose time is over.
    pub(super) fn forget(&self, now: Instant) {
        let Table { open, kept, handed_out, .. } = &mut *self.table.lock();
        let is_over = |when: &Instant, time: Duration| now.duration_since(*when) >= time;
        while handed_out.front().is_some_and(|(when, _)| is_over(when, self.result_time)) {
            handed_out.pop_front().map(|(_, id)| open.remove(&id));
        }
        let unclaimed = self.result_time.max(UNCLAIMED);
        while kept.front().is_some_and(|(when, _)| is_over(when, unclaimed)) {
            let Some((_, id)) = kept.pop_front() else { break };
            if let Some(Promise { stage: Stage::Kept { handed_out: false, .. }, .. }) = open.get(&id) {
                open.remove(&id);
            }
        }
    }
}

impl Table {
    fn hand_out(&mut self, id: PromiseId) {
        let Some(Promise { stage: Stage::Kept { handed_out, .. }, .. }) = self.open.get_mut(&id) else { return };
        if !std::mem::replace(handed_out, true) {
            self.handed_out.push_back((super::now(), id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_nobody_fetches_is_forgotten_after_an_hour_and_an_open_promise_is_not() {
        let (promises, owner) = (Promises::new(Duration::ZERO, 0), Owner::of("tml-test"));
        let (kept, open) = (promises.make(&owner), promises.make(&owner));
        promises.keep(kept, Ok(1));
        let known = |ids: &[PromiseId]| ids.iter().all(|id| promises.table.lock().open.contains_key(id));
        promises.forget(super::super::now() + UNCLAIMED / 2);
        assert!(known(&[kept, open]));
        promises.forget(super::super::now() + UNCLAIMED);
        assert!(!known(&[kept]) && known(&[open]));
        assert!(promises.table.lock().kept.is_empty());
    }
}

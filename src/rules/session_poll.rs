//! Samples of one sampling session that are polled together (`retrieve_futures`).
//!
//! One request asks for all of them, and is held until some are finished; their results are then fetched one by one. The server
//! numbers what finishes: a request carries the cursor of the last response and gets what came after it, so a lost response
//! loses nothing. It also carries the ids of the results that were fetched, which the server may then forget; they are repeated
//! until a request with them succeeded.
//!
//! A sample can finish before its promise is known here. Its completion is kept, since the server tells of it once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::error_message::error_message;
use super::poll_queue::Ticket;
use super::poll_response::{NotReady, PollFailure, PollOutcome, classify};
use crate::types::wire::RetrieveFuturesResponse;

/// How many completions of unknown promises are kept, and how many promises that were given up. Nobody submits as many samples
/// at once, so more means that the server's ids are not those of its promises.
const MAX_UNKNOWN: usize = 100_000;

/// What the next request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Completions: the server may hold it.
    Completions,
    /// Only to tell the server what was fetched.
    Acknowledgement,
}

/// The contents of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SessionPollRequest {
    pub(crate) wanted: Wanted,
    pub(crate) cursor: u64,
    /// In order.
    pub(crate) retrieved: Vec<Arc<str>>,
}

/// What a response brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// The promises whose results can be fetched, with their size if it is known.
    pub(crate) ready: Vec<(Ticket, Option<u64>)>,
    /// Whether the response told of anything new: the cursor alone does not, since some servers might move it each time.
    pub(crate) is_progress: bool,
}

/// The samples of one sampling session, and of one of the clients that share it.
#[derive(Debug)]
pub(crate) struct SessionPoll {
    cursor: u64,
    /// The cursor up to which the server knows that the completions have come.
    told_cursor: u64,
    /// The promises that are not finished.
    waiting: HashMap<Arc<str>, Ticket>,
    /// The completions of unknown promises, with their sizes.
    early: HashMap<Box<str>, Option<u64>>,
    /// Promises that were given up and are not finished.
    given_up: HashSet<Arc<str>>,
    /// The results that were fetched, and that the server does not know to be.
    retrieved: BTreeSet<Arc<str>>,
    /// Those that the running request tells of.
    telling: Vec<Arc<str>>,
}

impl SessionPoll {
    /// Without promises; all completions up to this cursor are known.
    pub(crate) fn new(cursor: u64) -> Self {
        SessionPoll {
            cursor,
            told_cursor: cursor,
            waiting: HashMap::new(),
            early: HashMap::new(),
            given_up: HashSet::new(),
            retrieved: BTreeSet::new(),
            telling: Vec::new(),
        }
    }

    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Adds a promise, unless it is polled by itself: it is finished already, or the server gave its id to two samples. Then returns
    /// the size of its result, as far as it is known.
    pub(crate) fn add(&mut self, request_id: &Arc<str>, ticket: Ticket) -> Option<Option<u64>> {
        if self.waiting.contains_key(request_id) {
            return Some(None);
        }
        let early = self.early.remove(&**request_id);
        if early.is_none() {
            self.waiting.insert(Arc::clone(request_id), ticket);
        }
        early
    }

    /// Nobody wants this result any more.
    pub(crate) fn give_up(&mut self, request_id: &Arc<str>) {
        if self.waiting.remove(request_id).is_some() && self.given_up.len() < MAX_UNKNOWN {
            self.given_up.insert(Arc::clone(request_id));
        }
    }

    /// Removes a promise that is polled by itself from now on.
    pub(crate) fn remove(&mut self, request_id: &Arc<str>) {
        self.waiting.remove(request_id);
    }

    /// A result was fetched, or its failure read.
    pub(crate) fn retrieved(&mut self, request_id: &Arc<str>) {
        self.retrieved.insert(Arc::clone(request_id));
    }

    /// Whether and what for a request should be sent now.
    pub(crate) fn wanted(&self) -> Option<Wanted> {
        if !self.waiting.is_empty() {
            Some(Wanted::Completions)
        } else if !self.retrieved.is_empty() || self.told_cursor != self.cursor {
            Some(Wanted::Acknowledgement)
        } else {
            None
        }
    }

    /// The next request, if there is something to ask or to tell.
    pub(crate) fn begin(&mut self) -> Option<SessionPollRequest> {
        let wanted = self.wanted()?;
        self.telling = self.retrieved.iter().cloned().collect();
        Some(SessionPollRequest { wanted, cursor: self.cursor, retrieved: self.telling.clone() })
    }

    /// The response to the request that began last.
    pub(crate) fn completed(&mut self, response: RetrieveFuturesResponse) -> Delivery {
        let told_cursor = std::mem::replace(&mut self.cursor, response.cursor);
        for told in std::mem::take(&mut self.telling) {
            self.retrieved.remove(&told);
        }
        let (mut ready, mut is_progress) = (Vec::new(), false);
        for completion in response.completions {
            let (id, size) = (completion.request_id, completion.response_payload_uncompressed_size);
            if let Some(ticket) = self.waiting.remove(&*id) {
                ready.push((ticket, size));
                is_progress = true;
            } else if let Some(id) = self.given_up.take(&*id) {
                self.retrieved.insert(id);
                is_progress = true;
            } else {
                is_progress |= self.early.insert(id.into(), size).is_none();
            }
        }
        // A cursor that moves without completions says nothing that the server has to hear back.
        self.told_cursor = if is_progress { told_cursor } else { self.cursor };
        Delivery { ready, is_progress }
    }

    /// Stops telling the server what was fetched.
    pub(crate) fn forget_retrieved(&mut self) {
        self.retrieved.clear();
        self.told_cursor = self.cursor;
    }

    /// Removes all promises.
    pub(crate) fn take_waiting(&mut self) -> Vec<Ticket> {
        let mut waiting: Vec<_> = std::mem::take(&mut self.waiting).into_values().collect();
        waiting.sort_unstable();
        waiting
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = Ticket> {
        self.waiting.values().copied()
    }

    /// Whether nothing but the cursor is worth keeping.
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted().is_none() && self.early.is_empty() && self.given_up.is_empty()
    }

    /// Whether the completions do not fit the promises, so that these have to be polled by themselves.
    pub(crate) fn is_confused(&self) -> bool {
        self.early.len() >= MAX_UNKNOWN
    }
}

/// Classifies a response to `retrieve_futures`. [`PollOutcome::Failed`] and [`PollOutcome::Gone`] mean that the server does not
/// poll samples together.
pub(crate) fn classify_completions(
    status: u16,
    body: &[u8],
    retry_after: Option<Duration>,
) -> PollOutcome<RetrieveFuturesResponse, PollFailure> {
    match status {
        202 => PollOutcome::NotReady(NotReady::Failing { status }),
        200..=299 => match serde_json::from_slice(body) {
            Ok(response) => PollOutcome::Ready(response),
            Err(error) => PollOutcome::Failed(PollFailure::Undecodable { why: error.to_string() }),
        },
        // No word about any promise, and to be tried again.
        408 | 409 => PollOutcome::NotReady(NotReady::Failing { status }),
        // Whoever refuses, the samples can be polled by themselves.
        300..=399 | 401 | 403..=405 | 410 => {
            PollOutcome::Failed(PollFailure::HttpStatus { status, detail: error_message(status, body) })
        }
        _ => classify(status, body, retry_after).resolve(|_| Err("it is no response".to_owned()), |failure| failure),
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::json;

    use super::*;

    fn id(name: &str) -> Arc<str> {
        name.into()
    }

    fn response(ids: &[&str], cursor: u64) -> RetrieveFuturesResponse {
        let completions: Vec<_> = ids.iter().map(|id| json!({"state": "finished", "request_id": id})).collect();
        serde_json::from_value(json!({"completions": completions, "cursor": cursor})).unwrap()
    }

    fn retrieved(request: Option<SessionPollRequest>) -> Vec<String> {
        request.unwrap().retrieved.iter().map(|id| id.to_string()).collect()
    }

    #[test]
    fn a_sample_is_told_of_fetched_and_acknowledged() {
        let mut poll = SessionPoll::new(0);
        assert_eq!((poll.wanted(), poll.is_idle()), (None, true));
        assert_eq!(poll.add(&id("a"), Ticket(1)), None);
        assert_eq!(poll.add(&id("b"), Ticket(2)), None);
        let first = poll.begin().unwrap();
        assert_eq!((first.wanted, first.cursor, first.retrieved.len()), (Wanted::Completions, 0, 0));
        let delivery = poll.completed(response(&["a", "b"], 2));
        assert_eq!((delivery.ready, delivery.is_progress), (vec![(Ticket(1), None), (Ticket(2), None)], true));
        assert_eq!(poll.wanted(), Some(Wanted::Acknowledgement), "the cursor is new");
        poll.begin();
        assert!(!poll.completed(response(&[], 2)).is_progress);
        assert!(poll.is_idle());
        poll.retrieved(&id("b"));
        poll.retrieved(&id("a"));
        assert_eq!(retrieved(poll.begin()), ["a", "b"]);
        poll.retrieved(&id("c"));
        assert_eq!(retrieved(poll.begin()), ["a", "b", "c"], "the first request failed");
        poll.completed(response(&[], 2));
        assert!(poll.is_idle());
    }

    #[test]
    fn a_completion_may_precede_its_promise() {
        let mut poll = SessionPoll::new(0);
        poll.add(&id("a"), Ticket(1));
        poll.begin();
        assert!(poll.completed(response(&["b"], 1)).ready.is_empty());
        assert_eq!(poll.add(&id("b"), Ticket(2)), Some(None));
        assert_eq!(poll.waiting().collect::<Vec<_>>(), [Ticket(1)]);
    }

    #[test]
    fn a_given_up_sample_is_acknowledged_unfetched() {
        let mut poll = SessionPoll::new(0);
        poll.add(&id("a"), Ticket(1));
        poll.add(&id("b"), Ticket(2));
        poll.give_up(&id("a"));
        poll.give_up(&id("unknown"));
        poll.begin();
        assert!(poll.completed(response(&["a"], 1)).ready.is_empty());
        assert_eq!(retrieved(poll.begin()), ["a"]);
        assert_eq!(poll.take_waiting(), [Ticket(2)]);
    }

    #[test]
    fn nothing_is_kept_of_what_is_gone() {
        let mut poll = SessionPoll::new(0);
        poll.give_up(&id("unknown"));
        poll.add(&id("a"), Ticket(1));
        poll.remove(&id("a"));
        assert!(poll.is_idle());
        for number in 0..=MAX_UNKNOWN {
            let sample = id(&number.to_string());
            poll.add(&sample, Ticket(1));
            poll.give_up(&sample);
        }
        assert_eq!(poll.given_up.len(), MAX_UNKNOWN);
    }

    #[test]
    fn nothing_is_told_forever() {
        let mut poll = SessionPoll::new(7);
        poll.retrieved(&id("a"));
        poll.forget_retrieved();
        assert!(poll.is_idle() && poll.cursor() == 7);
    }

    #[test]
    fn only_new_completions_are_progress() {
        let mut poll = SessionPoll::new(0);
        poll.add(&id("a"), Ticket(1));
        poll.begin();
        assert!(!poll.completed(response(&[], 5)).is_progress, "the cursor alone is no completion");
        poll.begin();
        assert!(poll.completed(response(&["a"], 6)).is_progress);
        poll.retrieved(&id("a"));
        poll.begin();
        poll.completed(response(&["a"], 7));
        poll.begin();
        assert!(!poll.completed(response(&["a"], 8)).is_progress, "the server does not look at the cursor");
        assert_eq!(poll.wanted(), None, "there is nothing to acknowledge");
    }

    #[test]
    fn responses_are_classified() {
        let read = |status| classify_completions(status, br#"{"completions":[],"cursor":1}"#, None);
        assert!(matches!(read(200), PollOutcome::Ready(response) if response.cursor == 1));
        for status in [408, 409, 500, 503] {
            assert_eq!(read(status), PollOutcome::NotReady(NotReady::Failing { status }));
        }
        assert!(matches!(read(429), PollOutcome::NotReady(NotReady::RateLimited { .. })));
        for status in [302, 400, 401, 402, 403, 404, 405, 410, 422] {
            assert!(matches!(read(status), PollOutcome::Failed(PollFailure::HttpStatus { .. })), "{status}");
        }
        assert!(matches!(classify_completions(200, b"[]", None), PollOutcome::Failed(PollFailure::Undecodable { .. })));
    }

    #[test]
    fn one_id_of_two_promises_is_polled_alone() {
        let mut poll = SessionPoll::new(0);
        assert_eq!(poll.add(&id("a"), Ticket(1)), None);
        assert_eq!(poll.add(&id("a"), Ticket(2)), Some(None));
        assert_eq!(poll.completed(response(&["a"], 1)).ready, [(Ticket(1), None)]);
    }

    quickcheck! {
        fn no_sample_is_lost(steps: Vec<(u8, bool)>) -> bool {
            // Promises and completions in any order: each promise becomes ready exactly once.
            let (mut poll, mut promised, mut done, mut ready) =
                (SessionPoll::new(0), HashSet::new(), HashSet::new(), Vec::new());
            for (number, is_promise) in steps {
                let name = number.to_string();
                if is_promise && promised.insert(number) {
                    if poll.add(&id(&name), Ticket(number.into())).is_some() {
                        ready.push(Ticket(number.into()));
                    }
                } else if !is_promise && done.insert(number) {
                    poll.begin();
                    let delivery = poll.completed(response(&[&name], done.len() as u64));
                    ready.extend(delivery.ready.into_iter().map(|(ticket, _)| ticket));
                }
            }
            let mut expected: Vec<_> = promised.intersection(&done).map(|number| Ticket(u64::from(*number))).collect();
            expected.sort_unstable();
            ready.sort_unstable();
            ready == expected && poll.waiting().count() == promised.difference(&done).count()
        }
    }
}

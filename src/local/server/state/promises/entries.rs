//! The entries of the table of promises.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::owner::Owner;
use super::completions::{Completion, Completions, HeldSessionPoll, SamplerClient};
use super::id::PromiseId;
use super::task_output::StoredResult;
use crate::local::model::Cancellation;
use crate::local::server::http1::Response;
use crate::local::server::net::Responder;
use crate::local::server::time::now;
use crate::rules::wire_format::WireFormat;

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

/// A poll for one promise.
#[derive(Clone, Debug)]
pub(crate) struct ResultPoll {
    pub(crate) responder: Responder,
    /// What the poll accepts.
    pub(crate) format: WireFormat,
    /// Whether the size of a large result may come first.
    pub(crate) allow_metadata_only: bool,
}

/// How many bytes of results that were sent are kept for further polls, besides the newest one: 256 MiB.
const MAX_RETRIEVED_BYTES: usize = 256 << 20;

/// Fewer clients are never swept.
const MIN_CLIENTS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Promises {
    next_id: u64,
    /// The number of the completion that came last, for polls for many samples.
    last_cursor: u64,
    pub(super) by_id: HashMap<PromiseId, Promise>,
    /// When to evict each result, and when to see whether a pending sample is still wanted.
    pub(super) deadlines: BTreeSet<(Instant, PromiseId)>,
    /// The results that were retrieved, in that order.
    retrieved: BTreeMap<u64, PromiseId>,
    retrieved_bytes: usize,
    /// Number of retrievals so far.
    retrievals: u64,
    /// The samples of each client of a sampling session.
    pub(super) clients: BTreeMap<SamplerClient, Completions>,
    /// The number of clients above which they are swept.
    max_clients: usize,
}

#[derive(Debug)]
pub(super) struct Promise {
    pub(super) owner: Owner,
    pub(super) state: PromiseState,
    deadline: Option<Instant>,
    pub(super) sample: Option<Sample>,
}

/// What only the promise of a sample has.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) client: SamplerClient,
    pub(super) cancellation: Cancellation,
    /// The number of its completion, once it is finished.
    pub(super) cursor: u64,
}

#[derive(Debug)]
pub(super) enum PromiseState {
    /// With the polls that wait for the result, and the time of the last one.
    Pending {
        polls: Vec<ResultPoll>,
        last_poll: Instant,
    },
    Fulfilled {
        result: Arc<StoredResult>,
        retrieved: Option<Retrieval>,
    },
}

/// The first time that a result was sent.
#[derive(Debug)]
pub(super) struct Retrieval {
    /// Its place in the order of all retrievals.
    number: u64,
    bytes: usize,
}

/// Those who wait for a promise that has been fulfilled.
pub(super) struct Fulfilled {
    pub(super) polls: Vec<ResultPoll>,
    pub(super) session_polls: Vec<HeldSessionPoll>,
    pub(super) completions: Vec<Completion>,
}

impl Promises {
    /// Ids and cursors start at `first_id`.
    pub(super) fn new(first_id: u64) -> Self {
        Promises { next_id: first_id, last_cursor: first_id, ..Promises::default() }
    }

    pub(super) fn create(&mut self, owner: &Owner, sample: Option<Sample>, deadline: Option<Instant>) -> PromiseId {
        let id = PromiseId::new(self.next_id);
        self.next_id += 1;
        let state = PromiseState::Pending { polls: Vec::new(), last_poll: now() };
        self.by_id.insert(id, Promise { owner: owner.clone(), state, deadline: None, sample });
        self.set_deadline(id, deadline);
        id
    }

    /// The promise with this id, which an earlier server cannot have given, and which is not another key's.
    pub(super) fn own(&self, id: &str, owner: &Owner) -> Result<PromiseId, PollResult> {
        let id = PromiseId::parse(id).filter(|id| id.number() < self.next_id).ok_or(PollResult::Unknown)?;
        match self.by_id.get(&id) {
            None => Err(PollResult::Expired),
            Some(promise) if promise.owner != *owner => Err(PollResult::Forbidden),
            Some(_) => Ok(id),
        }
    }

    pub(super) fn fulfill(
        &mut self,
        id: PromiseId,
        result: &Arc<StoredResult>,
        deadline: Option<Instant>,
    ) -> Option<Fulfilled> {
        let Promise { state, sample, .. } = self.by_id.get_mut(&id)?;
        if let PromiseState::Fulfilled { .. } = state {
            return None;
        }
        let fulfilled = PromiseState::Fulfilled { result: result.clone(), retrieved: None };
        let PromiseState::Pending { mut polls, .. } = std::mem::replace(state, fulfilled) else { return None };
        polls.retain(|poll| poll.responder.is_awaited());
        let (mut completions, mut session_polls) = (Vec::new(), Vec::new());
        if let Some(sample) = sample {
            self.last_cursor += 1;
            sample.cursor = self.last_cursor;
            let of_client = self.clients.entry(sample.client.clone()).or_default();
            let completion = Completion { cursor: self.last_cursor, id, result: result.clone() };
            session_polls = of_client.finish(completion.clone());
            completions.push(completion);
        }
        self.set_deadline(id, deadline);
        Some(Fulfilled { polls, session_polls, completions })
    }

    pub(super) fn cancellation(&self, id: PromiseId) -> Option<Cancellation> {
        Some(self.by_id.get(&id)?.sample.as_ref()?.cancellation.clone())
    }

    /// Until when a pending sample is wanted; `None` if it is not pending.
    pub(super) fn wanted_until(&self, id: PromiseId, now: Instant, abandon_time: Duration) -> Option<Instant> {
        let Promise { state: PromiseState::Pending { polls, last_poll }, sample, .. } = self.by_id.get(&id)? else {
            return None;
        };
        let completions = self.clients.get(&sample.as_ref()?.client)?;
        let is_awaited = polls.iter().any(|poll| poll.responder.is_awaited())
            || completions.held.iter().any(|poll| poll.responder.is_awaited());
        let seen = if is_awaited { now } else { completions.last_poll.map_or(*last_poll, |poll| poll.max(*last_poll)) };
        // A time too long for the clock has no deadline that could have been reached.
        Some(seen.checked_add(abandon_time).unwrap_or(now))
    }

    /// Starts the time that a result of this size is kept. Only the first retrieval counts. If there are too many bytes of
    /// results, those that were retrieved first are evicted.
    pub(super) fn mark_retrieved(&mut self, id: PromiseId, bytes: usize, deadline: Option<Instant>) {
        let Some(Promise { state: PromiseState::Fulfilled { retrieved: retrieved @ None, .. }, .. }) =
            self.by_id.get_mut(&id)
        else {
            return;
        };
        self.retrievals += 1;
        *retrieved = Some(Retrieval { number: self.retrievals, bytes });
        self.retrieved.insert(self.retrievals, id);
        self.retrieved_bytes += bytes;
        self.set_deadline(id, deadline);
        while self.retrieved_bytes > MAX_RETRIEVED_BYTES {
            let oldest = self.retrieved.first_key_value().map(|(_, &oldest)| oldest);
            let Some(oldest) = oldest.filter(|oldest| *oldest != id) else { break };
            self.remove(oldest);
        }
    }

    pub(super) fn set_deadline(&mut self, id: PromiseId, deadline: Option<Instant>) {
        let Some(promise) = self.by_id.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut promise.deadline, deadline) {
            self.deadlines.remove(&(old, id));
        }
        self.deadlines.extend(deadline.map(|deadline| (deadline, id)));
    }

    /// Evicts a finished sample of this client.
    pub(super) fn evict_retrieved(&mut self, id: PromiseId, client: &SamplerClient) {
        let Some(Promise { state: PromiseState::Fulfilled { .. }, sample: Some(sample), .. }) = self.by_id.get(&id)
        else {
            return;
        };
        if sample.client == *client {
            self.remove(id);
        }
    }

    pub(super) fn remove(&mut self, id: PromiseId) {
        let Some(promise) = self.by_id.remove(&id) else { return };
        if let Some(deadline) = promise.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if let PromiseState::Fulfilled { retrieved: Some(Retrieval { number, bytes }), .. } = promise.state {
            self.retrieved.remove(&number);
            self.retrieved_bytes -= bytes;
        }
        if let Some(Sample { client, cancellation, cursor }) = promise.sample {
            cancellation.cancel();
            if let Some(of_client) = self.clients.get_mut(&client) {
                of_client.remove(id, cursor);
            }
            self.drop_if_empty(&client);
        }
    }

    /// Forgets the clients whose held polls have timed out and who have nothing else, once there are many clients.
    pub(super) fn sweep_clients(&mut self) {
        if self.clients.len() > self.max_clients.max(MIN_CLIENTS) {
            self.clients.retain(|_, of_client| {
                of_client.held.retain(|poll| poll.responder.is_awaited());
                !of_client.is_empty()
            });
            self.max_clients = 2 * self.clients.len();
        }
    }

    pub(super) fn drop_if_empty(&mut self, client: &SamplerClient) {
        if self.clients.get(client).is_some_and(Completions::is_empty) {
            self.clients.remove(client);
        }
    }
}

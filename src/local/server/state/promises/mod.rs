//! Promises: the server responds to a request that takes time with a promise, and the client polls for the result.
//!
//! A promise is created when the request arrives and fulfilled when a worker has the result. It is evicted some time after
//! the result was first retrieved, or after a longer time if it is never retrieved; large results make room for later ones.
//! A poll that arrives before the result
//! leaves its [responder](ResultPoll::responder) here: waiting costs a table entry, not a thread.
//!
//! Samples can also be polled together, and they can be cancelled. A sample that nobody polls for is abandoned: it is cancelled,
//! and its promise evicted.
//!
//! Promises end with the server. The ids of the next server start above all ids that this one can have used, so a poll for
//! an old promise gets 410 and never the result of another request.

mod completions;
mod entries;
mod id;
mod json_output;
mod task_output;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use self::completions::response;
pub(crate) use self::completions::{HeldSessionPoll, SamplerClient};
pub(crate) use self::entries::{PollResult, ResultPoll};
use self::entries::{PromiseState, Promises, Sample};
pub(crate) use self::id::{PromiseId, TaskError};
pub(crate) use self::task_output::{StoredResult, TaskOutput, tagged};
use super::owner::Owner;
use crate::local::model::Cancellation;
use crate::local::server::http1::Response;
use crate::local::server::time::now;
use crate::types::wire::RequestFailedResponse;

/// Minimum time that a result waits for its first poll. Without a bound, abandoned results would fill the memory of a server
/// that runs for weeks.
const UNRETRIEVED_TIME: Duration = Duration::from_secs(3600);

/// How long promises are kept, and how results are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct PromiseSettings {
    /// How long a result is kept after it was first retrieved.
    pub(crate) result_time: Duration,
    /// How long a sample goes on without a poll.
    pub(crate) abandon_time: Duration,
    /// The size of a result, in bytes, above which a poll first gets the size, if it says that it may.
    pub(crate) metadata_above: usize,
}

/// All promises of a server.
#[derive(Debug)]
pub(crate) struct PromiseTable {
    promises: Mutex<Promises>,
    settings: PromiseSettings,
}

impl PromiseTable {
    /// Ids and cursors start at `first_id`.
    pub(crate) fn new(settings: PromiseSettings, first_id: u64) -> Self {
        let promises = Promises::new(first_id);
        PromiseTable { promises: Mutex::new(promises), settings }
    }

    pub(crate) fn create(&self, owner: &Owner) -> PromiseId {
        self.promises.lock().create(owner, None, None)
    }

    /// Creates the promise of a sample.
    pub(crate) fn create_sample(&self, owner: &Owner, client: SamplerClient, cancellation: &Cancellation) -> PromiseId {
        let mut promises = self.promises.lock();
        let sample = Sample { client: client.clone(), cancellation: cancellation.clone(), cursor: 0 };
        let id = promises.create(owner, Some(sample), now().checked_add(self.settings.abandon_time));
        promises.clients.entry(client).or_default().pending.insert(id);
        id
    }

    /// Fulfills a promise and responds to the polls that wait for it. Only the first result counts.
    pub(crate) fn fulfill(&self, id: PromiseId, output: Result<TaskOutput, TaskError>) {
        let output = output.map_err(|TaskError { category, message }| {
            log::warn!("{id} failed: {message}");
            RequestFailedResponse { error: message, category }
        });
        let result = Arc::new(StoredResult::new(output));
        let unretrieved_time = self.settings.result_time.max(UNRETRIEVED_TIME);
        let Some(fulfilled) = self.promises.lock().fulfill(id, &result, now().checked_add(unretrieved_time)) else {
            return;
        };
        // Encoded outside the lock: results can be large.
        for poll in fulfilled.polls {
            let response = self.result_response(id, &result, &poll);
            poll.responder.respond(response);
        }
        for poll in fulfilled.session_polls {
            poll.responder.respond(response(&fulfilled.completions, poll.format, poll.prev_cursor));
        }
    }

    /// Polls for a result.
    pub(crate) fn poll(&self, id: &str, owner: &Owner, poll: &ResultPoll) -> PollResult {
        let (id, result) = {
            let promises = &mut *self.promises.lock();
            let id = match promises.own(id, owner) {
                Ok(id) => id,
                Err(other) => return other,
            };
            match promises.by_id.get_mut(&id).map(|promise| &mut promise.state) {
                None => return PollResult::Expired,
                Some(PromiseState::Fulfilled { result, .. }) => (id, result.clone()),
                Some(PromiseState::Pending { polls, last_poll }) => {
                    // Each poll drops the earlier ones that timed out or whose connection closed.
                    polls.retain(|poll| poll.responder.is_awaited());
                    polls.push(poll.clone());
                    *last_poll = now();
                    return PollResult::Held;
                }
            }
        };
        PollResult::Ready(self.result_response(id, &result, poll))
    }

    /// Polls for the samples of one client that have finished since `poll.prev_cursor`. Results that were `retrieved` are evicted
    /// first. Without `hold` the response is never held.
    pub(crate) fn poll_samples(
        &self,
        client: &SamplerClient,
        owner: &Owner,
        retrieved: &[impl AsRef<str>],
        poll: HeldSessionPoll,
        hold: bool,
    ) -> PollResult {
        let completions = {
            let promises = &mut *self.promises.lock();
            for id in retrieved {
                if let Ok(id) = promises.own(id.as_ref(), owner) {
                    promises.evict_retrieved(id, client);
                }
            }
            let of_client = promises.clients.entry(client.clone()).or_default();
            let completions = of_client.after(poll.prev_cursor);
            of_client.last_poll = Some(now());
            if completions.is_empty() && hold {
                of_client.held.retain(|poll| poll.responder.is_awaited());
                of_client.held.push(poll);
                promises.sweep_clients();
                return PollResult::Held;
            }
            promises.drop_if_empty(client);
            completions
        };
        PollResult::Ready(response(&completions, poll.format, poll.prev_cursor))
    }

    /// Cancels a sample: it fails, if it has not finished, and its result is not kept for longer than a retrieved one. Returns
    /// whether the promise is that of a sample.
    pub(crate) fn cancel(&self, id: &str, owner: &Owner) -> Result<(PromiseId, bool), PollResult> {
        let (id, cancellation) = {
            let promises = self.promises.lock();
            let id = promises.own(id, owner)?;
            (id, promises.cancellation(id))
        };
        if let Some(cancellation) = &cancellation {
            cancellation.cancel();
            self.fulfill(id, Err(TaskError::user("the sample was cancelled")));
            // Nobody will retrieve it.
            self.promises.lock().mark_retrieved(id, 0, now().checked_add(self.settings.result_time));
        }
        Ok((id, cancellation.is_some()))
    }

    /// Makes the unfinished samples of a session fail. Returns their promises.
    pub(crate) fn cancel_session(&self, session_id: &str) -> Vec<PromiseId> {
        let pending: Vec<PromiseId> = {
            let promises = self.promises.lock();
            let clients = promises.clients.iter().filter(|(client, _)| client.is_of_session(session_id));
            clients.flat_map(|(_, completions)| completions.pending.iter().copied()).collect()
        };
        for id in &pending {
            let cancellation = self.promises.lock().cancellation(*id);
            cancellation.inspect(Cancellation::cancel);
            self.fulfill(*id, Err(TaskError::user(format!("{session_id} has ended"))));
        }
        pending
    }

    /// Makes the work of all unfinished samples end early. Their promises stay as they are.
    pub(crate) fn cancel_all(&self) {
        let promises = self.promises.lock();
        let pending = promises.clients.values().flat_map(|completions| &completions.pending);
        pending.filter_map(|id| promises.cancellation(*id)).for_each(|cancellation| cancellation.cancel());
    }

    /// Whether a sample of this sampling session is not finished.
    pub(crate) fn has_pending_samples(&self, sampler_id: &str) -> bool {
        let clients = SamplerClient::all(sampler_id);
        self.promises.lock().clients.range(clients).any(|(_, completions)| !completions.pending.is_empty())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let promises = self.promises.lock();
        promises.by_id.len() + promises.deadlines.len() + promises.clients.len()
    }

    /// Whether a promise is pending, or its result is kept.
    pub(crate) fn contains(&self, id: PromiseId) -> bool {
        self.promises.lock().by_id.contains_key(&id)
    }

    /// Evicts the results whose time has passed, and the samples that are pending and that nobody polls for. Returns the
    /// latter. Other pending promises are never evicted.
    pub(crate) fn evict_expired(&self, now: Instant) -> Vec<PromiseId> {
        let promises = &mut *self.promises.lock();
        let mut abandoned = Vec::new();
        while let Some((_, id)) = promises.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            match promises.wanted_until(id, now, self.settings.abandon_time) {
                Some(later) if later > now => promises.set_deadline(id, Some(later)),
                wanted => {
                    abandoned.extend(wanted.map(|_| id));
                    promises.remove(id);
                }
            }
        }
        abandoned
    }

    /// The response to a poll: the result, or the size of a large one, which is told once.
    fn result_response(&self, id: PromiseId, result: &StoredResult, poll: &ResultPoll) -> Response {
        let response = result.response(poll.format);
        let size = response.body.len();
        if poll.allow_metadata_only && size > self.settings.metadata_above && result.tell_size() {
            let metadata = serde_json::json!({ "status": "complete_metadata", "response_payload_size": size });
            return Response::json(200, &metadata);
        }
        let deadline = now().checked_add(self.settings.result_time);
        self.promises.lock().mark_retrieved(id, size, deadline);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::OptimStepResponse;

    fn table() -> (PromiseTable, Owner) {
        let (result_time, abandon_time) = (Duration::ZERO, Duration::from_secs(60));
        let settings = PromiseSettings { result_time, abandon_time, metadata_above: usize::MAX };
        (PromiseTable::new(settings, 0), Owner::of_key("tml-test"))
    }

    #[test]
    fn only_fulfilled_promises_are_evicted_after_an_hour() {
        let (table, owner) = table();
        let (fulfilled, pending) = (table.create(&owner), table.create(&owner));
        table.fulfill(fulfilled, Ok(TaskOutput::OptimStep(OptimStepResponse::default())));
        let known = |ids: &[PromiseId]| ids.iter().all(|id| table.contains(*id));
        table.evict_expired(now() + UNRETRIEVED_TIME / 2);
        assert!(known(&[fulfilled, pending]));
        table.evict_expired(now() + UNRETRIEVED_TIME);
        assert!(!known(&[fulfilled]) && known(&[pending]));
        assert!(table.promises.lock().deadlines.is_empty());
    }

    #[test]
    fn large_results_make_room_for_later_ones() {
        let (table, owner) = table();
        let later = now().checked_add(Duration::from_secs(600));
        let retrieved = |megabytes: usize| {
            let id = table.create(&owner);
            table.fulfill(id, Ok(TaskOutput::OptimStep(OptimStepResponse::default())));
            // Only the first time counts.
            (0..2).for_each(|_| table.promises.lock().mark_retrieved(id, megabytes << 20, later));
            id
        };
        let (small, large, larger) = (retrieved(1), retrieved(100), retrieved(155));
        let known = |ids: &[PromiseId]| ids.iter().map(|id| table.contains(*id)).collect::<Vec<_>>();
        assert_eq!(known(&[small, large, larger]), [true; 3]);
        let next = retrieved(1);
        assert_eq!(known(&[small, large, larger, next]), [false, true, true, true]);
        // The newest is kept, whatever its size.
        let huge = retrieved(1000);
        assert_eq!(known(&[large, larger, next, huge]), [false, false, false, true]);
        table.evict_expired(now() + Duration::from_secs(600));
        assert_eq!(table.len(), 0);
        let (half, other) = (retrieved(128), retrieved(128));
        assert_eq!(known(&[huge, half, other]), [false, true, true]);
    }

    #[test]
    fn a_sample_without_polls_is_abandoned() {
        let (table, owner) = table();
        let (training, cancellation) = (table.create(&owner), Cancellation::new());
        let sample = table.create_sample(&owner, SamplerClient::new("session-1:sample:0", 0), &cancellation);
        assert_eq!(table.evict_expired(now() + Duration::from_secs(59)), []);
        assert!(table.has_pending_samples("session-1:sample:0") && !cancellation.is_cancelled());
        assert_eq!(table.evict_expired(now() + Duration::from_secs(60)), [sample]);
        assert!(cancellation.is_cancelled() && !table.contains(sample) && table.contains(training));
        assert!(table.promises.lock().clients.is_empty());
    }
}

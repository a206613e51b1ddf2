//! The samples of a sampling session that a client polls for together (`retrieve_futures`).
//!
//! What finishes gets the next number of the server, its cursor. A poll carries the cursor of the last response and gets what
//! came after it. A completion is kept as long as its result: until the client says that it has retrieved it, or until it is
//! evicted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;
use std::time::Instant;

use super::id::PromiseId;
use super::task_output::StoredResult;
use crate::local::server::http1::Response;
use crate::local::server::net::Responder;
use crate::rules::wire_format::WireFormat;
use crate::types::wire::{FutureCompletion, RetrieveFuturesResponse};

/// The most completions in one response; the next poll gets those after them.
const MAX_COMPLETIONS: usize = 4096;
/// The sequence numbers of a client begin with this times its number.
const NUMBERS_OF_A_CLIENT: u64 = 1_000_000_000;

/// One of the clients that share a sampling session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SamplerClient {
    sampler_id: String,
    number: u64,
}

impl SamplerClient {
    pub(crate) fn new(sampler_id: &str, number: u64) -> Self {
        SamplerClient { sampler_id: sampler_id.to_owned(), number }
    }

    /// The client whose sample has this sequence number.
    pub(crate) fn of_sample(sampler_id: &str, seq: Option<u64>) -> Self {
        SamplerClient::new(sampler_id, seq.unwrap_or_default() / NUMBERS_OF_A_CLIENT)
    }

    /// All clients of a sampling session.
    pub(super) fn all(sampler_id: &str) -> RangeInclusive<Self> {
        SamplerClient::new(sampler_id, 0)..=SamplerClient::new(sampler_id, u64::MAX)
    }

    pub(super) fn is_of_session(&self, session_id: &str) -> bool {
        self.sampler_id.strip_prefix(session_id).is_some_and(|rest| rest.starts_with(':'))
    }
}

/// A sample that has finished.
#[derive(Clone, Debug)]
pub(super) struct Completion {
    pub(super) cursor: u64,
    pub(super) id: PromiseId,
    pub(super) result: Arc<StoredResult>,
}

/// A poll for many samples.
#[derive(Debug)]
pub(crate) struct HeldSessionPoll {
    pub(crate) responder: Responder,
    /// The format in which the results will be retrieved.
    pub(crate) format: WireFormat,
    pub(crate) prev_cursor: u64,
}

/// The samples of one client.
#[derive(Debug, Default)]
pub(super) struct Completions {
    pub(super) pending: BTreeSet<PromiseId>,
    /// By cursor.
    finished: BTreeMap<u64, Completion>,
    pub(super) held: Vec<HeldSessionPoll>,
    /// Time of the last poll for many samples.
    pub(super) last_poll: Option<Instant>,
}

impl Completions {
    /// Adds a sample that has finished. Returns the polls that wait for it.
    pub(super) fn finish(&mut self, completion: Completion) -> Vec<HeldSessionPoll> {
        self.pending.remove(&completion.id);
        self.finished.insert(completion.cursor, completion);
        let mut held = std::mem::take(&mut self.held);
        held.retain(|poll| poll.responder.is_awaited());
        held
    }

    /// What finished after a cursor, in that order.
    pub(super) fn after(&self, cursor: u64) -> Vec<Completion> {
        let later = self.finished.range((Bound::Excluded(cursor), Bound::Unbounded));
        later.take(MAX_COMPLETIONS).map(|(_, completion)| completion.clone()).collect()
    }

    pub(super) fn remove(&mut self, id: PromiseId, cursor: u64) {
        self.pending.remove(&id);
        self.finished.remove(&cursor);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.finished.is_empty() && self.held.is_empty()
    }
}

/// The response to a poll for many samples.
pub(super) fn response(completions: &[Completion], format: WireFormat, prev_cursor: u64) -> Response {
    let cursor = completions.last().map_or(prev_cursor, |completion| completion.cursor);
    let completion = |Completion { id, result, .. }: &Completion| FutureCompletion {
        state: if result.is_failure() { "failed" } else { "finished" }.to_owned(),
        request_id: id.to_string(),
        response_payload_uncompressed_size: Some(result.response(format).body.len() as u64),
    };
    let completions = completions.iter().map(completion).collect();
    Response::json(200, &RetrieveFuturesResponse { completions, cursor })
}

#[cfg(test)]
mod tests {
    use super::super::task_output::TaskOutput;
    use super::*;
    use crate::types::OptimStepResponse;

    #[test]
    fn a_poll_gets_what_finished_after_its_cursor() {
        let mut completions = Completions::default();
        for cursor in 1..4 {
            let result = Arc::new(StoredResult::new(Ok(TaskOutput::OptimStep(OptimStepResponse::default()))));
            completions.finish(Completion { cursor, id: PromiseId::new(10 - cursor), result });
        }
        completions.remove(PromiseId::new(8), 2);
        for (cursor, expected, next) in
            [(0, &["request-9", "request-7"][..], 3), (1, &["request-7"], 3), (3, &[], 3), (u64::MAX, &[], u64::MAX)]
        {
            let response = response(&completions.after(cursor), WireFormat::Json, cursor);
            let response: RetrieveFuturesResponse = serde_json::from_slice(&response.body).unwrap();
            let ids: Vec<_> = response.completions.iter().map(|completion| &*completion.request_id).collect();
            assert_eq!((ids.as_slice(), response.cursor), (expected, next), "{cursor}");
        }
    }

    #[test]
    fn a_client_is_known_by_its_numbers() {
        for (seq, number) in [(None, 0), (Some(999_999_999), 0), (Some(1_000_000_000), 1), (Some(2_500_000_000), 2)] {
            assert_eq!(SamplerClient::of_sample("s", seq), SamplerClient::new("s", number));
        }
        assert!(SamplerClient::new("session-1:sample:0", 0).is_of_session("session-1"));
        assert!(!SamplerClient::new("session-11:sample:0", 0).is_of_session("session-1"));
    }
}

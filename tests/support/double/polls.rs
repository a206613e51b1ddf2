//! Polls, and the form of what they return.

use std::time::Duration;

use serde_json::{Value, json};
use tinkex::types::wire::protobuf::{self, prost::Message};
use tinkex::types::{ForwardBackwardOutput, SampleResponse};

use super::server::{Failure, NotYet, Results};
use super::world::{Outcome, ResultKind, promise_body, promise_id};
use super::{Shared, refusal};
use crate::support::{RecordedRequest, Reply};

/// How long `retrieve_futures` is held, in real time.
const HOLD: Duration = Duration::from_secs(1);

impl Shared {
    pub(super) fn retrieve(&self, request: &RecordedRequest) -> Reply {
        let request_id = &request.body["request_id"];
        let mut world = self.world.lock().unwrap();
        let Some(promise) = world.promised(promise_id(request_id)) else {
            return refusal(410, "the promise has expired");
        };
        if promise.not_yet > 0 || promise.outcome == Outcome::Waiting {
            promise.not_yet = promise.not_yet.saturating_sub(1);
            let body = json!({"type": "try_again", "request_id": request_id, "queue_state": "active"});
            return match self.server.not_yet {
                NotYet::TryAgain => Reply::ok(body),
                NotYet::Status(status) => Reply::Json(status, body),
            };
        }
        let result = match &promise.outcome {
            Outcome::Done(result) => result.clone(),
            Outcome::Failed(message) => {
                return match self.server.failure {
                    Failure::InBody => Reply::ok(json!({"error": message, "category": "user"})),
                    Failure::Status(status) => refusal(status, message),
                };
            }
            Outcome::Waiting => unreachable!("handled above"),
        };
        let accepts = request.header("accept").is_some_and(|accept| accept.contains(protobuf::CONTENT_TYPE));
        let in_protobuf = match self.server.results {
            Results::Json => false,
            Results::Protobuf => true,
            Results::ByAccept => accepts,
        };
        let (kind, body) = match (promise.kind, in_protobuf) {
            (ResultKind::Pass, true) => (protobuf::CONTENT_TYPE, pass_message(result)),
            (ResultKind::Sample, true) => (protobuf::CONTENT_TYPE, sample_message(result)),
            _ => ("application/json", result.to_string().into_bytes()),
        };
        let is_large = self.server.metadata_above.is_some_and(|limit| body.len() > limit);
        if is_large && request.body["allow_metadata_only"] == true && !promise.size_told {
            promise.size_told = true;
            return Reply::ok(json!({"status": "complete_metadata", "response_payload_size": body.len()}));
        }
        Reply::typed(kind, body)
    }

    /// The completions of a sampling session after a cursor. Held while there is none and the client has someone waiting.
    pub(super) fn retrieve_many(&self, body: &Value) -> Reply {
        let target = &body["target"];
        let session = target["sampling_session_id"].as_str().unwrap_or_default().to_owned();
        let key = (session, target["cloned_sampler_id"].as_u64().unwrap_or_default());
        let cursor = usize::try_from(body["prev_cursor"].as_u64().unwrap_or_default()).unwrap();
        let mut world = self.world.lock().unwrap();
        if body.get("timeout").is_none_or(Value::is_null) {
            let nothing = |world: &mut super::World| world.completions.get(&key).is_none_or(|ids| ids.len() <= cursor);
            world = self.completed.wait_timeout_while(world, HOLD, nothing).unwrap().0;
        }
        let ids = world.completions.get(&key).map_or(&[][..], |ids| ids);
        let completions: Vec<_> = ids[cursor.min(ids.len())..]
            .iter()
            .map(|id| {
                let promise = promise_body(*id, self.server.number_ids);
                json!({"state": "finished", "request_id": promise["request_id"]})
            })
            .collect();
        Reply::ok(json!({"completions": completions, "cursor": ids.len()}))
    }
}

/// The result of a pass in protobuf.
pub fn pass_message(result: Value) -> Vec<u8> {
    let output: ForwardBackwardOutput = serde_json::from_value(result).unwrap();
    protobuf::ForwardBackwardOutput::from(&output).encode_to_vec()
}

fn sample_message(result: Value) -> Vec<u8> {
    let response: SampleResponse = serde_json::from_value(result).unwrap();
    protobuf::SampleResponse::from(&response).encode_to_vec()
}

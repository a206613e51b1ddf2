//! Polls for the results of promises.

use serde_json::json;

use super::body::{self, accepted_format};
use super::call::{Call, HandlerOutcome, HandlerResult};
use crate::local::server::http1::Response;
use crate::local::server::state::PollResult;
use crate::local::server::time::now;
use crate::types::QueueState;
use crate::types::wire::RetrieveFutureRequest;

pub(super) fn retrieve_future(call: &Call<'_>) -> HandlerResult {
    let RetrieveFutureRequest { request_id, .. } = body::parse(call.request)?;
    let format = accepted_format(call.request, call.context.wire);
    match call.state.promises.poll(&request_id, &call.owner, format, call.responder) {
        PollResult::Ready(result) => Ok(HandlerOutcome::Respond(result)),
        PollResult::Held => {
            let not_ready = Response::json(408, &json!({ "queue_state": QueueState::Active }));
            call.responder.hold(now().checked_add(call.context.hold_time), not_ready);
            Ok(HandlerOutcome::Defer)
        }
        PollResult::Expired => Err(Response::error(410, &format!("the result of {request_id} has expired"))),
        PollResult::Forbidden => Err(Response::error(403, &format!("{request_id} belongs to another API key"))),
        PollResult::Unknown => Err(Response::error(404, &format!("there is no request {request_id:?}"))),
    }
}

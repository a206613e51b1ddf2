//! Polls for the results of promises, one by one or for many samples, and their cancellation.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::local::server::api::body::{self, bad_request};
use crate::local::server::api::call::{Call, HandlerOutcome, HandlerResult, ok};
use crate::local::server::http1::Response;
use crate::local::server::state::{HeldSessionPoll, PollResult, ResultPoll, SamplerClient};
use crate::local::server::time::now;
use crate::rules::wire_format::WireFormat;
use crate::types::QueueState;
use crate::types::wire::{CancelFutureRequest, RetrieveFutureRequest, RetrieveFuturesRequest, RetrieveFuturesResponse};

pub(super) fn retrieve_future(call: &Call<'_>) -> HandlerResult {
    let RetrieveFutureRequest { request_id, allow_metadata_only } = body::parse(call.request)?;
    let poll = ResultPoll {
        responder: call.responder.clone(),
        format: call.context.wire.answered(call.request.preferred_format()),
        allow_metadata_only: allow_metadata_only.unwrap_or_default(),
    };
    let not_ready = Response::json(408, &json!({ "queue_state": QueueState::Active }));
    let result = call.state.promises.poll(&request_id, &call.owner, &poll);
    call.respond_or_hold(result, &request_id, call.context.hold_time, not_ready)
}

/// The kind of thing whose promises are polled for together.
#[derive(Deserialize)]
struct Target {
    target: TargetKind,
}

#[derive(Deserialize)]
struct TargetKind {
    r#type: String,
}

pub(super) fn retrieve_futures(call: &Call<'_>) -> HandlerResult {
    let Target { target: TargetKind { r#type: kind } } = body::parse(call.request)?;
    if kind != "sampling_session" {
        return Err(bad_request(format!("the target is of the type {kind:?}: expected sampling_session")));
    }
    let body: RetrieveFuturesRequest<'_> = body::parse(call.request)?;
    let hold_time = match body.timeout.map(Duration::try_from_secs_f64) {
        None => call.context.hold_time,
        Some(Ok(timeout)) => timeout.min(call.context.hold_time),
        Some(Err(_)) => return Err(bad_request("timeout is not a number of seconds from 0")),
    };
    let (sampler_id, prev_cursor) = (&*body.target.sampling_session_id, body.prev_cursor);
    call.state.lock().sampler(sampler_id, &call.owner)?;
    let client = SamplerClient::new(sampler_id, body.target.cloned_sampler_id);
    // A client of 2026, which prefers it.
    let format = call.context.wire.answered(WireFormat::Protobuf);
    let poll = HeldSessionPoll { responder: call.responder.clone(), format, prev_cursor };
    let (retrieved, hold) = (&body.retrieved_request_ids, !hold_time.is_zero());
    let result = call.state.promises.poll_samples(&client, &call.owner, retrieved, poll, hold);
    let nothing = RetrieveFuturesResponse { completions: Vec::new(), cursor: prev_cursor };
    call.respond_or_hold(result, sampler_id, hold_time, Response::json(200, &nothing))
}

pub(super) fn cancel_future(call: &Call<'_>) -> HandlerResult {
    let CancelFutureRequest { request_id } = body::parse(call.request)?;
    match call.state.cancel_sample(&request_id, &call.owner) {
        Ok(true) => ok(&json!({})),
        Ok(false) => Err(bad_request(format!("{request_id} is not a sample: only samples can be cancelled"))),
        Err(refusal) => call.respond_or_hold(refusal, &request_id, Duration::ZERO, Response::new(204, "")),
    }
}

impl Call<'_> {
    /// Responds with the result of a poll, or holds the poll and sends `not_ready` after `hold_time`.
    fn respond_or_hold(&self, result: PollResult, id: &str, hold_time: Duration, not_ready: Response) -> HandlerResult {
        match result {
            PollResult::Ready(result) => Ok(HandlerOutcome::Respond(result)),
            PollResult::Held => {
                self.responder.hold(now().checked_add(hold_time), not_ready);
                Ok(HandlerOutcome::Defer)
            }
            PollResult::Expired => Err(Response::error(410, &format!("the result of {id} has expired"))),
            PollResult::Forbidden => Err(Response::error(403, &format!("{id} belongs to another API key"))),
            PollResult::Unknown => Err(Response::error(404, &format!("there is no request {id:?}"))),
        }
    }
}

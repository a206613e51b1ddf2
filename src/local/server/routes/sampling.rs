//! Sampling sessions, samples, and how every result is fetched.

use serde_json::json;

use super::{Answer, Call, respond};
use crate::local::server::http::Response;
use crate::local::server::output::typed;
use crate::local::server::promises::{Polled, PromiseId};
use crate::local::server::records::{SamplerRecord, Weights};
use crate::local::server::state::{SAMPLER, Sampler};
use crate::local::server::weights::Loaded;
use crate::local::server::work::SampleJob;
use crate::local::server::{input, now};
use crate::types::QueueState;
use crate::types::wire::{CreateSamplingSessionRequest, RetrieveFutureRequest, SampleRequest};

pub(super) fn create(call: &Call<'_>) -> Result<Answer, Response> {
    let body: CreateSamplingSessionRequest<'_> = input::body(call.request)?;
    let mut tables = call.state.lock();
    let (base_model, weights) = match (body.model_path.as_deref(), body.base_model.as_deref()) {
        (Some(path), _) => {
            let checkpoint = tables.checkpoint(path, &call.owner, true)?;
            (checkpoint.base_model.clone(), Weights::Checkpoint(path.to_owned()))
        }
        (None, Some(name)) => (name.to_owned(), Weights::Base),
        (None, None) => return Err(Response::detail(400, "either base_model or model_path is needed")),
    };
    let model = call.state.model(&base_model)?;
    let session = tables.session(&body.session_id, &call.owner)?;
    let id = session.number_sampler(&body.session_id, body.sampling_session_seq_id, call.print)?;
    let session_id = body.session_id.into_owned();
    let record = SamplerRecord { owner: call.owner.clone(), session_id, base_model, weights };
    match tables.samplers.get(&id) {
        Some(first) if first.record == record => {}
        Some(_) => return Err(Response::detail(409, &format!("{id} was opened for other weights"))),
        None => {
            call.state.record(&["samplers", &id], SAMPLER, &record)?;
            tables.samplers.insert(id.clone(), Sampler::new(record, model, Loaded::default()));
        }
    }
    respond(&typed("create_sampling_session", json!({ "sampling_session_id": id })))
}

pub(super) fn sample(call: &Call<'_>) -> Result<Answer, Response> {
    let body: SampleRequest<'_> = input::body(call.request)?;
    let needed = || Response::detail(400, "sampling_session_id is needed");
    let sampler_id = body.sampling_session_id.as_deref().ok_or_else(needed)?;
    let model = call.state.lock().sampler(sampler_id, &call.owner)?.model.clone();
    let task = input::sample_task(&*model, &body)?;

    let mut tables = call.state.lock();
    let session_id = tables.sampler(sampler_id, &call.owner)?.record.session_id.clone();
    tables.session(&session_id, &call.owner)?;
    let sampler = tables.sampler(sampler_id, &call.owner)?;
    if let Some(first) = sampler.requests.repeated(body.seq_id, call.print)? {
        return respond(&promise(*first, task.count));
    }
    let id = call.state.promises.make(&call.owner);
    sampler.requests.record(body.seq_id, call.print, id);
    let answer = promise(id, task.count);
    let job = SampleJob {
        promise: id,
        sampler: sampler_id.to_owned(),
        record: sampler.record.clone(),
        model,
        weights: sampler.weights.clone(),
        task,
    };
    tables.sample(job)?;
    respond(&answer)
}

/// A promise of samples, each of which has an id in later versions of the protocol.
fn promise(id: PromiseId, samples: usize) -> serde_json::Value {
    let sequences: Vec<_> = (0..samples).map(|index| format!("{id}:{index}")).collect();
    json!({ "request_id": id.to_string(), "sample_sequence_ids": sequences })
}

pub(super) fn retrieve_future(call: &Call<'_>) -> Result<Answer, Response> {
    let RetrieveFutureRequest { request_id } = input::body(call.request)?;
    match call.state.promises.poll(&request_id, &call.owner, call.reply) {
        Polled::Ready(result) => Ok(Answer::Now(result)),
        Polled::Held => {
            let not_yet = Response::json(408, &json!({ "queue_state": QueueState::Active }));
            call.reply.hold(now().checked_add(call.service.hold_time), not_yet);
            Ok(Answer::Later)
        }
        Polled::Expired => Err(Response::detail(410, &format!("the result of {request_id} is no longer kept"))),
        Polled::Foreign => Err(Response::detail(403, &format!("{request_id} was promised to another API key"))),
        Polled::Unknown => Err(Response::detail(404, &format!("there is no request {request_id:?}"))),
    }
}

//! Sampling sessions and samples.

use std::slice::from_ref;
use std::sync::Arc;

use serde_json::json;

use crate::local::model::Cancellation;
use crate::local::server::api::call::{Call, HandlerResult, ok};
use crate::local::server::api::{body, decode};
use crate::local::server::http1::Response;
use crate::local::server::state::{
    CLIENTS_RECORD, PromiseId, SAMPLER_RECORD, SampleTask, SamplerClient, SamplingSession, SamplingSessionRecord,
    Weights, tagged,
};
use crate::types::wire::{
    CreateSamplingSessionRequest, CreateSamplingSessionResponse, JoinSamplingSessionRequest,
    JoinSamplingSessionResponse, SampleRequest,
};

pub(super) fn create(call: &Call<'_>) -> HandlerResult {
    let body: CreateSamplingSessionRequest<'_> = body::parse(call.request)?;
    let mut tables = call.state.lock();
    let (base_model, weights) = match (body.model_path.as_deref(), body.base_model.as_deref()) {
        (Some(path), _) => {
            let checkpoint = tables.readable_checkpoint(path, from_ref(&call.owner))?;
            (checkpoint.base_model.clone(), Weights::Checkpoint(path.to_owned()))
        }
        (None, Some(name)) => (name.to_owned(), Weights::Base),
        (None, None) => return Err(Response::error(400, "base_model or model_path is required")),
    };
    let model = call.state.model(&base_model)?;
    let tokenizer_package = call.state.tokenizer_package(model.name());
    let session = tables.session(&body.session_id, &call.owner)?;
    let id = session.sampler_id(&body.session_id, body.sampling_session_seq_id, call.fingerprint)?;
    let session_id = body.session_id.into_owned();
    let record = SamplingSessionRecord { owner: call.owner.clone(), session_id, base_model, weights };
    match tables.samplers.get(&id) {
        Some(first) if first.record == record => {}
        Some(_) => return Err(Response::error(400, &format!("{id} was opened with different weights"))),
        None => {
            call.state.write_record(&["samplers", &id], SAMPLER_RECORD, &record)?;
            let sampler = SamplingSession::new(record, model, Arc::default());
            call.state.add_sampler(&mut tables, id.clone(), sampler);
        }
    }
    ok(&tagged("create_sampling_session", CreateSamplingSessionResponse { sampling_session_id: id, tokenizer_package }))
}

/// Gives a client that shares a sampling session its number: its samples are numbered from a billion times that.
pub(super) fn join(call: &Call<'_>) -> HandlerResult {
    let JoinSamplingSessionRequest { sampling_session_id: id } = body::parse(call.request)?;
    let mut tables = call.state.lock();
    let session_id = tables.sampler(&id, &call.owner)?.record.session_id.clone();
    tables.session(&session_id, &call.owner)?;
    let sampler = tables.sampler(&id, &call.owner)?;
    let number = sampler.joined + 1;
    call.state.write_record(&["samplers", &id], CLIENTS_RECORD, &number)?;
    sampler.joined = number;
    ok(&tagged("join_sampling_session", JoinSamplingSessionResponse { client_counter: number }))
}

pub(super) fn sample(call: &Call<'_>) -> HandlerResult {
    let body: SampleRequest<'_> = body::parse(call.request)?;
    let required = || Response::error(400, "sampling_session_id is required");
    let sampler_id = body.sampling_session_id.as_deref().ok_or_else(required)?;
    // The body is decoded without the lock: prompts can be long.
    let model = call.state.lock().sampler(sampler_id, &call.owner)?.model.clone();
    let params = decode::sample_params(&*model, &body)?;

    let mut tables = call.state.lock();
    let session_id = tables.sampler(sampler_id, &call.owner)?.record.session_id.clone();
    tables.session(&session_id, &call.owner)?;
    let sampler = tables.sampler(sampler_id, &call.owner)?;
    if let Some(first) = sampler.requests.find(body.seq_id, call.fingerprint)? {
        return ok(&promise(*first, &body));
    }
    call.state.samples.check_room()?;
    let cancellation = Cancellation::new();
    let client = SamplerClient::of_sample(sampler_id, body.seq_id);
    let id = call.state.promises.create_sample(&call.owner, client, &cancellation);
    call.submitted(id, &session_id, sampler_id, body.seq_id);
    sampler.requests.record(body.seq_id, call.fingerprint, id);
    sampler.requests.forget_evicted(&call.state.promises);
    sampler.touch();
    let response = promise(id, &body);
    let task = SampleTask {
        promise: id,
        sampler_id: sampler_id.to_owned(),
        record: sampler.record.clone(),
        model,
        adapter: sampler.adapter.clone(),
        namespace: sampler.namespace.clone(),
        params,
        cancellation,
    };
    call.state.samples.push(task)?;
    ok(&response)
}

/// A promise of samples. Each sample has an id, by which clients of 2026 name it: those of a numbered request never change.
fn promise(id: PromiseId, request: &SampleRequest<'_>) -> serde_json::Value {
    let request_name = match (&request.sampling_session_id, request.seq_id) {
        (Some(session), Some(number)) => format!("{session}:{number}"),
        _ => id.to_string(),
    };
    let sequences: Vec<_> = (0..request.num_samples).map(|index| format!("{request_name}:{index}")).collect();
    json!({ "request_id": id.to_string(), "sample_sequence_ids": sequences })
}

//! Training runs: creating, describing and unloading them.

use super::body;
use super::call::{Call, HandlerResult, ok};
use super::decode;
use super::training_endpoints::promise;
use crate::local::server::compute::spawn_run_worker;
use crate::local::server::http1::Response;
use crate::local::server::state::{RUN_RECORD, Run, RunRecord, Task, tagged, timestamp};
use crate::types::wire::{CreateModelRequest, GetInfoRequest, UnloadModelRequest};
use crate::types::{GetInfoResponse, ModelData, OptimizerConfig};

pub(super) fn create_model(call: &Call<'_>) -> HandlerResult {
    let body: CreateModelRequest<'_> = body::parse(call.request)?;
    let model = call.state.model(&body.base_model)?;
    let lora = decode::lora_config(body.lora_config)?;
    decode::optimizer(body.optimizer_config.as_deref())?;
    let seq = Some(body.model_seq_id);

    let mut tables = call.state.lock();
    let session = tables.session(&body.session_id, &call.owner)?;
    let model_id = format!("{}:train:{}", body.session_id, body.model_seq_id);
    if let Some(first) = session.models.find(seq, call.fingerprint)? {
        return ok(&promise(*first, &model_id));
    }
    if tables.runs.contains_key(&model_id) {
        return Err(Response::error(409, &format!("{model_id} was created before the server was restarted")));
    }
    let in_memory = tables.runs.values().filter(|run| run.queue.is_some()).count();
    if in_memory >= call.state.max_models {
        return Err(Response::error(429, &format!("{in_memory} models are in memory, the maximum: unload one first")));
    }
    let record = RunRecord {
        owner: call.owner.clone(),
        session_id: body.session_id.clone().into_owned(),
        created: timestamp(),
        base_model: model.name().to_owned(),
        lora,
        user_metadata: body.user_metadata.map(|metadata| metadata.into_owned()),
        last_request_time: timestamp(),
    };
    call.state.write_record(&["runs", &model_id], RUN_RECORD, &record)?;
    let queue = spawn_run_worker(call.state, &model_id, &record, &model)
        .map_err(|error| Response::error(503, &format!("failed to start a thread for the model: {error}")))?;
    let id = call.state.promises.create(&call.owner);
    tables.session(&body.session_id, &call.owner)?.models.record(seq, call.fingerprint, id);
    // Fails only when the server is stopping: otherwise a worker outlives its queue.
    let _ = queue.send((id, Task::Create));
    tables.runs.insert(model_id.clone(), Run::new(record, model, Some(queue)));
    ok(&promise(id, &model_id))
}

pub(super) fn get_info(call: &Call<'_>) -> HandlerResult {
    let GetInfoRequest { model_id } = body::parse(call.request)?;
    let mut tables = call.state.lock();
    let run = tables.run(&model_id, &call.owner)?;
    run.queue()?;
    let name = Some(run.record.base_model.clone());
    let info = GetInfoResponse {
        model_data: ModelData {
            arch: None,
            model_name: name.clone(),
            tokenizer_id: Some(run.model.tokenizer().to_owned()),
        },
        model_id: model_id.into_owned(),
        is_lora: Some(true),
        lora_rank: Some(run.record.lora.rank),
        model_name: name,
        optimizer_config: OptimizerConfig::default(),
    };
    ok(&tagged("get_info", info))
}

pub(super) fn unload_model(call: &Call<'_>) -> HandlerResult {
    let UnloadModelRequest { model_id } = body::parse(call.request)?;
    let mut tables = call.state.lock();
    let run = tables.run(&model_id, &call.owner)?;
    let id = match run.unload {
        Some(first) => first,
        None => {
            run.queue()?;
            let id = call.state.promises.create(&call.owner);
            // Taken out of the table and dropped here, so the worker ends after this task.
            if let Some(queue) = run.queue.take() {
                let _ = queue.send((id, Task::Unload));
            }
            *run.unload.insert(id)
        }
    };
    ok(&promise(id, &model_id))
}

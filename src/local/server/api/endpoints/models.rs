//! Training runs: creating, describing and unloading them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::training::promise;
use crate::local::model::Model;
use crate::local::server::api::body;
use crate::local::server::api::call::{Call, HandlerResult, ok};
use crate::local::server::api::decode;
use crate::local::server::compute::spawn_run_worker;
use crate::local::server::http1::Response;
use crate::local::server::state::{RUN_RECORD, Run, RunRecord, Tables, Task, tagged, timestamp};
use crate::types::wire::{CreateModelRequest, GetInfoRequest, UnloadModelRequest};
use crate::types::{GetInfoResponse, LoraConfig, ModelData, OptimizerConfig};

pub(super) fn create_model(call: &Call<'_>) -> HandlerResult {
    let body: CreateModelRequest<'_> = body::parse(call.request)?;
    let model = call.state.model(&body.base_model)?;
    let lora = decode::lora_config(body.lora_config)?;
    let optimizer = decode::optimizer(body.optimizer_config.as_deref())?;
    call.create_run(&body.session_id, body.model_seq_id, |_| {
        let user_metadata = body.user_metadata.map(Cow::into_owned);
        Ok(NewRun { model, lora, optimizer, user_metadata, task: Task::Create })
    })
}

/// A training run that is about to be created.
pub(super) struct NewRun {
    pub(super) model: Arc<dyn Model>,
    pub(super) lora: LoraConfig,
    pub(super) optimizer: OptimizerConfig,
    pub(super) user_metadata: Option<BTreeMap<String, String>>,
    /// The task that makes its weights.
    pub(super) task: Task,
}

impl Call<'_> {
    /// Creates a training run and queues its first task, unless the request is a retry. `new` runs under the lock and only for
    /// a new request.
    pub(super) fn create_run(
        &self,
        session_id: &str,
        model_seq: u64,
        new: impl FnOnce(&Tables) -> Result<NewRun, Response>,
    ) -> HandlerResult {
        let mut tables = self.state.lock();
        let session = tables.session(session_id, &self.owner)?;
        let model_id = format!("{session_id}:train:{model_seq}");
        if let Some(first) = session.models.find(Some(model_seq), self.fingerprint)? {
            return ok(&promise(*first, &model_id));
        }
        if tables.runs.contains_key(&model_id) {
            return Err(Response::error(400, &format!("{model_id} was created before the server was restarted")));
        }
        let in_memory = tables.runs.values().filter(|run| run.queue.is_some()).count();
        if in_memory >= self.state.max_models {
            let detail = format!("{in_memory} models are in memory, the maximum: unload one first");
            return Err(Response::temporary(429, &detail));
        }
        let NewRun { model, lora, optimizer, user_metadata, task } = new(&tables)?;
        let record = RunRecord {
            owner: self.owner.clone(),
            session_id: Some(session_id.to_owned()),
            project_id: None,
            created: timestamp(),
            base_model: model.name().to_owned(),
            lora,
            optimizer,
            user_metadata,
            last_request_time: timestamp(),
        };
        self.state.write_record(&["runs", &model_id], RUN_RECORD, &record)?;
        let queue = spawn_run_worker(self.state, &model_id, &record, &model)
            .map_err(|error| Response::temporary(503, &format!("failed to start a thread for the model: {error}")))?;
        let id = self.new_promise(session_id, &model_id, Some(model_seq));
        tables.session(session_id, &self.owner)?.models.record(Some(model_seq), self.fingerprint, id);
        // Fails only when the server is stopping: otherwise a worker outlives its queue.
        let _ = queue.send((id, task));
        tables.runs.insert(model_id.clone(), Run::new(record, model, Some(queue)));
        ok(&promise(id, &model_id))
    }
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
        optimizer_config: run.record.optimizer.clone(),
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
            let session_id = run.record.session_id.as_deref().unwrap_or_default();
            let id = call.new_promise(session_id, &model_id, None);
            // Taken out of the table and dropped here, so the worker ends after this task.
            if let Some(queue) = run.queue.take() {
                let _ = queue.send((id, Task::Unload));
            }
            *run.unload.insert(id)
        }
    };
    ok(&promise(id, &model_id))
}

//! Training runs: creating, describing and unloading them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::training::promise;
use crate::local::model::Model;
use crate::local::server::api::body;
use crate::local::server::api::call::{Call, HandlerResult, ok};
use crate::local::server::api::decode;
use crate::local::server::compute::spawn_run_worker;
use crate::local::server::http1::Response;
use crate::local::server::state::{
    RUN_RECORD, RestingModel, Run, RunRecord, Tables, Task, TaskOutput, TaskQueue, tagged, timestamp,
};
use crate::local::server::tokenizer_packages::tokenizer_id;
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
        let NewRun { model, lora, optimizer, user_metadata, task } = new(&tables)?;
        self.state.check_runs(&tables)?;
        self.state.make_room(&mut tables)?;
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
        let queue = self.start_worker(&model_id, &record, &model, None)?;
        let id = self.new_promise(session_id, &model_id, Some(model_seq));
        tables.session(session_id, &self.owner)?.models.record(Some(model_seq), self.fingerprint, id);
        queue.send(id, task);
        tables.runs.insert(model_id.clone(), Run::new(record, model, Some(queue)));
        ok(&promise(id, &model_id))
    }

    /// Brings a run that rests back into memory.
    pub(super) fn wake(&self, tables: &mut Tables, model_id: &str) -> Result<(), Response> {
        let run = tables.run(model_id, &self.owner)?;
        let Some(resting) = run.resting.clone().filter(|_| run.queue.is_none()) else { return Ok(()) };
        self.state.make_room(tables)?;
        let run = tables.run(model_id, &self.owner)?;
        run.queue = Some(self.start_worker(model_id, &run.record, &run.model, Some(resting))?);
        // Only now: without a thread, it still rests.
        run.resting = None;
        Ok(())
    }

    fn start_worker(
        &self,
        model_id: &str,
        record: &RunRecord,
        model: &Arc<dyn Model>,
        resting: Option<Receiver<RestingModel>>,
    ) -> Result<TaskQueue, Response> {
        spawn_run_worker(self.state, model_id, record, model, resting)
            .map_err(|error| Response::temporary(503, &format!("failed to start a thread for the model: {error}")))
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
            tokenizer_id: Some(tokenizer_id(&*run.model)),
            max_context_length: Some(run.model.context_length() as u64),
            tokenizer_package: call.state.tokenizer_package(run.model.name()),
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
            run.unload = Some(id);
            // Taken out of the table and dropped here, so the worker ends after this task.
            if let Some(queue) = run.queue.take() {
                queue.send(id, Task::Unload);
            } else {
                run.resting = None;
                call.state.timeline.started(id);
                call.state.timeline.finished(id, false);
                call.state.promises.fulfill(id, Ok(TaskOutput::unloaded(&model_id)));
            }
            id
        }
    };
    ok(&promise(id, &model_id))
}

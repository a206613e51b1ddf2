//! Training runs: creating them, and queueing tasks for their workers.

use std::sync::Arc;

use serde::Deserialize;

use super::body::{self, bad_request};
use super::call::{Call, HandlerResult, ok};
use super::decode::{self, OptimStep};
use crate::local::model::Model;
use crate::local::server::compute::{spawn_run_worker, tagged};
use crate::local::server::http1::Response;
use crate::local::server::state::{PromiseId, RUN_RECORD, Run, RunRecord, Tables, Task, timestamp};
use crate::types::wire::{
    CreateModelRequest, ForwardBackwardRequest, ForwardRequest, GetInfoRequest, LoadWeightsRequest, Promise,
    SaveWeightsForSamplerRequest, SaveWeightsRequest, UnloadModelRequest,
};
use crate::types::{GetInfoResponse, ModelData, OptimizerConfig, SamplerKind};

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

pub(super) fn forward(call: &Call<'_>) -> HandlerResult {
    let body: ForwardRequest<'_> = body::parse(call.request)?;
    let batch = decode::batch(&*call.base_model(&body.model_id)?, &body.forward_input)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::Forward(batch)))
}

pub(super) fn forward_backward(call: &Call<'_>) -> HandlerResult {
    let body: ForwardBackwardRequest<'_> = body::parse(call.request)?;
    let batch = decode::batch(&*call.base_model(&body.model_id)?, &body.forward_backward_input)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::ForwardBackward(batch)))
}

pub(super) fn optim_step(call: &Call<'_>) -> HandlerResult {
    let body: OptimStep = body::parse(call.request)?;
    let options = body.to_options()?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::OptimStep(options)))
}

/// A field that later protocol versions add to both ways of saving.
#[derive(Deserialize)]
struct SaveTtl {
    ttl_seconds: Option<u64>,
}

pub(super) fn save_weights(call: &Call<'_>) -> HandlerResult {
    let body: SaveWeightsRequest<'_> = body::parse(call.request)?;
    call.save(&body.model_id, body.seq_id, "weights", body.path.as_deref())
}

pub(super) fn save_weights_for_sampler(call: &Call<'_>) -> HandlerResult {
    let body: SaveWeightsForSamplerRequest<'_> = body::parse(call.request)?;
    if body.kind.is_some_and(|kind| kind != SamplerKind::Snapshot) {
        return Err(bad_request("the local server has only sampling clients of the kind snapshot"));
    }
    let Some(sampler_seq) = body.sampling_session_seq_id else {
        return call.save(&body.model_id, body.seq_id, "sampler_weights", body.path.as_deref());
    };
    call.submit(&body.model_id, body.seq_id, |tables| {
        let session_id = tables.run(&body.model_id, &call.owner)?.record.session_id.clone();
        let session = tables.session(&session_id, &call.owner)?;
        let sampler_id = session.sampler_id(&session_id, sampler_seq, call.fingerprint)?;
        if tables.samplers.contains_key(&sampler_id) {
            return Err(Response::error(409, &format!("{sampler_id} was opened before the server was restarted")));
        }
        Ok(Task::SaveForSampler { sampler_id })
    })
}

pub(super) fn load_weights(call: &Call<'_>) -> HandlerResult {
    let body: LoadWeightsRequest<'_> = body::parse(call.request)?;
    let model_id = body.model_id.ok_or_else(|| bad_request("model_id is missing: create the model first"))?;
    let task = Task::LoadCheckpoint { path: body.path.into_owned(), with_optimizer: body.optimizer };
    call.submit(&model_id, body.seq_id, |_| Ok(task))
}

impl Call<'_> {
    /// The base model of a training run.
    fn base_model(&self, model_id: &str) -> Result<Arc<dyn Model>, Response> {
        Ok(self.state.lock().run(model_id, &self.owner)?.model.clone())
    }

    fn save(&self, model_id: &str, seq: Option<u64>, kind: &str, name: Option<&str>) -> HandlerResult {
        let SaveTtl { ttl_seconds } = body::parse(self.request)?;
        let name = decode::checkpoint_name(name)?;
        self.submit(model_id, seq, |tables| {
            let path = tables.reserve_checkpoint(model_id, kind, name)?;
            Ok(Task::SaveCheckpoint { path, ttl_seconds })
        })
    }

    /// Queues a task for a run's worker, unless the request is a retry. `task` runs under the lock and only for a new
    /// request, so that whatever it reserves belongs to the queued task.
    fn submit(
        &self,
        model_id: &str,
        seq: Option<u64>,
        task: impl FnOnce(&mut Tables) -> Result<Task, Response>,
    ) -> HandlerResult {
        let mut tables = self.state.lock();
        let run = tables.run(model_id, &self.owner)?;
        if let Some(first) = run.requests.find(seq, self.fingerprint)? {
            return ok(&promise(*first, model_id));
        }
        run.queue()?;
        let task = task(&mut tables)?;
        let id = self.state.promises.create(&self.owner);
        let run = tables.run(model_id, &self.owner)?;
        run.requests.record(seq, self.fingerprint, id);
        // Fails only when the server is stopping: otherwise a worker outlives its queue.
        let _ = run.queue()?.send((id, task));
        ok(&promise(id, model_id))
    }
}

/// A promise of a task of a training run.
fn promise(id: PromiseId, model_id: &str) -> Promise {
    Promise { model_id: Some(model_id.to_owned()), ..Promise::new(id.to_string()) }
}

//! Training runs: what is queued for their workers.

use std::sync::Arc;

use serde::Deserialize;

use super::{Answer, Call, respond};
use crate::local::model::Model;
use crate::local::server::http::Response;
use crate::local::server::input::{self, OptimStep};
use crate::local::server::output::typed;
use crate::local::server::promises::PromiseId;
use crate::local::server::records::{RunRecord, timestamp};
use crate::local::server::state::{RUN, Run, Tables};
use crate::local::server::work::{Task, start_run};
use crate::types::wire::{
    CreateModelRequest, ForwardBackwardRequest, ForwardRequest, GetInfoRequest, LoadWeightsRequest, Promise,
    SaveWeightsForSamplerRequest, SaveWeightsRequest, UnloadModelRequest,
};
use crate::types::{GetInfoResponse, ModelData};

pub(super) fn create_model(call: &Call<'_>) -> Result<Answer, Response> {
    let body: CreateModelRequest<'_> = input::body(call.request)?;
    let model = call.state.model(&body.base_model)?;
    let lora = input::lora(body.lora_config)?;
    let seq = Some(body.model_seq_id);

    let mut tables = call.state.lock();
    let session = tables.session(&body.session_id, &call.owner)?;
    let model_id = format!("{}:train:{}", body.session_id, body.model_seq_id);
    if let Some(first) = session.models.repeated(seq, call.print)? {
        return respond(&promise(*first, &model_id));
    }
    if tables.runs.contains_key(&model_id) {
        return Err(Response::detail(409, &format!("{model_id} was made before the server was restarted")));
    }
    let in_memory = tables.runs.values().filter(|run| run.queue.is_some()).count();
    if in_memory >= call.state.max_models {
        return Err(Response::detail(
            429,
            &format!("{in_memory} models are in memory: unload one, or end its session"),
        ));
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
    call.state.record(&["runs", &model_id], RUN, &record)?;
    let queue = start_run(call.state, &model_id, &record, &model)
        .map_err(|error| Response::detail(503, &format!("no thread for another model: {error}")))?;
    let id = call.state.promises.make(&call.owner);
    tables.session(&body.session_id, &call.owner)?.models.record(seq, call.print, id);
    // The worker has just begun to wait for it.
    let _ = queue.send((id, Task::Create));
    tables.runs.insert(model_id.clone(), Run::new(record, model, Some(queue)));
    respond(&promise(id, &model_id))
}

pub(super) fn get_info(call: &Call<'_>) -> Result<Answer, Response> {
    let GetInfoRequest { model_id } = input::body(call.request)?;
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
    };
    respond(&typed("get_info", info))
}

pub(super) fn unload_model(call: &Call<'_>) -> Result<Answer, Response> {
    let UnloadModelRequest { model_id } = input::body(call.request)?;
    let mut tables = call.state.lock();
    let run = tables.run(&model_id, &call.owner)?;
    let id = match run.unloaded {
        Some(first) => first,
        None => {
            run.queue()?;
            let id = call.state.promises.make(&call.owner);
            // The worker ends after this task, as its queue is dropped here.
            if let Some(queue) = run.queue.take() {
                let _ = queue.send((id, Task::Unload));
            }
            *run.unloaded.insert(id)
        }
    };
    respond(&promise(id, &model_id))
}

pub(super) fn forward(call: &Call<'_>) -> Result<Answer, Response> {
    let body: ForwardRequest<'_> = input::body(call.request)?;
    let batch = input::batch(&*call.base_model(&body.model_id)?, &body.forward_input)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::Forward(batch)))
}

pub(super) fn forward_backward(call: &Call<'_>) -> Result<Answer, Response> {
    let body: ForwardBackwardRequest<'_> = input::body(call.request)?;
    let batch = input::batch(&*call.base_model(&body.model_id)?, &body.forward_backward_input)?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::ForwardBackward(batch)))
}

pub(super) fn optim_step(call: &Call<'_>) -> Result<Answer, Response> {
    let body: OptimStep = input::body(call.request)?;
    let step = body.adam_params.step()?;
    call.submit(&body.model_id, body.seq_id, |_| Ok(Task::OptimStep(step)))
}

/// What later versions of the protocol add to either way of saving.
#[derive(Deserialize)]
struct TimeToLive {
    ttl_seconds: Option<u64>,
}

pub(super) fn save_weights(call: &Call<'_>) -> Result<Answer, Response> {
    let body: SaveWeightsRequest<'_> = input::body(call.request)?;
    call.save(&body.model_id, body.seq_id, "weights", body.path.as_deref())
}

pub(super) fn save_weights_for_sampler(call: &Call<'_>) -> Result<Answer, Response> {
    let body: SaveWeightsForSamplerRequest<'_> = input::body(call.request)?;
    let Some(sampler_seq) = body.sampling_session_seq_id else {
        return call.save(&body.model_id, body.seq_id, "sampler_weights", body.path.as_deref());
    };
    call.submit(&body.model_id, body.seq_id, |tables| {
        let session_id = tables.run(&body.model_id, &call.owner)?.record.session_id.clone();
        let session = tables.session(&session_id, &call.owner)?;
        let sampler_id = session.number_sampler(&session_id, sampler_seq, call.print)?;
        if tables.samplers.contains_key(&sampler_id) {
            return Err(Response::detail(409, &format!("{sampler_id} was opened before the server was restarted")));
        }
        Ok(Task::Snapshot(sampler_id))
    })
}

pub(super) fn load_weights(call: &Call<'_>) -> Result<Answer, Response> {
    let body: LoadWeightsRequest<'_> = input::body(call.request)?;
    let task = Task::Load { path: body.path.into_owned(), optimizer: body.optimizer.unwrap_or_default() };
    call.submit(&body.model_id, body.seq_id, |_| Ok(task))
}

impl Call<'_> {
    /// The base model of a training run.
    fn base_model(&self, model_id: &str) -> Result<Arc<dyn Model>, Response> {
        Ok(self.state.lock().run(model_id, &self.owner)?.model.clone())
    }

    fn save(&self, model_id: &str, seq: Option<u64>, kind: &str, name: Option<&str>) -> Result<Answer, Response> {
        let TimeToLive { ttl_seconds } = input::body(self.request)?;
        let name = input::checkpoint_name(name)?;
        self.submit(model_id, seq, |tables| Ok(Task::Save(tables.reserve(model_id, kind, name)?, ttl_seconds)))
    }

    /// Gives a task to a run's worker, unless the request was here before. `task` runs under the lock, so that what it
    /// reserves is reserved for what is queued.
    fn submit(
        &self,
        model_id: &str,
        seq: Option<u64>,
        task: impl FnOnce(&mut Tables) -> Result<Task, Response>,
    ) -> Result<Answer, Response> {
        let mut tables = self.state.lock();
        let run = tables.run(model_id, &self.owner)?;
        if let Some(first) = run.requests.repeated(seq, self.print)? {
            return respond(&promise(*first, model_id));
        }
        run.queue()?;
        let task = task(&mut tables)?;
        let id = self.state.promises.make(&self.owner);
        let run = tables.run(model_id, &self.owner)?;
        run.requests.record(seq, self.print, id);
        // A worker ends before its queue only when the server stops.
        let _ = run.queue()?.send((id, task));
        respond(&promise(id, model_id))
    }
}

/// A promise about a training run.
fn promise(id: PromiseId, model_id: &str) -> Promise {
    Promise { model_id: Some(model_id.to_owned()), ..Promise::new(id.to_string()) }
}

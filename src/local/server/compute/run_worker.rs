//! The worker of a training run.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::{io, mem, thread};

use crossbeam_channel::unbounded;
use serde_json::json;

use super::catch_panic::catch_panic;
use super::outputs::{TaskOutput, batch_output, tagged};
use super::weights::{adapter_options, load_checkpoint};
use crate::local::adam::Adam;
use crate::local::checkpoint_files::pack;
use crate::local::model::{Adapter, Model, Tensors};
use crate::local::server::state::{
    AdapterCache, CHECKPOINT_RECORD, CheckpointRecord, PromiseId, RUN_RECORD, RunRecord, SAMPLER_RECORD,
    SamplingSession, SamplingSessionRecord, ServerState, Task, TaskError, TaskQueue, Weights, checkpoint_folder,
    timestamp, timestamp_in,
};
use crate::types::{CheckpointPath, CheckpointType, OptimStepResponse};

/// A training run in memory. Only its worker's thread touches it, so it needs no lock.
#[derive(Debug)]
struct RunWorker {
    id: String,
    record: RunRecord,
    state: Arc<ServerState>,
    model: Arc<dyn Model>,
    /// Shared with sampling sessions on the same weights; copied by the next optimizer step if it is.
    adapter: Arc<Adapter>,
    /// Accumulated since the last optimizer step.
    gradient: Tensors,
    optimizer: Adam,
}

/// Starts the worker of a training run. It ends when the queue is dropped.
pub(crate) fn spawn_run_worker(
    state: &Arc<ServerState>,
    id: &str,
    record: &RunRecord,
    model: &Arc<dyn Model>,
) -> io::Result<TaskQueue> {
    let (queue, tasks) = unbounded::<(PromiseId, Task)>();
    let (state, id, record, model) = (state.clone(), id.to_owned(), record.clone(), model.clone());
    thread::Builder::new().name("tinkex-train".to_owned()).spawn(move || {
        // Created by the first task, so that a panic of the model fails that task and not the thread.
        let mut worker = None;
        for (promise, task) in tasks {
            if state.is_stopping() {
                break;
            }
            let result = catch_panic(|| {
                let worker = worker.get_or_insert_with(|| RunWorker {
                    id: id.clone(),
                    adapter: Arc::new(model.new_adapter(&adapter_options(&record.lora))),
                    record: record.clone(),
                    state: state.clone(),
                    model: model.clone(),
                    gradient: Tensors::new(),
                    optimizer: Adam::default(),
                });
                worker.execute(task)
            });
            state.promises.fulfill(promise, result);
        }
    })?;
    Ok(queue)
}

fn save_failed(error: impl Display) -> TaskError {
    TaskError::server(format!("failed to save the weights: {error}"))
}

impl RunWorker {
    fn execute(&mut self, task: Task) -> Result<TaskOutput, TaskError> {
        match task {
            Task::Create => Ok(TaskOutput::Other(tagged("create_model", json!({ "model_id": self.id })))),
            Task::Forward(batch) => {
                let logprobs = self.model.forward_backward(&self.adapter, &batch, None);
                Ok(TaskOutput::Losses(batch_output(&batch, logprobs)))
            }
            Task::ForwardBackward(batch) => {
                let logprobs = self.model.forward_backward(&self.adapter, &batch, Some(&mut self.gradient));
                Ok(TaskOutput::Losses(batch_output(&batch, logprobs)))
            }
            Task::OptimStep(options) => {
                let gradient = mem::take(&mut self.gradient);
                self.optimizer.step(&mut Arc::make_mut(&mut self.adapter).tensors, &gradient, &options);
                Ok(TaskOutput::OptimStep(OptimStepResponse { metrics: Some(BTreeMap::new()) }))
            }
            Task::SaveCheckpoint { path, ttl_seconds } => self.save_checkpoint(&path, ttl_seconds),
            Task::SaveForSampler { sampler_id } => self.save_for_sampler(sampler_id),
            Task::LoadCheckpoint { path, with_optimizer } => self.load_checkpoint(&path, with_optimizer),
            Task::Unload => Ok(TaskOutput::Other(tagged("unload_model", json!({ "model_id": self.id })))),
        }
    }

    /// Saves a checkpoint under its reserved path and releases the reservation, also on failure.
    fn save_checkpoint(&self, path: &CheckpointPath, ttl_seconds: Option<u64>) -> Result<TaskOutput, TaskError> {
        let (kind, optimizer) = match path.checkpoint_type() {
            CheckpointType::Training => ("save_weights", Some(&self.optimizer)),
            _ => ("save_weights_for_sampler", None),
        };
        let saved = pack(&self.record.base_model, &self.adapter, optimizer).and_then(|files| {
            let checkpoint = CheckpointRecord {
                owner: self.record.owner.clone(),
                base_model: self.record.base_model.clone(),
                lora: self.record.lora.clone(),
                time: timestamp(),
                size_bytes: files.values().map(|file| file.len() as u64).sum(),
                public: false,
                expires_at: ttl_seconds.and_then(timestamp_in),
            };
            let folder = checkpoint_folder(path);
            self.state.store.save_files(&folder, files, CHECKPOINT_RECORD, &checkpoint).map(|()| checkpoint)
        });
        let mut tables = self.state.lock();
        tables.reserved.remove(path.as_str());
        tables.checkpoints.insert(path.as_str().to_owned(), saved.map_err(save_failed)?);
        if let Some(run) = tables.runs.get(&self.id) {
            self.state.store.write_record(&["runs", &self.id], RUN_RECORD, &run.record).map_err(save_failed)?;
        }
        Ok(TaskOutput::Other(tagged(kind, json!({ "path": path.as_str() }))))
    }

    /// Opens a sampling session on the current weights. Later training steps do not affect it.
    fn save_for_sampler(&self, sampler_id: String) -> Result<TaskOutput, TaskError> {
        let record = SamplingSessionRecord {
            owner: self.record.owner.clone(),
            session_id: self.record.session_id.clone(),
            base_model: self.record.base_model.clone(),
            weights: Weights::Snapshot(self.record.lora.clone()),
        };
        let files = pack(&self.record.base_model, &self.adapter, None).map_err(save_failed)?;
        let saved = self.state.store.save_files(&["samplers", &sampler_id], files, SAMPLER_RECORD, &record);
        saved.map_err(save_failed)?;
        let sampler = SamplingSession::new(record, self.model.clone(), AdapterCache::loaded(self.adapter.clone()));
        self.state.adapters.used(&sampler.adapter);
        self.state.add_sampler(&mut self.state.lock(), sampler_id.clone(), sampler);
        let fields = json!({ "path": null, "sampling_session_id": sampler_id });
        Ok(TaskOutput::Other(tagged("save_weights_for_sampler", fields)))
    }

    /// Replaces the weights by those of a checkpoint. The gradient accumulated for the old weights is dropped; the
    /// optimizer state is reset, or loaded if requested.
    fn load_checkpoint(&mut self, path: &str, with_optimizer: bool) -> Result<TaskOutput, TaskError> {
        let base_model =
            self.state.lock().readable_checkpoint(path, &self.record.owner).map(|record| record.base_model.clone());
        let base_model = base_model.map_err(|response| TaskError::user(response.detail()))?;
        let (adapter, optimizer) = load_checkpoint(&self.state, path)?;
        let Some(optimizer) = optimizer else {
            return Err(TaskError::user(format!("{path} is a sampler checkpoint, not a training checkpoint")));
        };
        let shapes = |adapter: &Adapter| -> Vec<_> {
            adapter.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dim())).collect()
        };
        if base_model != self.record.base_model || shapes(&adapter) != shapes(&self.adapter) {
            return Err(TaskError::user(format!(
                "{path} has a different base model, rank or set of layers than this model"
            )));
        }
        self.adapter = Arc::new(adapter);
        self.gradient = Tensors::new();
        self.optimizer = if with_optimizer { optimizer } else { Adam::default() };
        Ok(TaskOutput::Other(tagged("load_weights", json!({ "path": path }))))
    }
}

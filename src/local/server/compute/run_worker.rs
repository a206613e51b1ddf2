//! The worker of a training run.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::{io, mem, thread};

use crossbeam_channel::Receiver;
use serde_json::json;

use super::catch_panic::catch_panic;
use super::outputs::batch_output;
use super::resting::{put_away, wake};
use super::weights::{adapter_options, load_checkpoint};
use crate::local::adam::Adam;
use crate::local::checkpoint_files::pack;
use crate::local::model::{Adapter, Example, Model, Tensors};
use crate::local::server::state::{
    AdapterCache, CHECKPOINT_RECORD, CheckpointRecord, CheckpointSource, INFLIGHT_RECORD, ModelState, RUN_RECORD,
    RestingModel, RunRecord, SAMPLER_RECORD, SamplingSession, SamplingSessionRecord, ServerState, Task, TaskError,
    TaskOutput, TaskQueue, UsageKey, UsageKind, Weights, checkpoint_folder, inflight_folder, tagged, task_queue,
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
    trained: ModelState,
}

/// Starts the worker of a training run. It ends when the queue is dropped.
///
/// The model is the one that the run's last worker left in `resting`, if there was one.
pub(crate) fn spawn_run_worker(
    state: &Arc<ServerState>,
    id: &str,
    record: &RunRecord,
    model: &Arc<dyn Model>,
    resting: Option<Receiver<RestingModel>>,
) -> io::Result<TaskQueue> {
    let (queue, tasks) = task_queue();
    let (state, id, record, model) = (state.clone(), id.to_owned(), record.clone(), model.clone());
    thread::Builder::new().name("tinkex-train".to_owned()).spawn(move || {
        // Created by the first task, so that a panic of the model fails that task and not the thread.
        let mut worker = None;
        let mut not_created = false;
        // Empty if the last worker had none to leave, because creating it had failed.
        let mut resting = resting.and_then(|resting| resting.recv().ok());
        while let Some((promise, task)) = tasks.next() {
            if state.is_stopping() {
                break;
            }
            let creates = matches!(task, Task::CreateFrom(_));
            let reserved = match &task {
                Task::SaveCheckpoint { path, .. } => Some(path.clone()),
                _ => None,
            };
            state.timeline.started(promise);
            let result = catch_panic(|| {
                if not_created {
                    return Err(TaskError::user("the model was not created: its weights could not be loaded"));
                }
                let worker = match &mut worker {
                    Some(worker) => worker,
                    none => {
                        let trained = match &resting {
                            Some(RestingModel::OnDisk(files)) => wake(&state, &id, &record, files)?,
                            _ => match resting.take() {
                                Some(RestingModel::InMemory(left)) => left,
                                _ => ModelState {
                                    adapter: Arc::new(model.new_adapter(&adapter_options(&record.lora))),
                                    gradient: Tensors::new(),
                                    optimizer: Adam::default(),
                                },
                            },
                        };
                        // Removes its files.
                        resting = None;
                        let (id, record) = (id.clone(), record.clone());
                        none.insert(RunWorker { id, record, state: state.clone(), model: model.clone(), trained })
                    }
                };
                worker.execute(task)
            });
            if creates && result.is_err() {
                // The run ends: it must not be trained with other weights.
                not_created = true;
                if let Some(run) = state.lock().runs.get_mut(&id) {
                    run.queue = None;
                }
            }
            if let Some(path) = reserved {
                state.lock().release_checkpoint(&path);
            }
            state.timeline.finished(promise, result.is_err());
            tasks.finished();
            state.promises.fulfill(promise, result);
        }
        let Some(next) = tasks.resting() else { return };
        if let Some(left) = worker.map(|worker| put_away(&state, &id, &record, worker.trained)).or(resting) {
            // Fails, and removes the files, if the run was unloaded since.
            let _ = next.send(left);
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
                let logprobs = self.model.forward_backward(&self.trained.adapter, &batch, None);
                self.count_tokens(&batch);
                batch_output(&batch, logprobs).map(TaskOutput::Losses)
            }
            Task::ForwardBackward(batch) => {
                let logprobs =
                    self.model.forward_backward(&self.trained.adapter, &batch, Some(&mut self.trained.gradient));
                self.count_tokens(&batch);
                batch_output(&batch, logprobs).map(TaskOutput::Losses)
            }
            Task::OptimStep(options) => {
                let gradient = mem::take(&mut self.trained.gradient);
                self.trained.optimizer.step(&mut Arc::make_mut(&mut self.trained.adapter).tensors, &gradient, &options);
                Ok(TaskOutput::OptimStep(OptimStepResponse { metrics: Some(BTreeMap::new()) }))
            }
            Task::SaveCheckpoint { path, ttl_seconds, user_metadata } => {
                self.save_checkpoint(&path, ttl_seconds, user_metadata)
            }
            Task::SaveForSampler { sampler_id, record } => self.save_for_sampler(sampler_id, record),
            Task::LoadCheckpoint(source) => {
                self.load_checkpoint(&source)?;
                Ok(TaskOutput::Other(tagged("load_weights", json!({ "path": source.path }))))
            }
            Task::CreateFrom(source) => {
                self.load_checkpoint(&source)?;
                let fields = json!({ "path": source.path, "model_id": self.id });
                Ok(TaskOutput::Other(tagged("load_weights", fields)))
            }
            Task::Unload => Ok(TaskOutput::unloaded(&self.id)),
        }
    }

    fn count_tokens(&self, batch: &[Example]) {
        self.count(UsageKind::Training, batch.iter().map(|example| example.tokens.len() as u64).sum());
    }

    fn count(&self, kind: UsageKind, amount: u64) {
        let RunRecord { owner, session_id, base_model, .. } = &self.record;
        let (owner, session_id, base_model) = (owner.clone(), session_id.clone(), base_model.clone());
        self.state.usage.count(UsageKey { owner, session_id, base_model, kind }, amount);
    }

    /// Saves a checkpoint under its reserved path.
    fn save_checkpoint(
        &self,
        path: &CheckpointPath,
        ttl_seconds: Option<u64>,
        user_metadata: Option<BTreeMap<String, String>>,
    ) -> Result<TaskOutput, TaskError> {
        let (kind, optimizer) = match path.checkpoint_type() {
            CheckpointType::Training => ("save_weights", Some(&self.trained.optimizer)),
            CheckpointType::External => ("save_weights_external", None),
            _ => ("save_weights_for_sampler", None),
        };
        // A sample that comes while the files are replaced must not mix old and new weights.
        self.state.lock().unload_checkpoint(path.as_str());
        let saved = pack(&self.record.base_model, &self.trained.adapter, optimizer).and_then(|files| {
            let checkpoint = CheckpointRecord {
                owner: self.record.owner.clone(),
                base_model: self.record.base_model.clone(),
                lora: self.record.lora.clone(),
                optimizer: self.record.optimizer.clone(),
                time: timestamp(),
                size_bytes: files.values().map(|file| file.len() as u64).sum(),
                public: false,
                user_metadata,
                expires_at: ttl_seconds.map(timestamp_in),
            };
            let folder = checkpoint_folder(path);
            self.state.store.save_files(&folder, files, CHECKPOINT_RECORD, &checkpoint).map(|()| checkpoint)
        });
        let checkpoint = saved.map_err(save_failed)?;
        let mut tables = self.state.lock();
        self.count(UsageKind::Checkpoint, 1);
        let size_bytes = (path.checkpoint_type() == CheckpointType::External).then_some(checkpoint.size_bytes);
        // The storage of one that is overwritten was used.
        self.state.forget_checkpoint(&mut tables, path.as_str());
        tables.checkpoints.insert(path.as_str().to_owned(), checkpoint);
        let owner = &self.record.owner;
        self.state.audit_checkpoint("checkpoint_create", path.as_str(), owner, owner, None);
        if let Some(run) = tables.runs.get(&self.id) {
            // The checkpoint is saved, whether or not the time of the last request is.
            if let Err(error) = self.state.store.write_record(&["runs", &self.id], RUN_RECORD, &run.record) {
                log::warn!("failed to write the record of {}: {error}", self.id);
            }
        }
        let mut fields = json!({ "path": path.as_str() });
        if let Some(size_bytes) = size_bytes {
            fields["size_bytes"] = size_bytes.into();
        }
        Ok(TaskOutput::Other(tagged(kind, fields)))
    }

    /// Opens a sampling session on the current weights. Later training steps do not affect it; later inflight saves replace
    /// the weights of inflight sessions.
    fn save_for_sampler(&self, sampler_id: String, record: SamplingSessionRecord) -> Result<TaskOutput, TaskError> {
        let files = pack(&self.record.base_model, &self.trained.adapter, None).map_err(save_failed)?;
        let (store, sampler_folder) = (&self.state.store, ["samplers", &sampler_id]);
        let cache = if let Weights::Inflight { run, lora } = &record.weights {
            store.save_files(&inflight_folder(run), files, INFLIGHT_RECORD, lora).map_err(save_failed)?;
            store.write_record(&sampler_folder, SAMPLER_RECORD, &record).map_err(save_failed)?;
            let shared = self.state.lock().runs.get(run).map(|run| run.inflight.clone()).unwrap_or_default();
            shared.replace(self.trained.adapter.clone());
            shared
        } else {
            store.save_files(&sampler_folder, files, SAMPLER_RECORD, &record).map_err(save_failed)?;
            Arc::new(AdapterCache::loaded(self.trained.adapter.clone()))
        };
        let sampler = SamplingSession::new(record, self.model.clone(), cache);
        self.state.adapters.used(&sampler.adapter);
        self.state.add_sampler(&mut self.state.lock(), sampler_id.clone(), sampler);
        let fields = json!({ "path": null, "sampling_session_id": sampler_id });
        Ok(TaskOutput::Other(tagged("save_weights_for_sampler", fields)))
    }

    /// Replaces the weights by those of a checkpoint. The gradient accumulated for the old weights is dropped; the
    /// optimizer state is reset, or loaded if requested.
    fn load_checkpoint(&mut self, source: &CheckpointSource) -> Result<(), TaskError> {
        let CheckpointSource { path, readers, with_optimizer } = source;
        let found = self.state.lock().readable_checkpoint(path, readers).cloned();
        let CheckpointRecord { owner, base_model, lora, .. } =
            found.map_err(|response| TaskError::user(response.detail()))?;
        let (adapter, optimizer) = load_checkpoint(&self.state, path)?;
        let Some(optimizer) = optimizer else {
            return Err(TaskError::user(format!("{path} is a sampler checkpoint, not a training checkpoint")));
        };
        let shapes = |adapter: &Adapter| -> Vec<_> {
            adapter.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dim())).collect()
        };
        if base_model != self.record.base_model || shapes(&adapter) != shapes(&self.trained.adapter) {
            let own = &self.record;
            return Err(TaskError::user(format!(
                "{path} has a different base model, rank or set of layers than this model: rank {} on {base_model}, not {} on \
                 {}; create a model from the checkpoint instead",
                lora.rank, own.lora.rank, own.base_model
            )));
        }
        self.state.audit_checkpoint("checkpoint_read", path, &owner, &self.record.owner, Some("train"));
        self.trained.adapter = Arc::new(adapter);
        self.trained.gradient = Tensors::new();
        self.trained.optimizer = if *with_optimizer { optimizer } else { Adam::default() };
        Ok(())
    }
}

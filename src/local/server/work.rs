//! Where models compute: one thread for each training run, which carries out its tasks in the order of arrival, and a
//! few threads that sample, so that no sample waits for a training step.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde_json::{Value, json};

use super::input::SampleTask;
use super::output::{Typed, losses, samples, typed};
use super::promises::{Failure, PromiseId};
use super::records::{CheckpointRecord, RunRecord, SamplerRecord, Weights, timestamp, timestamp_in};
use super::state::{CHECKPOINT, RUN, SAMPLER, Sampler, State};
use super::weights::{Loaded, load_checkpoint, options, place};
use crate::local::adam::{Adam, AdamStep};
use crate::local::checkpoint::pack;
use crate::local::model::{Adapter, Example, Model, Tensors};
use crate::types::{CheckpointPath, CheckpointType, ForwardBackwardOutput, OptimStepResponse, SampleResponse};

/// What a run's worker can be asked for.
#[derive(Debug)]
pub(super) enum Task {
    /// The first task of every run.
    Create,
    Forward(Vec<Example>),
    ForwardBackward(Vec<Example>),
    OptimStep(AdamStep),
    /// Under this path, for that many seconds if not for ever.
    Save(CheckpointPath, Option<u64>),
    /// For the sampling session with this id, which is opened.
    Snapshot(String),
    Load {
        path: String,
        optimizer: bool,
    },
    /// The last task.
    Unload,
}

/// To the worker of a run, which ends when this is dropped.
pub(super) type TaskQueue = Sender<(PromiseId, Task)>;

/// The result of a task, as the protocol has it.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
enum Outcome {
    Computed(ForwardBackwardOutput),
    Stepped(OptimStepResponse),
    Done(Typed<Value>),
}

/// A training run as its worker has it.
#[derive(Debug)]
struct Trainee {
    id: String,
    record: RunRecord,
    state: Arc<State>,
    model: Arc<dyn Model>,
    adapter: Arc<Adapter>,
    /// Of the losses since the last step.
    gradient: Tensors,
    optimizer: Adam,
}

/// Starts the worker of a training run. It ends when the queue is dropped.
pub(super) fn start_run(
    state: &Arc<State>,
    id: &str,
    record: &RunRecord,
    model: &Arc<dyn Model>,
) -> io::Result<TaskQueue> {
    let (queue, tasks) = unbounded::<(PromiseId, Task)>();
    let (state, id, record, model) = (state.clone(), id.to_owned(), record.clone(), model.clone());
    thread::Builder::new().name("tinkex-train".to_owned()).spawn(move || {
        let mut trainee = None;
        for (promise, task) in tasks {
            if state.is_stopping() {
                break;
            }
            let result = guarded(|| {
                let trainee = trainee.get_or_insert_with(|| Trainee {
                    id: id.clone(),
                    adapter: Arc::new(model.new_adapter(&options(&record.lora))),
                    record: record.clone(),
                    state: state.clone(),
                    model: model.clone(),
                    gradient: Tensors::new(),
                    optimizer: Adam::default(),
                });
                trainee.carry_out(task)
            });
            state.promises.keep(promise, result);
        }
    })?;
    Ok(queue)
}

/// A panic of the model fails the one promise that it was about.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
        Err(Failure::server(format!("the model panicked: {}", text.unwrap_or("without words"))))
    })
}

fn unwritable(error: impl std::fmt::Display) -> Failure {
    Failure::server(format!("the weights could not be saved: {error}"))
}

impl Trainee {
    fn carry_out(&mut self, task: Task) -> Result<Outcome, Failure> {
        match task {
            Task::Create => Ok(Outcome::Done(typed("create_model", json!({ "model_id": self.id })))),
            Task::Forward(batch) => {
                let logprobs = self.model.forward_backward(&self.adapter, &batch, None);
                Ok(Outcome::Computed(losses(&batch, logprobs)))
            }
            Task::ForwardBackward(batch) => {
                let logprobs = self.model.forward_backward(&self.adapter, &batch, Some(&mut self.gradient));
                Ok(Outcome::Computed(losses(&batch, logprobs)))
            }
            Task::OptimStep(step) => {
                let gradient = std::mem::take(&mut self.gradient);
                // Copied only where a snapshot still shares it.
                self.optimizer.step(&mut Arc::make_mut(&mut self.adapter).tensors, &gradient, &step);
                Ok(Outcome::Stepped(OptimStepResponse { metrics: Some(BTreeMap::new()) }))
            }
            Task::Save(path, seconds) => self.save(&path, seconds),
            Task::Snapshot(sampler) => self.snapshot(sampler),
            Task::Load { path, optimizer } => self.load(&path, optimizer),
            Task::Unload => Ok(Outcome::Done(typed("unload_model", json!({ "model_id": self.id })))),
        }
    }

    /// Saves a checkpoint, whose name was reserved; it is free again when that fails.
    fn save(&self, path: &CheckpointPath, seconds: Option<u64>) -> Result<Outcome, Failure> {
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
                expires_at: seconds.and_then(timestamp_in),
            };
            self.state.store.save(&place(path), files, CHECKPOINT, &checkpoint).map(|()| checkpoint)
        });
        let mut tables = self.state.lock();
        tables.reserved.remove(path.as_str());
        tables.checkpoints.insert(path.as_str().to_owned(), saved.map_err(unwritable)?);
        if let Some(run) = tables.runs.get(&self.id) {
            self.state.store.record(&["runs", &self.id], RUN, &run.record).map_err(unwritable)?;
        }
        Ok(Outcome::Done(typed(kind, json!({ "path": path.as_str() }))))
    }

    /// Opens a sampling session on the weights as they are, which training goes on from without it.
    fn snapshot(&self, sampler: String) -> Result<Outcome, Failure> {
        let record = SamplerRecord {
            owner: self.record.owner.clone(),
            session_id: self.record.session_id.clone(),
            base_model: self.record.base_model.clone(),
            weights: Weights::Snapshot(self.record.lora.clone()),
        };
        let files = pack(&self.record.base_model, &self.adapter, None).map_err(unwritable)?;
        self.state.store.save(&["samplers", &sampler], files, SAMPLER, &record).map_err(unwritable)?;
        let session = Sampler::new(record, self.model.clone(), Loaded::now(self.adapter.clone()));
        self.state.lock().samplers.insert(sampler.clone(), session);
        Ok(Outcome::Done(typed("save_weights_for_sampler", json!({ "path": null, "sampling_session_id": sampler }))))
    }

    /// Goes on from a checkpoint. Gradients that were accumulated for the old weights are dropped, and so is the
    /// optimizer's state unless the checkpoint's is wanted.
    fn load(&mut self, path: &str, optimizer: bool) -> Result<Outcome, Failure> {
        let readable =
            self.state.lock().checkpoint(path, &self.record.owner, true).map(|record| record.base_model.clone());
        let base_model = readable.map_err(|refusal| Failure::user(refusal.words()))?;
        let (adapter, saved) = load_checkpoint(&self.state, path)?;
        let Some(saved) = saved else {
            return Err(Failure::user(format!("{path} is a checkpoint for sampling, not for training")));
        };
        let shape = |adapter: &Adapter| -> Vec<_> {
            adapter.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dim())).collect()
        };
        if base_model != self.record.base_model || shape(&adapter) != shape(&self.adapter) {
            return Err(Failure::user(format!("{path} has another base model, rank or set of layers than this model")));
        }
        self.adapter = Arc::new(adapter);
        self.gradient = Tensors::new();
        self.optimizer = if optimizer { saved } else { Adam::default() };
        Ok(Outcome::Done(typed("load_weights", json!({ "path": path }))))
    }
}

/// One request to a sampling session.
#[derive(Debug)]
pub(super) struct SampleJob {
    pub(super) promise: PromiseId,
    pub(super) sampler: String,
    pub(super) record: SamplerRecord,
    pub(super) model: Arc<dyn Model>,
    pub(super) weights: Arc<Loaded>,
    pub(super) task: SampleTask,
}

/// Samples until the queue is dropped or the server stops. Runs on each sampling thread.
pub(super) fn sample_all(state: &State, jobs: &Receiver<SampleJob>) {
    for job in jobs {
        if state.is_stopping() {
            break;
        }
        state.promises.keep(job.promise, guarded(|| sample(state, &job)));
    }
}

fn sample(state: &State, job: &SampleJob) -> Result<Typed<SampleResponse>, Failure> {
    let adapter = job.weights.adapter(state, &job.sampler, &job.record)?;
    let adapter = adapter.as_deref();
    let SampleTask { prompt, count, options, prompt_logprobs, topk_prompt_logprobs: top_k } = &job.task;
    let about = (*prompt_logprobs || *top_k > 0).then(|| job.model.prompt_logprobs(adapter, prompt, *top_k));
    Ok(samples(&job.task, about, job.model.sample(adapter, prompt, *count, options)))
}

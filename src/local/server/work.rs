//! Where models compute: one thread for each training run, which carries out its tasks in the order of arrival, and a
//! few threads that sample, so that no sample waits for a training step.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use serde::Serialize;

use super::input::SampleTask;
use super::promises::{Failure, PromiseId};
use super::state::{Checkpoint, Sampler, State};
use crate::local::adam::{Adam, AdamStep};
use crate::local::model::{self, Adapter, AdapterOptions, Example, Model, Tensors};
use crate::types::{
    CreateModelResponse, ForwardBackwardOutput, LoadWeightsResponse, LossFnOutput, OptimStepResponse, SampleResponse,
    SampledSequence, SaveWeightsForSamplerResponse, SaveWeightsResponse, StopReason, TensorData, UnloadModelResponse,
};

/// What a run's worker can be asked for.
#[derive(Debug)]
pub(super) enum Task {
    /// The first task of every run.
    Create,
    Forward(Vec<Example>),
    ForwardBackward(Vec<Example>),
    OptimStep(AdamStep),
    /// Under this tinker path.
    Save(String),
    SaveForSampler(String),
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
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Created(CreateModelResponse),
    Computed(ForwardBackwardOutput),
    Stepped(OptimStepResponse),
    Saved(SaveWeightsResponse),
    SavedForSampler(SaveWeightsForSamplerResponse),
    Loaded(LoadWeightsResponse),
    Unloaded(UnloadModelResponse),
}

/// A training run as its worker has it.
#[derive(Debug)]
struct Trainee {
    id: String,
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
    model: &Arc<dyn Model>,
    options: AdapterOptions,
) -> io::Result<TaskQueue> {
    let (queue, tasks) = unbounded::<(PromiseId, Task)>();
    let (state, id, model) = (state.clone(), id.to_owned(), model.clone());
    thread::Builder::new().name("tinkex-train".to_owned()).spawn(move || {
        let mut trainee = None;
        for (promise, task) in tasks {
            if state.is_stopping() {
                break;
            }
            let result = guarded(|| {
                let trainee = trainee.get_or_insert_with(|| Trainee {
                    id: id.clone(),
                    state: state.clone(),
                    model: model.clone(),
                    adapter: Arc::new(model.new_adapter(&options)),
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

impl Trainee {
    fn carry_out(&mut self, task: Task) -> Result<Outcome, Failure> {
        match task {
            Task::Create => Ok(Outcome::Created(CreateModelResponse { model_id: self.id.clone() })),
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
            Task::Save(path) => {
                self.save(&path, Some(self.optimizer.clone()));
                Ok(Outcome::Saved(SaveWeightsResponse { path }))
            }
            Task::SaveForSampler(path) => {
                self.save(&path, None);
                let path = Some(path);
                Ok(Outcome::SavedForSampler(SaveWeightsForSamplerResponse { path, sampling_session_id: None }))
            }
            Task::Snapshot(sampler) => {
                let snapshot = Sampler::new(self.model.clone(), Some(self.adapter.clone()));
                self.state.lock().samplers.insert(sampler.clone(), snapshot);
                let sampling_session_id = Some(sampler);
                Ok(Outcome::SavedForSampler(SaveWeightsForSamplerResponse { path: None, sampling_session_id }))
            }
            Task::Load { path, optimizer } => self.load(path, optimizer),
            Task::Unload => Ok(Outcome::Unloaded(UnloadModelResponse { model_id: self.id.clone() })),
        }
    }

    fn save(&self, path: &str, optimizer: Option<Adam>) {
        let checkpoint = Checkpoint { model: self.model.clone(), adapter: self.adapter.clone(), optimizer };
        self.state.lock().checkpoints.insert(path.to_owned(), checkpoint);
    }

    /// Goes on from a checkpoint. Gradients that were accumulated for the old weights are dropped, and so is the
    /// optimizer's state unless the checkpoint's is wanted.
    fn load(&mut self, path: String, optimizer: bool) -> Result<Outcome, Failure> {
        let found = self.state.lock().checkpoints.get(&path).cloned();
        let Some(checkpoint) = found else {
            return Err(Failure::user(format!("there is no checkpoint {path}")));
        };
        let Some(saved) = checkpoint.optimizer else {
            return Err(Failure::user(format!("{path} is a checkpoint for sampling, not for training")));
        };
        let shape = |adapter: &Adapter| -> Vec<_> {
            adapter.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dim())).collect()
        };
        if checkpoint.model.name() != self.model.name() || shape(&checkpoint.adapter) != shape(&self.adapter) {
            return Err(Failure::user(format!("{path} has another base model, rank or set of layers than this model")));
        }
        self.adapter = checkpoint.adapter;
        self.gradient = Tensors::new();
        self.optimizer = if optimizer { saved } else { Adam::default() };
        Ok(Outcome::Loaded(LoadWeightsResponse { path: Some(path) }))
    }
}

/// The losses of a batch, with the sums over it. A loss is in nats.
fn losses(batch: &[Example], logprobs: Vec<Vec<f32>>) -> ForwardBackwardOutput {
    let loss: f64 = batch.iter().zip(&logprobs).map(|(example, logprobs)| example.loss.value(logprobs)).sum();
    let tokens: usize = logprobs.iter().map(Vec::len).sum();
    let outputs = batch.iter().zip(logprobs).map(|(example, logprobs)| {
        let elementwise = TensorData::from(example.loss.elementwise(&logprobs));
        let logprobs = TensorData::from(logprobs);
        LossFnOutput([("logprobs".to_owned(), logprobs), ("elementwise_loss".to_owned(), elementwise)].into())
    });
    ForwardBackwardOutput {
        loss_fn_output_type: "ArrayRecord".to_owned(),
        loss_fn_outputs: outputs.collect(),
        metrics: [("loss:sum".to_owned(), loss), ("tokens:sum".to_owned(), tokens as f64)].into(),
    }
}

/// One request to a sampling session.
#[derive(Debug)]
pub(super) struct SampleJob {
    pub(super) promise: PromiseId,
    pub(super) model: Arc<dyn Model>,
    pub(super) adapter: Option<Arc<Adapter>>,
    pub(super) task: SampleTask,
}

/// Samples until the queue is dropped or the server stops. Runs on each sampling thread.
pub(super) fn sample_all(state: &State, jobs: &Receiver<SampleJob>) {
    for job in jobs {
        if state.is_stopping() {
            break;
        }
        state.promises.keep(job.promise, guarded(|| Ok(sample(&job))));
    }
}

fn sample(job: &SampleJob) -> SampleResponse {
    let SampleTask { prompt, count, options, prompt_logprobs, topk_prompt_logprobs } = &job.task;
    let adapter = job.adapter.as_deref();
    let top_k = *topk_prompt_logprobs;
    let about_prompt = (*prompt_logprobs || top_k > 0).then(|| job.model.prompt_logprobs(adapter, prompt, top_k));
    let sequence = |sample: model::Sample| SampledSequence {
        stop_reason: match sample.stop_reason {
            model::StopReason::Stop => StopReason::Stop,
            model::StopReason::Length => StopReason::Length,
        },
        tokens: sample.tokens,
        logprobs: Some(sample.logprobs),
    };
    let sequences = job.model.sample(adapter, prompt, *count, options).into_iter().map(sequence).collect();
    let (logprobs, topk) = about_prompt.map(|about| (about.logprobs, about.top_k)).unzip();
    SampleResponse {
        sequences,
        prompt_logprobs: logprobs.filter(|_| *prompt_logprobs),
        topk_prompt_logprobs: topk.filter(|_| top_k > 0),
    }
}

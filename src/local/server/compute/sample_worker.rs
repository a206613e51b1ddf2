//! Sampling workers.

use std::io;
use std::sync::Arc;
use std::thread;

use log::debug;

use super::catch_panic::catch_panic;
use super::sample_output::sample_response;
use super::usage::{Sampled, count_samples};
use super::weights::sampling_adapter;
use crate::local::model::SamplingContext;
use crate::local::server::state::{SampleTask, SamplingSessionRecord, ServerState, TaskError, TaskOutput, Weights};

/// Starts a worker, which executes sample tasks until the server stops. It starts another one when it is busy, so that there is always
/// one for the next sample, up to a limit.
pub(crate) fn spawn_sample_worker(state: &Arc<ServerState>) -> io::Result<()> {
    if !state.samples.needs_worker() {
        return Ok(());
    }
    let shared = state.clone();
    let spawned = thread::Builder::new().name("tinkex-sample".to_owned()).spawn(move || run_sample_worker(&shared));
    spawned.map(drop).inspect_err(|_| state.samples.worker_failed())
}

fn run_sample_worker(state: &Arc<ServerState>) {
    while let Some(task) = state.samples.pop() {
        if let Err(error) = spawn_sample_worker(state) {
            // The workers that there are do the work.
            debug!("no further worker for samples: {error}");
        }
        state.timeline.started(task.promise);
        let result = catch_panic(|| sample(state, &task));
        state.timeline.finished(task.promise, result.is_err());
        state.promises.fulfill(task.promise, result);
        state.samples.done(&*task.model);
    }
}

fn sample(state: &ServerState, task: &SampleTask) -> Result<TaskOutput, TaskError> {
    let SampleTask { model, params, cancellation, .. } = task;
    if cancellation.is_cancelled() {
        return Err(cancelled());
    }
    let adapter = sampling_adapter(state, &task.adapter, &task.sampler_id, &task.record)?;
    // All sampling sessions share what a model keeps of the prompts of its base.
    let context = match (adapter, &task.record.weights) {
        (None, _) => SamplingContext::base(),
        (Some(adapter), Weights::Inflight { .. }) => {
            let shared = task.adapter.clone();
            let latest = move || shared.get().unwrap_or_else(|| adapter.clone());
            SamplingContext::latest(latest).namespace(&task.namespace)
        }
        (Some(adapter), _) => SamplingContext::new(adapter).namespace(&task.namespace),
    };
    let context = context.cancellation(cancellation);
    let about_prompt = params.about_prompt.as_ref();
    let about_prompt = about_prompt.map(|options| model.prompt_logprobs(&context, &params.prompt, options));
    let samples = model.sample(&context, &params.prompt, params.num_samples, &params.options);
    if cancellation.is_cancelled() {
        return Err(cancelled());
    }
    // If the model ran the prompt for what is asked about it, it had kept less at that time than when it sampled.
    let cached_tokens = about_prompt.as_ref().map_or(samples.cached_tokens, |about| about.cached_tokens);
    let SamplingSessionRecord { owner, session_id, base_model, .. } = &task.record;
    let sampled = Sampled { owner, session_id: Some(session_id), base_model };
    count_samples(state, &sampled, params.prompt.len(), &samples, cached_tokens);
    let response = sample_response(params, about_prompt, samples.sequences, cached_tokens);
    response.map_err(|what| TaskError::user(format!("the model {} cannot report {what}", model.name())))
}

fn cancelled() -> TaskError {
    TaskError::user("the sample was cancelled")
}

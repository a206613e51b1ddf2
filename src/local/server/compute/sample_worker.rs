//! Sampling workers.

use crossbeam_channel::Receiver;

use super::catch_panic::catch_panic;
use super::outputs::sample_response;
use super::weights::sampling_adapter;
use crate::local::model::{PromptOptions, SamplingContext};
use crate::local::server::state::{SampleTask, ServerState, TaskError, TaskOutput};

/// Executes sample tasks until the queue is dropped or the server stops.
pub(crate) fn run_sample_worker(state: &ServerState, tasks: &Receiver<SampleTask>) {
    for task in tasks {
        if state.is_stopping() {
            break;
        }
        state.promises.fulfill(task.promise, catch_panic(|| sample(state, &task)));
    }
}

fn sample(state: &ServerState, task: &SampleTask) -> Result<TaskOutput, TaskError> {
    let SampleTask { model, params, cancellation, .. } = task;
    if cancellation.is_cancelled() {
        return Err(cancelled());
    }
    let adapter = sampling_adapter(state, &task.adapter, &task.sampler_id, &task.record)?;
    let context = adapter.map_or_else(SamplingContext::base, SamplingContext::new).cancellation(cancellation);
    let prompt_options = PromptOptions::new().top_k(params.topk_prompt_logprobs);
    let needs_logprobs = params.prompt_logprobs || params.topk_prompt_logprobs > 0;
    let logprobs = needs_logprobs.then(|| model.prompt_logprobs(&context, &params.prompt, &prompt_options));
    let samples = model.sample(&context, &params.prompt, params.num_samples, &params.options);
    if cancellation.is_cancelled() {
        return Err(cancelled());
    }
    Ok(sample_response(params, logprobs, samples))
}

fn cancelled() -> TaskError {
    TaskError::user("the sample was cancelled")
}

//! Sampling workers.

use super::catch_panic::catch_panic;
use super::outputs::sample_response;
use super::weights::sampling_adapter;
use crate::local::model::{PromptOptions, Sample, SamplingContext};
use crate::local::server::state::{
    SampleTask, SamplingSessionRecord, ServerState, TaskError, TaskOutput, UsageKey, UsageKind,
};

/// Executes sample tasks until the server stops.
pub(crate) fn run_sample_worker(state: &ServerState) {
    while let Some(task) = state.samples.pop() {
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
    count_usage(state, task, &samples);
    Ok(sample_response(params, logprobs, samples))
}

fn count_usage(state: &ServerState, task: &SampleTask, samples: &[Sample]) {
    let SamplingSessionRecord { owner, session_id, base_model, .. } = &task.record;
    let sampled = samples.iter().map(|sample| sample.tokens.len()).sum();
    for (kind, tokens) in [(UsageKind::Prefill, task.params.prompt.len()), (UsageKind::Sample, sampled)] {
        let (owner, session_id, base_model) = (owner.clone(), Some(session_id.clone()), base_model.clone());
        state.usage.count(UsageKey { owner, session_id, base_model, kind }, tokens as u64);
    }
}

fn cancelled() -> TaskError {
    TaskError::user("the sample was cancelled")
}

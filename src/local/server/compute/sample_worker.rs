//! Sampling workers.

use crossbeam_channel::Receiver;

use super::catch_panic::catch_panic;
use super::outputs::{Tagged, sample_response};
use super::weights::sampling_adapter;
use crate::local::server::state::{SampleTask, SamplingSessionRecord, ServerState, TaskError, UsageKey, UsageKind};
use crate::types::SampleResponse;

/// Executes sample tasks until the queue is dropped or the server stops.
pub(crate) fn run_sample_worker(state: &ServerState, tasks: &Receiver<SampleTask>) {
    for task in tasks {
        if state.is_stopping() {
            break;
        }
        state.promises.fulfill(task.promise, catch_panic(|| sample(state, &task)));
    }
}

fn sample(state: &ServerState, task: &SampleTask) -> Result<Tagged<SampleResponse>, TaskError> {
    let SampleTask { model, params, .. } = task;
    let adapter = sampling_adapter(state, &task.adapter, &task.sampler_id, &task.record)?;
    let adapter = adapter.as_deref();
    let needs_logprobs = params.prompt_logprobs || params.topk_prompt_logprobs > 0;
    let logprobs = needs_logprobs.then(|| model.prompt_logprobs(adapter, &params.prompt, params.topk_prompt_logprobs));
    let samples = model.sample(adapter, &params.prompt, params.num_samples, &params.options);
    let sampled: usize = samples.iter().map(|sample| sample.tokens.len()).sum();
    for (kind, tokens) in [(UsageKind::Prefill, params.prompt.len()), (UsageKind::Sample, sampled)] {
        count(state, task, kind, tokens);
    }
    Ok(sample_response(params, logprobs, samples))
}

fn count(state: &ServerState, task: &SampleTask, kind: UsageKind, tokens: usize) {
    let SamplingSessionRecord { owner, session_id, base_model, .. } = &task.record;
    let (owner, session_id, base_model) = (owner.clone(), Some(session_id.clone()), base_model.clone());
    state.usage.count(UsageKey { owner, session_id, base_model, kind }, tokens as u64);
}

//! From a model's samples to the types of the protocol.

use super::target_logprobs::in_layout_of;
use crate::local::model::{FinishReason, PromptLogprobs, PromptOptions, Sample};
use crate::local::server::state::{SampleParams, TaskOutput, tagged};
use crate::types::{PromptAltTokens, SampleResponse, SampledSequence, StopReason, TensorData, TokenLogprob};

/// The samples, with what was requested about them and about the prompt. Fails with the name of what the model left out.
pub(super) fn sample_response(
    params: &SampleParams,
    about_prompt: Option<PromptLogprobs>,
    samples: Vec<Sample>,
    cached_tokens: usize,
) -> Result<TaskOutput, &'static str> {
    let is_topk_requested = params.options.topk_logprobs > 0;
    if is_topk_requested && samples.iter().any(|sample| sample.topk_logprobs.len() != sample.tokens.len()) {
        return Err("topk_sample_logprobs");
    }
    let sequence = |sample: Sample| SampledSequence {
        stop_reason: match sample.finish_reason {
            FinishReason::Stop => StopReason::Stop,
            FinishReason::Length => StopReason::Length,
        },
        tokens: sample.tokens,
        logprobs: Some(sample.logprobs),
        topk_logprobs: is_topk_requested.then_some(sample.topk_logprobs),
        sequence_id: None,
    };
    let mut response = SampleResponse {
        sequences: samples.into_iter().map(sequence).collect(),
        prompt_cache_hit_tokens: cached_tokens as u32,
        ..SampleResponse::default()
    };
    if let (Some(options), Some(about)) = (&params.about_prompt, about_prompt) {
        add_prompt(&mut response, params, options, about)?;
    }
    Ok(TaskOutput::Samples(tagged("sample", response)))
}

fn add_prompt(
    response: &mut SampleResponse,
    params: &SampleParams,
    options: &PromptOptions,
    about: PromptLogprobs,
) -> Result<(), &'static str> {
    let length = params.prompt.len();
    // A model may report more than it was asked for.
    let is_scored = |position: usize| options.scores(position, length);
    if params.prompt_logprobs {
        let logprobs = about.logprobs.into_iter().enumerate();
        let scored = logprobs.map(|(position, logprob)| logprob.filter(|_| is_scored(position)));
        response.prompt_logprobs = Some(scored.collect());
    }
    if options.top_k > 0 {
        let rows = about.top_k.into_iter().enumerate();
        response.topk_prompt_logprobs = Some(rows.map(|(position, row)| row.filter(|_| is_scored(position))).collect());
    }
    if let Some(targets) = &params.targets {
        let is_whole = |(wanted, given): (&Vec<u32>, &Vec<f32>)| wanted.len() == given.len();
        if about.targets.len() != length || !options.targets.iter().zip(&about.targets).all(is_whole) {
            return Err("target_prompt_logprobs");
        }
        let tensor = in_layout_of(targets, &about.targets).map_err(|_| "target_prompt_logprobs")?;
        response.target_prompt_logprobs = Some(tensor);
    }
    if options.alternatives > 0 {
        response.prompt_alt_tokens =
            Some(alternatives(options, length, &about.alternatives).ok_or("prompt_alt_tokens_k")?);
    }
    Ok(())
}

/// The draws in place of each token of a prompt of this length but the first; `None` if some are missing.
fn alternatives(options: &PromptOptions, length: usize, draws: &[Vec<TokenLogprob>]) -> Option<PromptAltTokens> {
    let draws = draws.get(1..).unwrap_or_default();
    let (rows, columns) = (length.saturating_sub(1), options.alternatives);
    if draws.len() != rows || draws.iter().any(|row| row.len() != columns) {
        return None;
    }
    let tokens = draws.iter().flatten().map(|draw| i64::from(draw.token)).collect::<Vec<_>>();
    let logprobs = draws.iter().flatten().map(|draw| draw.logprob).collect::<Vec<_>>();
    let shape = [rows, columns];
    Some(PromptAltTokens {
        tokens: TensorData::from(tokens).with_shape(shape).ok()?,
        logprobs: TensorData::from(logprobs).with_shape(shape).ok()?,
    })
}

//! The parameters of samples.

use std::iter::once;

use super::{check_token, tokens};
use crate::local::model::{GenerationOptions, Model, PromptOptions};
use crate::local::server::api::body::bad_request;
use crate::local::server::compute::target_rows;
use crate::local::server::http1::Response;
use crate::local::server::state::SampleParams;
use crate::rules::tokenizer_id::BYTES;
use crate::types::wire::SampleRequest;
use crate::types::{Dtype, Stop, TensorData};

/// More samples in one request would occupy a processor for many minutes and fill the memory with tokens.
const MAX_SAMPLES: u32 = 1024;

/// Of each kind in a response: 32 MiB in memory.
const MAX_LOGPROBS: usize = 4 << 20;

/// What a sample request asks for.
pub(in crate::local::server::api) fn sample_params(
    model: &dyn Model,
    request: &SampleRequest<'_>,
) -> Result<SampleParams, Response> {
    let params = &request.sampling_params;
    params.validate().map_err(|error| bad_request(error.to_string()))?;
    if request.num_samples == 0 {
        return Err(bad_request("num_samples must be at least 1"));
    }
    if request.num_samples > MAX_SAMPLES {
        return Err(bad_request(format!("num_samples is {}, more than {MAX_SAMPLES}", request.num_samples)));
    }
    let prompt = tokens(model, &request.prompt).map_err(|error| bad_request(format!("prompt: {error}")))?;
    let max_tokens = params.max_tokens.map(|tokens| tokens as usize);
    let (length, new_tokens, context) = (prompt.len(), max_tokens.unwrap_or(1), model.context_length());
    if length.saturating_add(new_tokens) > context {
        let sum = format!("a prompt of {length} tokens and {new_tokens} more");
        return Err(bad_request(format!("{sum} exceed the context of {context}")));
    }
    let topk_logprobs = top(model, request.topk_sample_logprobs);
    let new_tokens = max_tokens.unwrap_or(context - length);
    check_size("topk_sample_logprobs", new_tokens.saturating_mul(request.num_samples as usize), topk_logprobs)?;
    let (stop_sequences, stop_strings) = stops(model, params.stop.as_ref())?;
    Ok(SampleParams {
        prompt,
        num_samples: request.num_samples as usize,
        options: GenerationOptions {
            max_tokens,
            temperature: params.temperature as f32,
            top_k: usize::try_from(params.top_k).ok(),
            top_p: params.top_p as f32,
            seed: params.seed,
            stop_sequences,
            stop_strings,
            stop_at_end_of_text: !is_empty(params.stop.as_ref()),
            topk_logprobs,
        },
        about_prompt: about_prompt(model, request, length)?,
        prompt_logprobs: request.prompt_logprobs.unwrap_or_default(),
        targets: request.target_prompt_logprobs.as_deref().cloned(),
    })
}

/// Refuses a request whose result would fill the memory: `each` numbers at each of `positions`.
fn check_size(field: &str, positions: usize, each: usize) -> Result<(), Response> {
    let numbers = positions.saturating_mul(each);
    if numbers > MAX_LOGPROBS {
        let sum = format!("{each} at each of {positions} positions are {numbers} log-probabilities");
        return Err(bad_request(format!("{field}: {sum}, more than {MAX_LOGPROBS}: ask for fewer")));
    }
    Ok(())
}

/// What a request wants to know about its prompt of this length. `None` if that is nothing.
fn about_prompt(
    model: &dyn Model,
    request: &SampleRequest<'_>,
    length: usize,
) -> Result<Option<PromptOptions>, Response> {
    let is_scored = request.prompt_logprobs.unwrap_or_default() || request.topk_prompt_logprobs > 0;
    let last_n = match request.prompt_logprobs_last_n {
        Some(_) if !request.prompt_logprobs.unwrap_or_default() => {
            return Err(bad_request("prompt_logprobs_last_n is set, but prompt_logprobs is not: set both, or neither"));
        }
        Some(n) if n == 0 || n as usize >= length => {
            let why = match length {
                0 | 1 => format!("a prompt of length {length} has no logprobs: leave it out"),
                _ => format!("must be 1 to {}, as the first token has none", length - 1),
            };
            return Err(bad_request(format!("prompt_logprobs_last_n is {n}, but {why}")));
        }
        Some(n) => Some(n as usize),
        None if is_scored => None,
        None => Some(0),
    };
    check_size("topk_prompt_logprobs", length, top(model, request.topk_prompt_logprobs))?;
    check_size("prompt_alt_tokens_k", length, request.prompt_alt_tokens_k as usize)?;
    check_size("target_prompt_logprobs", 1, request.target_prompt_logprobs.as_deref().map_or(0, TensorData::len))?;
    let targets = request.target_prompt_logprobs.as_deref();
    let targets = targets.map(|targets| targets_of(model, targets, length)).transpose()?;
    if !is_scored && targets.is_none() && request.prompt_alt_tokens_k == 0 {
        return Ok(None);
    }
    let mut options = PromptOptions::new()
        .top_k(top(model, request.topk_prompt_logprobs))
        .targets(targets.unwrap_or_default())
        .alternatives(request.prompt_alt_tokens_k as usize)
        .temperature(request.sampling_params.temperature as f32);
    (options.last_n, options.seed) = (last_n, request.sampling_params.seed);
    Ok(Some(options))
}

/// The tokens whose log-probabilities are asked for, in place of each token of a prompt of this length.
fn targets_of(model: &dyn Model, targets: &TensorData, length: usize) -> Result<Vec<Vec<u32>>, Response> {
    let refuse = |what: String| bad_request(format!("target_prompt_logprobs {what}"));
    if targets.dtype() != Dtype::Int64 {
        return Err(refuse(format!("must have the dtype int64, but has {}", targets.dtype())));
    }
    let rows = length.saturating_sub(1);
    let shape = targets.shape().unwrap_or_default();
    if shape.len() != 2 || shape[0] != rows {
        return Err(refuse(format!("must have the shape [{rows}, K] for {length} tokens, but has {shape:?}")));
    }
    let check = |&token: &i64| check_token(model, token);
    let row = |row: Vec<i64>| row.iter().filter(|&&token| token != -1).map(check).collect::<Result<Vec<_>, _>>();
    let checked: Result<Vec<_>, _> = target_rows(targets).into_iter().map(row).collect();
    let checked = checked.map_err(|error| refuse(format!("has a wrong token: {error}; use -1 for none")))?;
    if checked.iter().all(Vec::is_empty) {
        return Err(refuse("has no token at all: leave it out, or name at least one".to_owned()));
    }
    // Nothing comes before the first token.
    Ok(once(Vec::new()).chain(checked).collect())
}

/// A number of most probable tokens: at most all.
fn top(model: &dyn Model, k: u32) -> usize {
    (k as usize).min(model.vocab_size())
}

/// Whether a client wants nothing at all to end a sample before its maximum length.
fn is_empty(stop: Option<&Stop>) -> bool {
    match stop {
        None => false,
        Some(Stop::Texts(texts)) => texts.is_empty(),
        Some(Stop::Tokens(tokens)) => tokens.is_empty(),
    }
}

/// What ends a sample: sequences of tokens, and texts. A text is a sequence of tokens itself, its bytes, if the tokens are bytes.
fn stops(model: &dyn Model, stop: Option<&Stop>) -> Result<(Vec<Vec<u32>>, Vec<String>), Response> {
    let has_bytes = model.text_package().is_none_or(|text| text.tokenizer().id() == BYTES);
    match stop {
        None => Ok(Default::default()),
        Some(Stop::Texts(texts)) if texts.iter().any(String::is_empty) => Err(bad_request("a stop string is empty")),
        Some(Stop::Texts(texts)) if has_bytes => {
            let sequences = texts.iter().map(|text| text.bytes().map(u32::from).collect());
            Ok((sequences.collect(), Vec::new()))
        }
        Some(Stop::Texts(texts)) => Ok((Vec::new(), texts.clone())),
        Some(Stop::Tokens(tokens)) => {
            let token = |&token: &u32| check_token(model, token.into()).map(|token| vec![token]);
            let sequences = tokens.iter().map(token).collect::<Result<_, _>>().map_err(bad_request)?;
            Ok((sequences, Vec::new()))
        }
    }
}

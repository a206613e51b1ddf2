//! The parameters of samples.

use super::{check_token, tokens};
use crate::local::model::{GenerationOptions, Model};
use crate::local::server::api::body::bad_request;
use crate::local::server::http1::Response;
use crate::local::server::state::SampleParams;
use crate::types::Stop;
use crate::types::wire::SampleRequest;

/// More samples in one request would occupy a processor for many minutes and fill the memory with tokens.
const MAX_SAMPLES: u32 = 1024;

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
    let unsupported = [
        ("topk_sample_logprobs", request.topk_sample_logprobs > 0),
        ("target_prompt_logprobs", request.target_prompt_logprobs.is_some()),
        ("prompt_alt_tokens_k", request.prompt_alt_tokens_k > 0),
    ];
    if let Some((name, _)) = unsupported.into_iter().find(|(_, is_set)| *is_set) {
        return Err(bad_request(format!("this server does not support {name}")));
    }
    let prompt = tokens(model, &request.prompt).map_err(|error| bad_request(format!("prompt: {error}")))?;
    let max_tokens = params.max_tokens.map(|tokens| tokens as usize);
    let (length, new_tokens, context) = (prompt.len(), max_tokens.unwrap_or(1), model.context_length());
    if length.saturating_add(new_tokens) > context {
        let sum = format!("a prompt of {length} tokens and {new_tokens} more");
        return Err(bad_request(format!("{sum} exceed the context of {context}")));
    }
    Ok(SampleParams {
        prompt,
        num_samples: request.num_samples as usize,
        options: GenerationOptions {
            max_tokens,
            temperature: params.temperature as f32,
            top_k: usize::try_from(params.top_k).ok(),
            top_p: params.top_p as f32,
            seed: params.seed,
            stop_sequences: stop_sequences(model, params.stop.as_ref())?,
        },
        prompt_logprobs: request.prompt_logprobs.unwrap_or_default(),
        topk_prompt_logprobs: request.topk_prompt_logprobs as usize,
    })
}

fn stop_sequences(model: &dyn Model, stop: Option<&Stop>) -> Result<Vec<Vec<u32>>, Response> {
    // A text is tokenized into its bytes: every model here is byte-level.
    let text = |text: &String| match text.is_empty() {
        true => Err(bad_request("a stop string is empty")),
        false => Ok(text.bytes().map(u32::from).collect()),
    };
    match stop {
        None => Ok(Vec::new()),
        Some(Stop::Texts(texts)) => texts.iter().map(text).collect(),
        Some(Stop::Tokens(tokens)) => {
            let token = |&token: &u32| check_token(model, token.into()).map(|token| vec![token]);
            tokens.iter().map(token).collect::<Result<_, _>>().map_err(bad_request)
        }
    }
}

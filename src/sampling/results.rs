//! What the result of a sample must look like, given what was asked for.

use super::sample_options::{SampleSettings, target_shape};
use crate::error::Result;
use crate::types::{Dtype, ModelInput, ModelInputChunk, SampleResponse, TensorData};

/// What was asked for, as far as the result has to fit it.
pub(super) struct Expected {
    /// The length of the prompt; none if it has an image whose length only the service knows.
    length: Option<usize>,
    /// Whether the prompt has only tokens: a service may have no log-probability for an image.
    is_text: bool,
    prompt_logprobs: bool,
    last_n: Option<usize>,
    topk_prompt_logprobs: bool,
    target_shape: Option<[usize; 2]>,
    alt_tokens: usize,
}

impl Expected {
    /// `None` if any result fits, as for most samples; each pending one keeps this.
    pub(super) fn of(prompt: &ModelInput, settings: &SampleSettings) -> Result<Option<Box<Self>>> {
        let length = prompt.known_len();
        let targets = settings.target_prompt_logprobs.as_ref();
        let expected = Expected {
            length,
            is_text: prompt.chunks.iter().all(|chunk| matches!(chunk, ModelInputChunk::EncodedText(_))),
            prompt_logprobs: settings.prompt_logprobs,
            last_n: settings.prompt_logprobs_last_n.map(|n| n as usize),
            topk_prompt_logprobs: settings.topk_prompt_logprobs > 0,
            target_shape: targets.map(|targets| target_shape(targets, length)).transpose()?,
            alt_tokens: settings.prompt_alt_tokens_k as usize,
        };
        let is_checked = expected.prompt_logprobs
            || expected.topk_prompt_logprobs
            || expected.target_shape.is_some()
            || expected.alt_tokens > 0;
        Ok(is_checked.then(|| Box::new(expected)))
    }

    /// Checks a result. The results of options that not every service knows may be absent; what is there must have the right shape.
    pub(super) fn check(&self, response: &mut SampleResponse) -> Result<(), String> {
        if self.prompt_logprobs {
            // A prompt of one token has none, which a service may write as none at all.
            if response.prompt_logprobs.is_none() && self.length.is_some_and(|length| length < 2) {
                response.prompt_logprobs = Some(Vec::new());
            }
            let logprobs = response.prompt_logprobs.as_mut().ok_or("the response has no prompt_logprobs")?;
            let computed = one_per_token("prompt_logprobs", logprobs, self.length, self.last_n)?;
            if self.is_text {
                name_missing(&mut logprobs[computed..]);
            }
        }
        if let Some(rows) = response.topk_prompt_logprobs.as_mut().filter(|_| self.topk_prompt_logprobs) {
            one_per_token("topk_prompt_logprobs", rows, self.length, self.last_n)?;
        }
        if let (Some(shape), Some(logprobs)) = (self.target_shape, &mut response.target_prompt_logprobs) {
            shaped("target_prompt_logprobs", logprobs, Dtype::Float32, shape)?;
        }
        if let (Some(length), Some(alternatives)) =
            (self.length.filter(|_| self.alt_tokens > 0), &mut response.prompt_alt_tokens)
        {
            let shape = [length.saturating_sub(1), self.alt_tokens];
            shaped("prompt_alt_tokens", &mut alternatives.tokens, Dtype::Int64, shape)?;
            shaped("prompt_alt_tokens", &mut alternatives.logprobs, Dtype::Float32, shape)?;
        }
        Ok(())
    }
}

/// Gives the log-probabilities of a prompt an entry for each token. Some servers leave out the first token, which has none, or
/// all before the last `last_n`; others compute more than was asked for. Returns the first token that must have one.
fn one_per_token<T: Clone>(
    name: &str,
    logprobs: &mut Vec<Option<T>>,
    tokens: Option<usize>,
    last_n: Option<usize>,
) -> Result<usize, String> {
    let tokens = tokens.unwrap_or(logprobs.len());
    let received = logprobs.len();
    if received + 1 == tokens || last_n == Some(received) {
        logprobs.splice(..0, std::iter::repeat_n(None, tokens.saturating_sub(received)));
    }
    if logprobs.len() != tokens {
        return Err(format!("the response has {received} {name} for {tokens} tokens"));
    }
    let left_out = tokens.saturating_sub(last_n.unwrap_or(tokens));
    logprobs[..left_out].fill(None);
    Ok(left_out.max(1).min(tokens))
}

/// A log-probability that was computed and is not there is one that JSON and protobuf cannot write, so it is NaN.
fn name_missing(logprobs: &mut [Option<f32>]) {
    for logprob in logprobs {
        logprob.get_or_insert(f32::NAN);
    }
}

/// Checks a tensor of a result, and gives it its shape if the service sent none.
fn shaped(name: &str, tensor: &mut TensorData, dtype: Dtype, shape: [usize; 2]) -> Result<(), String> {
    if tensor.dtype() != dtype {
        return Err(format!("the response has {name} of the type {}, not {dtype}", tensor.dtype()));
    }
    let values = tensor.len();
    match tensor.shape() {
        Some(found) if found == shape => Ok(()),
        None if values == shape[0].saturating_mul(shape[1]) => {
            *tensor = tensor.clone().with_shape(shape).map_err(|error| error.to_string())?;
            Ok(())
        }
        found => {
            let found = found.unwrap_or(std::slice::from_ref(&values));
            Err(format!("the response has {name} of the shape {found:?}, not {shape:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_cover_the_prompt() {
        let (one, two) = (Some(1.0), Some(2.0));
        for (received, tokens, last_n, expected) in [
            (vec![None, one, two], Some(3), None, Some(vec![None, one, two])),
            (vec![one, two], Some(3), None, Some(vec![None, one, two])),
            (vec![one, two], Some(4), None, None),
            (vec![one, two], Some(4), Some(2), Some(vec![None, None, one, two])),
            (vec![None, one, two], Some(3), Some(1), Some(vec![None, None, two])),
            (vec![one, two], Some(3), Some(1), Some(vec![None, None, two])),
            (vec![two], Some(3), Some(1), Some(vec![None, None, two])),
            (vec![None, one, two], Some(3), Some(9), Some(vec![None, one, two])),
            (vec![one, two], None, Some(1), Some(vec![None, two])),
            (vec![one, two, one], Some(2), Some(3), None),
            (vec![], Some(1), None, Some(vec![None])),
        ] {
            let mut logprobs = received.clone();
            let outcome = one_per_token("prompt_logprobs", &mut logprobs, tokens, last_n);
            assert_eq!(outcome.ok().map(|_| logprobs), expected, "{received:?} {tokens:?} {last_n:?}");
        }
    }
}

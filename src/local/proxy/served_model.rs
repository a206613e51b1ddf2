//! A model of a service that answers.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::local::model::{FinishReason, Sample, Samples};
use crate::local::openai::{AnsweringModel, ApiError, Exchange, Generation, OnToken, TextFormat};
use crate::sampling::{SampleOptions, SamplingClient};
use crate::types::{ModelInput, SampleResponse, SampledSequence, SamplingParams, Stop, StopReason};

pub(super) struct ServedModel {
    pub(super) name: String,
    pub(super) sampler: SamplingClient,
    pub(super) format: Arc<TextFormat>,
}

impl AnsweringModel for ServedModel {
    fn format(&self) -> &Arc<TextFormat> {
        &self.format
    }

    /// The service gives whole samples: no token is reported before all are there.
    fn sample(&self, generation: Generation, exchange: &dyn Exchange, _: OnToken) -> Result<Samples, ApiError> {
        let Generation { prompt, count, params, stop_texts, top_logprobs } = generation;
        let prompt = ModelInput::from_tokens(prompt);
        let options = SampleOptions::new(&prompt)
            .num_samples(count)
            .sampling_params(with_stop(params, stop_texts))
            .topk_sample_logprobs(top_logprobs);
        let refused = |error: Error| ApiError::from(&error).or_context();
        let pending = Arc::new(self.sampler.submit_sample_with(options).map_err(refused)?);
        let unwanted = Arc::clone(&pending);
        exchange.when_unwanted(Box::new(move || unwanted.cancel()));
        match pending.wait_timeout(Duration::MAX) {
            Some(response) => Ok(samples(response.map_err(refused)?)),
            None => Err(ApiError::new(504, "the service did not sample in time")),
        }
    }
}

/// The service stops at tokens or at texts, not at both: with both, the texts only end what is given to the client.
fn with_stop(params: SamplingParams, texts: Vec<String>) -> SamplingParams {
    if params.stop.is_some() || texts.is_empty() { params } else { params.stop(Stop::Texts(texts)) }
}

fn samples(response: SampleResponse) -> Samples {
    let mut samples = Samples::new(response.sequences.into_iter().map(sample).collect());
    samples.cached_tokens = response.prompt_cache_hit_tokens as usize;
    samples
}

fn sample(sequence: SampledSequence) -> Sample {
    let reason = match sequence.stop_reason {
        StopReason::Length => FinishReason::Length,
        _ => FinishReason::Stop,
    };
    let mut sample = Sample::new(sequence.tokens, sequence.logprobs.unwrap_or_default(), reason);
    sample.topk_logprobs = sequence.topk_logprobs.unwrap_or_default();
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_of_the_format_come_first() {
        let params = SamplingParams::default;
        let texts = || vec!["\n".to_owned()];
        for (given, texts, sent) in [
            (params(), Vec::new(), None),
            (params(), texts(), Some(Stop::Texts(texts()))),
            (params().stop([5_u32]), texts(), Some(Stop::Tokens(vec![5]))),
        ] {
            assert_eq!(with_stop(given, texts).stop, sent);
        }
    }
}

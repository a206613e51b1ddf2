//! The options of a sample.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::types::wire::SampleRequest;
use crate::types::{ModelInput, SamplingParams};

/// A prompt and how to sample from it, for [`SamplingClient::sample_with`](crate::SamplingClient::sample_with).
///
/// # Examples
///
/// ```
/// use tinkex::SampleOptions;
/// use tinkex::types::{ModelInput, SamplingParams};
///
/// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
/// let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
/// let options = SampleOptions::new(&prompt)
///     .num_samples(4)
///     .sampling_params(SamplingParams::default().temperature(0.7).max_tokens(32))
///     .prompt_logprobs(true)
///     .topk_prompt_logprobs(5);
///
/// let reply = sampler.sample_with(options)?;
/// assert_eq!(reply.sequences.len(), 4);
/// assert_eq!(reply.prompt_logprobs.map(|logprobs| logprobs.len()), Some(3));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct SampleOptions<'a> {
    pub(super) prompt: &'a ModelInput,
    pub(super) settings: SampleSettings,
}

/// Everything but the prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SampleSettings {
    num_samples: u32,
    sampling_params: SamplingParams,
    pub(super) prompt_logprobs: bool,
    topk_prompt_logprobs: u32,
}

impl<'a> SampleOptions<'a> {
    /// One sample for this prompt, with the default parameters.
    pub fn new(prompt: &'a ModelInput) -> Self {
        let settings = SampleSettings {
            num_samples: 1,
            sampling_params: SamplingParams::default(),
            prompt_logprobs: false,
            topk_prompt_logprobs: 0,
        };
        SampleOptions { prompt, settings }
    }

    /// The number of samples, at least 1. Defaults to 1.
    pub fn num_samples(mut self, num_samples: u32) -> Self {
        self.settings.num_samples = num_samples;
        self
    }

    /// Temperature, limits, seed and stop sequences. Defaults to [`SamplingParams::default`].
    pub fn sampling_params(mut self, params: SamplingParams) -> Self {
        self.settings.sampling_params = params;
        self
    }

    /// Whether the response has the log-probability of each token of the prompt, in nats; `None` for the first. Defaults to
    /// `false`.
    #[doc(alias = "include_prompt_logprobs")]
    pub fn prompt_logprobs(mut self, prompt_logprobs: bool) -> Self {
        self.settings.prompt_logprobs = prompt_logprobs;
        self
    }

    /// The number of most likely tokens that the response has for each position of the prompt. Defaults to 0.
    pub fn topk_prompt_logprobs(mut self, k: u32) -> Self {
        self.settings.topk_prompt_logprobs = k;
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.settings.num_samples == 0 {
            return Err(Error::invalid_input("num_samples is 0").with_hint("request at least one sample"));
        }
        if self.prompt.is_empty() {
            return Err(Error::invalid_input("the prompt is empty").with_hint("pass at least one token"));
        }
        self.settings.sampling_params.validate()
    }
}

impl SampleSettings {
    /// The request for this prompt, with this sequence number in this sampling session.
    pub(super) fn request<'r>(
        &'r self,
        prompt: &'r ModelInput,
        sampling_session_id: &'r str,
        seq_id: u64,
    ) -> SampleRequest<'r> {
        SampleRequest {
            num_samples: self.num_samples,
            prompt: Cow::Borrowed(prompt),
            sampling_params: Cow::Borrowed(&self.sampling_params),
            sampling_session_id: Some(sampling_session_id.into()),
            seq_id: Some(seq_id),
            prompt_logprobs: Some(self.prompt_logprobs),
            topk_prompt_logprobs: self.topk_prompt_logprobs,
            base_model: None,
            model_path: None,
        }
    }
}

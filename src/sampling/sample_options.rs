//! The options of a sample.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::types::wire::SampleRequest;
use crate::types::{Dtype, ModelInput, ModelInputChunk, SamplingParams, TensorData};

/// A prompt and how to sample from it, for [`SamplingClient::sample_with`](crate::SamplingClient::sample_with) and
/// [`SamplingClient::sample_many`](crate::SamplingClient::sample_many). A prompt alone is enough.
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
    pub(super) prompt: Cow<'a, ModelInput>,
    pub(super) settings: SampleSettings,
}

/// Everything but the prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SampleSettings {
    pub(super) num_samples: u32,
    sampling_params: SamplingParams,
    pub(super) prompt_logprobs: bool,
    pub(super) topk_prompt_logprobs: u32,
    topk_sample_logprobs: u32,
    pub(super) target_prompt_logprobs: Option<Arc<TensorData>>,
    pub(super) prompt_alt_tokens_k: u32,
    pub(super) prompt_logprobs_last_n: Option<u32>,
    /// Set by the client, not by the caller.
    pub(super) record_stability_info: bool,
}

impl<'a> SampleOptions<'a> {
    /// One sample for this prompt, a [`ModelInput`] or a reference to one, with the default parameters.
    pub fn new(prompt: impl Into<Cow<'a, ModelInput>>) -> Self {
        let settings = SampleSettings {
            num_samples: 1,
            sampling_params: SamplingParams::default(),
            prompt_logprobs: false,
            topk_prompt_logprobs: 0,
            topk_sample_logprobs: 0,
            target_prompt_logprobs: None,
            prompt_alt_tokens_k: 0,
            prompt_logprobs_last_n: None,
            record_stability_info: false,
        };
        SampleOptions { prompt: prompt.into(), settings }
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

    /// The number of most likely tokens that the response has for each sampled token, in
    /// [`SampledSequence::topk_logprobs`](crate::types::SampledSequence::topk_logprobs). Defaults to 0. A service that does not
    /// know this option ignores it, and the response has none.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient, prompt: tinkex::types::ModelInput) -> tinkex::Result<()> {
    /// let reply = sampler.sample_with(tinkex::SampleOptions::new(&prompt).topk_sample_logprobs(5))?;
    /// for candidates in reply.sequences[0].topk_logprobs.iter().flatten() {
    ///     println!("{candidates:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn topk_sample_logprobs(mut self, k: u32) -> Self {
        self.settings.topk_sample_logprobs = k;
        self
    }

    /// The tokens whose log-probabilities the response has for each position of the prompt, such as those of a teacher: an int64
    /// tensor with one row for each token of the prompt but the first, and as many token ids in each row as you like; −1 for
    /// none. [`target_prompt_logprobs`](crate::types::SampleResponse::target_prompt_logprobs) of the response has the same
    /// shape. Defaults to none. A service that does not know this option ignores it, and the response has none.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use tinkex::SampleOptions;
    /// use tinkex::types::{ModelInput, SamplingParams, TensorData};
    ///
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// // Two candidates for the second token, one for the third.
    /// let targets = TensorData::new(vec![7_i64, 8, 9, -1])?.with_shape([2, 2])?;
    /// let one = SamplingParams::default().max_tokens(1);
    /// let reply = sampler.sample_with(SampleOptions::new(&prompt).sampling_params(one).target_prompt_logprobs(targets))?;
    /// if let Some(logprobs) = &reply.target_prompt_logprobs {
    ///     println!("{:?}", logprobs.as_f32());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn target_prompt_logprobs(mut self, tokens: impl Into<TensorData>) -> Self {
        self.settings.target_prompt_logprobs = Some(Arc::new(tokens.into()));
        self
    }

    /// The number of other tokens that the service draws for each position of the prompt but the first, with the temperature of
    /// the request, in [`prompt_alt_tokens`](crate::types::SampleResponse::prompt_alt_tokens). Defaults to 0. A service that
    /// does not know this option ignores it, and the response has none.
    pub fn prompt_alt_tokens_k(mut self, k: u32) -> Self {
        self.settings.prompt_alt_tokens_k = k;
        self
    }

    /// Restricts [`prompt_logprobs`](SampleOptions::prompt_logprobs), which must be on, to the last `n` tokens of the prompt.
    /// This is faster for long prompts. The response still has an entry for each token of the prompt, with `None` for the
    /// earlier ones, also if the service does not know this option and has computed all of them. Defaults to all tokens.
    pub fn prompt_logprobs_last_n(mut self, n: u32) -> Self {
        self.settings.prompt_logprobs_last_n = Some(n);
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        let SampleSettings { num_samples, prompt_logprobs, prompt_logprobs_last_n, .. } = self.settings;
        if num_samples == 0 {
            return Err(Error::invalid_input("num_samples is 0").with_hint("request at least one sample"));
        }
        // The length of an image may be unknown.
        let is_empty = |chunk: &ModelInputChunk| matches!(chunk, ModelInputChunk::EncodedText(_)) && chunk.is_empty();
        if self.prompt.chunks.iter().all(is_empty) {
            return Err(Error::invalid_input("the prompt is empty").with_hint("pass at least one token"));
        }
        match prompt_logprobs_last_n {
            Some(0) => {
                let error = Error::invalid_input("prompt_logprobs_last_n is 0");
                return Err(error.with_hint("leave it and prompt_logprobs out for no log-probabilities of the prompt"));
            }
            Some(_) if !prompt_logprobs => {
                let error = Error::invalid_input("prompt_logprobs_last_n is set, but prompt_logprobs is not");
                return Err(error.with_hint("set prompt_logprobs(true) as well"));
            }
            _ => {}
        }
        if let Some(targets) = &self.settings.target_prompt_logprobs {
            target_shape(targets, self.prompt.known_len())?;
        }
        self.settings.sampling_params.validate()
    }
}

impl<'a> From<&'a ModelInput> for SampleOptions<'a> {
    fn from(prompt: &'a ModelInput) -> Self {
        SampleOptions::new(prompt)
    }
}

impl From<ModelInput> for SampleOptions<'_> {
    fn from(prompt: ModelInput) -> Self {
        SampleOptions::new(prompt)
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
            topk_sample_logprobs: self.topk_sample_logprobs,
            target_prompt_logprobs: self.target_prompt_logprobs.as_deref().map(Cow::Borrowed),
            prompt_alt_tokens_k: self.prompt_alt_tokens_k,
            prompt_logprobs_last_n: self.prompt_logprobs_last_n,
            record_stability_info: self.record_stability_info.then_some(true),
            base_model: None,
            model_path: None,
        }
    }
}
/// The shape of the tokens whose log-probabilities are asked for, if they fit a prompt of this length.
pub(super) fn target_shape(targets: &TensorData, length: Option<usize>) -> Result<[usize; 2]> {
    let refuse = |message: String| {
        let hint = "pass an int64 tensor with a row for each token of the prompt but the first, and -1 for no token";
        Err(Error::invalid_input(format!("target_prompt_logprobs {message}")).with_hint(hint))
    };
    if targets.dtype() != Dtype::Int64 {
        return refuse(format!("has the type {}", targets.dtype()));
    }
    let Some(&[rows, columns]) = targets.shape() else {
        return refuse(format!("has the shape {:?}", targets.shape().unwrap_or_default()));
    };
    if columns == 0 {
        return refuse("has no tokens in its rows".to_owned());
    }
    match length {
        Some(length) if rows + 1 != length => {
            return refuse(format!("has {rows} rows for a prompt of {length} tokens"));
        }
        _ => {}
    }
    match targets.as_i64().unwrap_or_default().iter().find(|token| **token < -1) {
        Some(token) => refuse(format!("has the token {token}")),
        None => Ok([rows, columns]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_a_row_per_token() {
        let tensor = |values: Vec<i64>, shape: &[usize]| TensorData::new(values).unwrap().with_shape(shape).unwrap();
        assert_eq!(target_shape(&tensor(vec![1, -1, 2, 3], &[2, 2]), Some(3)).unwrap(), [2, 2]);
        assert_eq!(target_shape(&tensor(vec![1, 2], &[2, 1]), None).unwrap(), [2, 1]);
        for (targets, part) in [
            (tensor(vec![1, 2], &[2]), "shape [2]"),
            (tensor(vec![1, 2], &[1, 2]), "1 rows for a prompt of 3 tokens"),
            (tensor(vec![1, -2], &[2, 1]), "the token -2"),
            (TensorData::new(vec![1.0_f32, 2.0]).unwrap().with_shape([2, 1]).unwrap(), "type float32"),
        ] {
            let error = target_shape(&targets, Some(3)).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

//! The log-probabilities of a prompt.

use super::{SampleOptions, SamplingClient};
use crate::error::Result;
use crate::pending::{CallMode, Pending, single};
use crate::types::{ModelInput, SamplingParams};

impl SamplingClient {
    /// The log-probability of each token of a prompt given the tokens before it, in nats; `None` for the first. NaN is a value that
    /// the model computed and that is not a number, as a diverged one does. Blocks.
    ///
    /// # Errors
    ///
    /// As [`sample`](SamplingClient::sample).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use tinkex::types::ModelInput;
    ///
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// let logprobs = sampler.compute_logprobs(&prompt)?;
    /// assert_eq!(logprobs[0], None);
    /// let total: f32 = logprobs.iter().flatten().sum();
    /// println!("{total} nats");
    /// # Ok(())
    /// # }
    /// ```
    pub fn compute_logprobs(&self, prompt: &ModelInput) -> Result<Vec<Option<f32>>> {
        self.logprobs(prompt, None, self.blocking())?.wait()
    }

    /// Submits [`compute_logprobs`](SamplingClient::compute_logprobs).
    ///
    /// # Errors
    ///
    /// As [`submit_sample_with`](SamplingClient::submit_sample_with).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use tinkex::types::ModelInput;
    ///
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// let pending = sampler.submit_compute_logprobs(&prompt)?;
    /// println!("{:?}", pending.wait()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_compute_logprobs(&self, prompt: &ModelInput) -> Result<Pending<Vec<Option<f32>>>> {
        self.logprobs(prompt, None, self.submitting())
    }

    /// The log-probabilities of the last `last_n` tokens of a prompt, in nats: an entry for each token of the prompt, `None` for
    /// the earlier ones. Faster than [`compute_logprobs`](SamplingClient::compute_logprobs) for the end of a long prompt, where
    /// the service knows the option. Blocks.
    ///
    /// # Errors
    ///
    /// As [`sample`](SamplingClient::sample); also [`InvalidInput`](crate::ErrorKind::InvalidInput) if `last_n` is 0.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient, prompt: Vec<u32>, completion: Vec<u32>) -> tinkex::Result<()> {
    /// let text = tinkex::types::ModelInput::from_tokens([prompt, completion.clone()].concat());
    /// let logprobs = sampler.compute_logprobs_last_n(&text, completion.len() as u32)?;
    /// let score: f32 = logprobs.iter().flatten().sum();
    /// # Ok(())
    /// # }
    /// ```
    pub fn compute_logprobs_last_n(&self, prompt: &ModelInput, last_n: u32) -> Result<Vec<Option<f32>>> {
        self.logprobs(prompt, Some(last_n), self.blocking())?.wait()
    }

    /// Submits [`compute_logprobs_last_n`](SamplingClient::compute_logprobs_last_n).
    ///
    /// # Errors
    ///
    /// As [`submit_sample_with`](SamplingClient::submit_sample_with).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use tinkex::types::ModelInput;
    ///
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// let pending = sampler.submit_compute_logprobs_last_n(&prompt, 1)?;
    /// println!("{:?}", pending.wait()?.last());
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_compute_logprobs_last_n(
        &self,
        prompt: &ModelInput,
        last_n: u32,
    ) -> Result<Pending<Vec<Option<f32>>>> {
        self.logprobs(prompt, Some(last_n), self.submitting())
    }

    fn logprobs(&self, prompt: &ModelInput, last_n: Option<u32>, mode: CallMode) -> Result<Pending<Vec<Option<f32>>>> {
        let params = SamplingParams::default().max_tokens(1);
        let mut options = SampleOptions::new(prompt).sampling_params(params).prompt_logprobs(true);
        options.settings.prompt_logprobs_last_n = last_n;
        let (call, finish) = self.submit("compute_logprobs", options, mode)?;
        Ok(call.pending(move |responses| {
            // The sequence is of no interest, and a service may leave it out.
            let response = finish.numbers(single(responses)?)?;
            Ok(response.prompt_logprobs.unwrap_or_default())
        }))
    }
}

//! The client that samples from a model.

mod base_model;
mod handle;
mod logprobs;
mod many;
mod numbers;
mod open;
mod results;
mod retry_config;
mod sample_options;
mod sampler_options;
mod submit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use many::{SampleMany, SampleProgress};
pub use retry_config::RetryConfig;
pub use sample_options::SampleOptions;
pub use sampler_options::SamplerOptions;

use crate::error::{Error, Result};
use crate::observer::WaitKind;
use crate::pending::{CallHandle, CallMode, Pending, PollingSession, Received, SubmittedCall, single};
use crate::session::Task;
use crate::types::{ModelInput, SampleResponse, SamplingParams};
use results::Expected;
use submit::{SampleJob, Sampler};

/// Samples from one model. Cheap to clone; all clones share one sequence of samples. Other processes can sample from the same
/// model with a [handle](SamplingClient::get_sampler_handle).
///
/// Obtained from [`ServiceClient::create_sampling_client`](crate::ServiceClient::create_sampling_client) and
/// [`TrainingClient::save_weights_and_get_sampling_client`](crate::TrainingClient::save_weights_and_get_sampling_client).
/// It can be called from any number of threads. All sampling clients of the process with the same base URL and key share a
/// rate limit ([`sampling_rate`](crate::ConfigBuilder::sampling_rate)) and a maximum number of submissions in flight
/// ([`max_sampling_in_flight`](crate::ConfigBuilder::max_sampling_in_flight)), and all of them pause when the service responds with
/// 429.
///
/// # Examples
///
/// ```no_run
/// use tinkex::types::{ModelInput, SamplingParams};
/// use tinkex::{Config, SampleOptions, ServiceClient};
///
/// let service = ServiceClient::connect(Config::from_env()?)?;
/// let sampler = service.create_sampling_client("Qwen/Qwen3-8B")?;
/// let prompt = ModelInput::from_tokens(vec![1, 2, 3]);
/// let reply = sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(64))?;
/// println!("{:?}", reply.sequences[0].tokens);
/// let more = sampler.sample_with(SampleOptions::new(&prompt).num_samples(4).prompt_logprobs(true))?;
/// assert_eq!(more.sequences.len(), 4);
/// # Ok::<(), tinkex::Error>(())
/// ```
///
/// A service keeps prompts in a cache, and says how much of a prompt it found there, and which sequence is which:
///
/// ```no_run
/// # fn f(sampler: tinkex::SamplingClient, prompt: tinkex::types::ModelInput) -> tinkex::Result<()> {
/// use tinkex::types::SamplingParams;
///
/// let reply = sampler.sample(&prompt, 2, &SamplingParams::default().max_tokens(64))?;
/// println!("{} of {} tokens were cached", reply.prompt_cache_hit_tokens, prompt.len());
/// for sequence in &reply.sequences {
///     println!("{:?}: {} tokens", sequence.sequence_id, sequence.tokens.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SamplingClient {
    session: PollingSession,
    sampler: Arc<Sampler>,
    retry: Arc<RetryConfig>,
    timeout_operation: Option<Duration>,
    waiting_submits: bool,
    record_stability_info: bool,
}

impl SamplingClient {
    /// The id of the sampling session.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// println!("{}", sampler.sampling_session_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn sampling_session_id(&self) -> &str {
        &self.sampler.sampling_session_id
    }

    /// A client of the same sampling session whose blocking calls and waits time out after `timeout`; `None` is no limit.
    /// Defaults to [`Config::timeout_operation`](crate::Config::timeout_operation), or to that of the client that made it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    /// use tinkex::types::ModelInput;
    ///
    /// let hasty = sampler.with_timeout_operation(Some(Duration::from_secs(30)));
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// println!("{:?}", hasty.compute_logprobs(&prompt)?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout_operation(&self, timeout: Option<Duration>) -> Self {
        SamplingClient { timeout_operation: timeout, ..self.clone() }
    }

    /// A client of the same sampling session whose `submit_` calls wait for room when the queue of
    /// [`max_queued`](crate::ConfigBuilder::max_queued) samples is full, up to the
    /// [`timeout_operation`](crate::ConfigBuilder::timeout_operation), in place of failing with
    /// [`QueueFull`](crate::ErrorKind::QueueFull). Defaults to false.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient, prompts: Vec<tinkex::types::ModelInput>) -> tinkex::Result<()> {
    /// let sampler = sampler.with_waiting_submits(true);
    /// // Never more of them in memory than the queue has room for.
    /// let samples: tinkex::Result<Vec<_>> = prompts.iter().map(|prompt| sampler.submit_sample_with(prompt)).collect();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_waiting_submits(&self, waiting: bool) -> Self {
        SamplingClient { waiting_submits: waiting, ..self.clone() }
    }

    /// A client of the same sampling session that retries expired samples according to `retry`. Defaults to the
    /// configuration's [`max_retries`](crate::ConfigBuilder::max_retries),
    /// [`retry_base`](crate::ConfigBuilder::retry_base) and [`retry_cap`](crate::ConfigBuilder::retry_cap).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) {
    /// let patient = sampler.with_retry_config(tinkex::RetryConfig::default().max_resubmissions(100));
    /// # }
    /// ```
    #[must_use]
    pub fn with_retry_config(&self, retry: RetryConfig) -> Self {
        SamplingClient { retry: Arc::new(retry), ..self.clone() }
    }

    /// Draws `num_samples` samples for a prompt. Blocks; submits on the calling thread.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty prompt or parameters out of range, before any request; otherwise
    /// any error of a request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use tinkex::types::{ModelInput, SamplingParams};
    ///
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// let reply = sampler.sample(&prompt, 4, &SamplingParams::default().max_tokens(64).temperature(0.7))?;
    /// for sequence in &reply.sequences {
    ///     println!("{:?}: {:?}", sequence.stop_reason, sequence.tokens);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn sample(&self, prompt: &ModelInput, num_samples: u32, params: &SamplingParams) -> Result<SampleResponse> {
        self.sample_with(SampleOptions::new(prompt).num_samples(num_samples).sampling_params(params.clone()))
    }

    /// Submits [`sample`](SamplingClient::sample).
    ///
    /// # Errors
    ///
    /// As [`submit_sample_with`](SamplingClient::submit_sample_with).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient, prompts: Vec<tinkex::types::ModelInput>) -> tinkex::Result<()> {
    /// use tinkex::types::SamplingParams;
    ///
    /// let params = SamplingParams::default().max_tokens(64);
    /// let pendings: tinkex::Result<Vec<_>> =
    ///     prompts.iter().map(|prompt| sampler.submit_sample(prompt, 1, &params)).collect();
    /// for reply in tinkex::wait_all(pendings?)? {
    ///     println!("{:?}", reply.sequences[0].tokens);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_sample(
        &self,
        prompt: &ModelInput,
        num_samples: u32,
        params: &SamplingParams,
    ) -> Result<Pending<SampleResponse>> {
        self.submit_sample_with(SampleOptions::new(prompt).num_samples(num_samples).sampling_params(params.clone()))
    }

    /// Samples with all options, or with the defaults for a prompt alone. Blocks; submits on the calling thread.
    ///
    /// # Errors
    ///
    /// As [`sample`](SamplingClient::sample).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use tinkex::SampleOptions;
    /// use tinkex::types::ModelInput;
    ///
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// let options = SampleOptions::new(&prompt).num_samples(2).topk_prompt_logprobs(5);
    /// println!("{:?}", sampler.sample_with(options)?.topk_prompt_logprobs);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sample_with<'a>(&self, options: impl Into<SampleOptions<'a>>) -> Result<SampleResponse> {
        self.samples(options.into(), self.blocking())?.wait()
    }

    /// Submits [`sample_with`](SamplingClient::sample_with) on a thread of the client's pool.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), [`QueueFull`](crate::ErrorKind::QueueFull) when
    /// [`max_queued`](crate::ConfigBuilder::max_queued) samples wait for a thread, or [`Closed`](crate::ErrorKind::Closed). The
    /// [`Pending`] returns all others.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) -> tinkex::Result<()> {
    /// use tinkex::SampleOptions;
    /// use tinkex::types::ModelInput;
    ///
    /// let prompt = ModelInput::from_tokens([1, 2, 3]);
    /// let pending = sampler.submit_sample_with(SampleOptions::new(&prompt).num_samples(2))?;
    /// println!("{:?}", pending.wait()?.sequences);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_sample_with<'a>(&self, options: impl Into<SampleOptions<'a>>) -> Result<Pending<SampleResponse>> {
        self.samples(options.into(), self.submitting())
    }

    fn samples(&self, options: SampleOptions<'_>, mode: CallMode) -> Result<Pending<SampleResponse>> {
        let (call, finish) = self.submit("sample", options, mode)?;
        Ok(call.pending(move |responses| finish.sequences(single(responses)?)))
    }

    fn submit(
        &self,
        operation: &'static str,
        options: SampleOptions<'_>,
        mode: CallMode,
    ) -> Result<(SubmittedCall<SampleResponse>, Finish)> {
        let named = |error: Error| error.with_operation(operation);
        self.session.http().process().check().map_err(named)?;
        options.validate().map_err(named)?;
        let expected = Expected::of(&options.prompt, &options.settings)?;
        let num_samples = options.settings.num_samples;
        let (handle, completer) = CallHandle::new(operation);
        if mode.blocks() {
            handle.wait_from_start();
        }
        let call = self.session.call(operation, handle, mode);
        let SampleOptions { prompt, mut settings } = options;
        settings.record_stability_info = self.record_stability_info;
        let mut job = SampleJob {
            sampler: Arc::clone(&self.sampler),
            asked: self.sampler.keep(&prompt, settings),
            completer,
            deadline: mode.deadline(),
            retry: Arc::clone(&self.retry),
            reservation: None,
            expired: 0,
        };
        if mode.blocks() {
            job.run();
        } else {
            let (session, bytes) = (self.session.inner(), prompt.heap_bytes());
            let reserve = |on_full| session.budget().reserve(bytes, on_full);
            let reservation = self.session.http().wait_for_room(WaitKind::Sample, operation, mode.on_full(), reserve);
            let reservation = reservation.map_err(|error| error.with_operation(operation))?;
            job.reservation = Some(reservation);
            let task: Task = Box::new(move || job.run());
            session.submitters().submit(task).map_err(|(_, error)| error.with_operation(operation))?;
        }
        Ok((call, Finish { num_samples, expected }))
    }

    fn blocking(&self) -> CallMode {
        CallMode::blocking(self.session.config().clock(), self.timeout_operation)
    }

    fn submitting(&self) -> CallMode {
        match self.waiting_submits {
            true => CallMode::submitting_with_room(self.session.config().clock(), self.timeout_operation),
            false => CallMode::submitting(self.timeout_operation),
        }
    }
}

/// What turns the response to a sample into the caller's.
struct Finish {
    num_samples: u32,
    expected: Option<Box<Expected>>,
}

impl Finish {
    /// The response with the sequences that were asked for, named as the promise did.
    fn sequences(self, mut received: Received<SampleResponse>) -> Result<SampleResponse> {
        let (asked, found) = (self.num_samples, received.result.sequences.len());
        if found != asked as usize {
            return Err(received.unfit(format!("the response has {found} sequences, not {asked}")));
        }
        let ids = std::mem::take(&mut received.part_ids);
        let mut response = self.numbers(received)?;
        // A server that gave another number of ids does not say which sequence is which.
        if ids.len() == response.sequences.len() {
            for (sequence, id) in response.sequences.iter_mut().zip(ids.into_vec()) {
                sequence.sequence_id.get_or_insert(id);
            }
        }
        Ok(response)
    }

    /// The response with the numbers of the prompt that were asked for. Its sequences may be any.
    fn numbers(self, received: Received<SampleResponse>) -> Result<SampleResponse> {
        match self.expected {
            Some(expected) => received.check(|response| expected.check(response)),
            None => Ok(received.result),
        }
    }
}

impl fmt::Debug for SamplingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.sampler.sampling_session_id;
        f.debug_struct("SamplingClient").field("sampling_session_id", id).finish_non_exhaustive()
    }
}

//! The client that samples from a model.

mod retry_config;
mod sample_options;
mod submit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use retry_config::RetryConfig;
pub use sample_options::SampleOptions;

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Limits, Purpose, Request, encode_segment};
use crate::pending::{CallHandle, CallMode, Pending, PollingSession, SubmittedCall, single};
use crate::rules::tokenizer_id;
use crate::session::Task;
use crate::tokenizer::Tokenizer;
use crate::types::wire::{CreateSamplingSessionRequest, CreateSamplingSessionResponse};
use crate::types::{ModelInput, SampleResponse, SamplerResponse, SamplingParams, check_path};
use submit::{SampleJob, Sampler};

/// Samples from one model. Cheap to clone; all clones share one sequence of samples.
///
/// Obtained from [`ServiceClient::create_sampling_client`](crate::ServiceClient::create_sampling_client) and
/// [`TrainingClient::save_weights_and_get_sampling_client`](crate::TrainingClient::save_weights_and_get_sampling_client).
/// It can be called from any number of threads. All sampling clients of the process with the same base URL and key share a
/// rate limit ([`sampling_rate`](crate::ConfigBuilder::sampling_rate)) and a maximum number of submissions in flight
/// ([`max_sampling_in_flight`](crate::ConfigBuilder::max_sampling_in_flight)), and all of them pause when the service answers
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
#[derive(Clone)]
pub struct SamplingClient {
    session: PollingSession,
    sampler: Arc<Sampler>,
    /// Set if the client was opened on a base model.
    base_model: Option<Arc<str>>,
    retry: Arc<RetryConfig>,
    timeout_operation: Option<Duration>,
}

impl SamplingClient {
    pub(crate) fn new(session: &PollingSession, sampling_session_id: String) -> Self {
        SamplingClient {
            session: session.clone(),
            sampler: Arc::new(Sampler::new(session, sampling_session_id)),
            base_model: None,
            retry: Arc::new(RetryConfig::of(session.config())),
            timeout_operation: session.config().timeout_operation(),
        }
    }

    /// Opens a sampling session on a base model or a path.
    pub(crate) fn open(
        operation: &'static str,
        session: &PollingSession,
        base_model: Option<&str>,
        model_path: Option<&str>,
        deadline: Option<Deadline>,
    ) -> Result<Self> {
        model_path.map_or(Ok(()), check_path).map_err(|error| error.with_operation(operation))?;
        let request = CreateSamplingSessionRequest {
            session_id: session.inner().id().into(),
            sampling_session_seq_id: session.inner().sampling_sessions().next(),
            base_model: base_model.map(Into::into),
            model_path: model_path.map(Into::into),
        };
        let http = session.http();
        let limits = Limits { deadline, ..http.limits(operation, Purpose::Session) };
        let post = Request::post("create_sampling_session", &[]);
        let opened: CreateSamplingSessionResponse = http.send_json(post, &limits, &request)?;
        let client = SamplingClient::new(session, opened.sampling_session_id);
        Ok(SamplingClient { base_model: base_model.map(Into::into), ..client })
    }

    /// The id of the sampling session.
    #[must_use]
    pub fn sampling_session_id(&self) -> &str {
        &self.sampler.sampling_session_id
    }

    /// A client of the same sampling session whose blocking calls and waits time out after `timeout`; `None` is no limit.
    /// Defaults to [`Config::timeout_operation`](crate::Config::timeout_operation), or to that of the client that made it.
    #[must_use]
    pub fn with_timeout_operation(&self, timeout: Option<Duration>) -> Self {
        SamplingClient { timeout_operation: timeout, ..self.clone() }
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
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an empty prompt or parameters out of range, before any request; otherwise
    /// any error of a request.
    pub fn sample(&self, prompt: &ModelInput, num_samples: u32, params: &SamplingParams) -> Result<SampleResponse> {
        self.sample_with(SampleOptions::new(prompt).num_samples(num_samples).sampling_params(params.clone()))
    }

    /// Submits [`sample`](SamplingClient::sample).
    ///
    /// # Errors
    ///
    /// As [`submit_sample_with`](SamplingClient::submit_sample_with).
    pub fn submit_sample(
        &self,
        prompt: &ModelInput,
        num_samples: u32,
        params: &SamplingParams,
    ) -> Result<Pending<SampleResponse>> {
        self.submit_sample_with(SampleOptions::new(prompt).num_samples(num_samples).sampling_params(params.clone()))
    }

    /// Samples with all options. Blocks; submits on the calling thread.
    ///
    /// # Errors
    ///
    /// As [`sample`](SamplingClient::sample).
    pub fn sample_with(&self, options: SampleOptions<'_>) -> Result<SampleResponse> {
        self.samples(options, self.blocking())?.wait()
    }

    /// Submits [`sample_with`](SamplingClient::sample_with) on a thread of the client's pool.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput), [`QueueFull`](ErrorKind::QueueFull) when
    /// [`max_queued`](crate::ConfigBuilder::max_queued) samples wait for a thread, or [`Closed`](ErrorKind::Closed). The
    /// [`Pending`] returns all others.
    pub fn submit_sample_with(&self, options: SampleOptions<'_>) -> Result<Pending<SampleResponse>> {
        self.samples(options, self.submitting())
    }

    /// The log-probability of each token of a prompt given the tokens before it, in nats; `None` for the first. Blocks.
    ///
    /// # Errors
    ///
    /// As [`sample`](SamplingClient::sample).
    pub fn compute_logprobs(&self, prompt: &ModelInput) -> Result<Vec<Option<f32>>> {
        self.logprobs(prompt, self.blocking())?.wait()
    }

    /// Submits [`compute_logprobs`](SamplingClient::compute_logprobs).
    ///
    /// # Errors
    ///
    /// As [`submit_sample_with`](SamplingClient::submit_sample_with).
    pub fn submit_compute_logprobs(&self, prompt: &ModelInput) -> Result<Pending<Vec<Option<f32>>>> {
        self.logprobs(prompt, self.submitting())
    }

    /// The id of the model's tokenizer, which the Python client derives from the name of the base model. Blocks for one request,
    /// unless the client was opened on a base model.
    ///
    /// # Errors
    ///
    /// Any error of a request; status 404 from servers without information about samplers, such as those of the protocol 0.4.1.
    pub fn tokenizer_id(&self) -> Result<String> {
        if let Some(base_model) = &self.base_model {
            return Ok(tokenizer_id::of_model(base_model));
        }
        let operation = "tokenizer_id";
        let path = format!("samplers/{}", encode_segment(self.sampling_session_id()));
        let http = self.session.http();
        let limits = Limits { deadline: self.blocking().deadline(), ..http.limits(operation, Purpose::Session) };
        let sampler: SamplerResponse = http.send(&Request::get(path), &limits)?.json(operation)?;
        tokenizer_id::of_info(None, Some(sampler.base_model)).map_err(|error| error.with_operation(operation))
    }

    /// The model's tokenizer, from where [`TrainingClient::tokenizer`](crate::TrainingClient::tokenizer) gets it. Not cached:
    /// keep the returned tokenizer.
    ///
    /// # Errors
    ///
    /// As [`TrainingClient::tokenizer`](crate::TrainingClient::tokenizer) and [`tokenizer_id`](SamplingClient::tokenizer_id).
    #[doc(alias = "get_tokenizer")]
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let deadline = self.blocking().deadline();
        Tokenizer::named(&self.tokenizer_id()?, self.session.config(), deadline, "tokenizer")
    }

    fn samples(&self, options: SampleOptions<'_>, mode: CallMode) -> Result<Pending<SampleResponse>> {
        let length = options.settings.prompt_logprobs.then(|| options.prompt.len());
        Ok(self.submit("sample", options, mode)?.pending(move |responses| {
            let mut response = single(responses)?;
            if let (Some(length), Some(logprobs)) = (length, response.prompt_logprobs.as_mut()) {
                one_per_token(logprobs, length)?;
            }
            Ok(response)
        }))
    }

    fn logprobs(&self, prompt: &ModelInput, mode: CallMode) -> Result<Pending<Vec<Option<f32>>>> {
        let params = SamplingParams::default().max_tokens(1);
        let options = SampleOptions::new(prompt).sampling_params(params).prompt_logprobs(true);
        let length = prompt.len();
        Ok(self.submit("compute_logprobs", options, mode)?.pending(move |responses| {
            let logprobs = single(responses)?.prompt_logprobs;
            let mut logprobs =
                logprobs.ok_or_else(|| Error::new(ErrorKind::Decode, "the response has no prompt_logprobs"))?;
            one_per_token(&mut logprobs, length)?;
            Ok(logprobs)
        }))
    }

    fn submit(
        &self,
        operation: &'static str,
        options: SampleOptions<'_>,
        mode: CallMode,
    ) -> Result<SubmittedCall<SampleResponse>> {
        options.validate().map_err(|error| error.with_operation(operation))?;
        let (handle, completers) = CallHandle::new(operation, 1);
        if mode.blocks() {
            handle.wait_from_start();
        }
        let call = self.session.call(operation, handle, mode);
        let SampleOptions { prompt, settings } = options;
        for completer in completers {
            let job = SampleJob {
                sampler: Arc::clone(&self.sampler),
                prompt: self.sampler.keep(prompt),
                settings: settings.clone(),
                completer,
                deadline: mode.deadline(),
                retry: Arc::clone(&self.retry),
                expired: 0,
            };
            if mode.blocks() {
                job.run();
            } else {
                let (session, bytes) = (self.session.inner(), prompt.heap_bytes());
                let reservation =
                    session.budget().reserve(bytes, mode.on_full()).map_err(|error| error.with_operation(operation))?;
                let task: Task = Box::new(move || {
                    drop(reservation);
                    job.run();
                });
                session.submitters().submit(task).map_err(|(_, error)| error.with_operation(operation))?;
            }
        }
        Ok(call)
    }

    fn blocking(&self) -> CallMode {
        CallMode::blocking(self.session.config().clock(), self.timeout_operation)
    }

    fn submitting(&self) -> CallMode {
        CallMode::submitting(self.timeout_operation)
    }
}

/// Some servers leave out the first token, which has no log-probability.
fn one_per_token(logprobs: &mut Vec<Option<f32>>, tokens: usize) -> Result<()> {
    if logprobs.len() + 1 == tokens {
        logprobs.insert(0, None);
    }
    if logprobs.len() == tokens {
        return Ok(());
    }
    let message = format!("the response has {} prompt_logprobs for {tokens} tokens", logprobs.len());
    Err(Error::new(ErrorKind::Decode, message))
}

impl fmt::Debug for SamplingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.sampler.sampling_session_id;
        f.debug_struct("SamplingClient").field("sampling_session_id", id).finish_non_exhaustive()
    }
}

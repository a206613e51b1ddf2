//! Sampling from a model.

mod options;
mod retry;
mod submit;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use options::SampleOptions;
pub use retry::RetryConfig;

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Limits, Purpose, Request, encode_segment};
use crate::pending::{Manner, Outcome, Pending, Slots, the_one};

use crate::rules::tokenizer_id;
use crate::session::{Session, Task};
use crate::tokenizer::Tokenizer;
use crate::types::wire::{CreateSamplingSessionRequest, CreateSamplingSessionResponse};
use crate::types::{ModelInput, SampleResponse, SamplerResponse, SamplingParams, check_tinker_scheme};
use submit::{SampleJob, Sampler};

/// Samples from one model. Cheap to clone; all clones count their samples together.
///
/// Obtained from [`ServiceClient::create_sampling_client`](crate::ServiceClient::create_sampling_client) and
/// [`TrainingClient::save_weights_and_get_sampling_client`](crate::TrainingClient::save_weights_and_get_sampling_client).
/// Call it from as many threads as you like: all sampling with one base URL and key in the process passes the same two
/// gates, a rate and a cap on submissions in flight, and waits together when the service answers 429.
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
    session: Arc<Session>,
    sampler: Arc<Sampler>,
    /// Where it was opened on one.
    base_model: Option<Arc<str>>,
    retry: Arc<RetryConfig>,
    timeout_operation: Option<Duration>,
}

impl SamplingClient {
    pub(crate) fn new(session: &Arc<Session>, sampling_session_id: String) -> Self {
        SamplingClient {
            session: Arc::clone(session),
            sampler: Arc::new(Sampler::new(session, sampling_session_id)),
            base_model: None,
            retry: Arc::new(RetryConfig::of(session.config())),
            timeout_operation: session.config().timeout_operation(),
        }
    }

    /// Opens a sampling session on a base model or a path.
    pub(crate) fn open(
        operation: &'static str,
        session: &Arc<Session>,
        base_model: Option<&str>,
        model_path: Option<&str>,
        deadline: Option<Deadline>,
    ) -> Result<Self> {
        model_path.map_or(Ok(()), check_tinker_scheme).map_err(|error| error.with_operation(operation))?;
        let request = CreateSamplingSessionRequest {
            session_id: session.id().into(),
            sampling_session_seq_id: session.sampling_sessions().fetch_add(1, Ordering::Relaxed),
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

    /// A client of the same sampling session whose blocking calls and waits end after so long; `None` is without end.
    #[must_use]
    pub fn timeout_operation(&self, timeout: Option<Duration>) -> Self {
        SamplingClient { timeout_operation: timeout, ..self.clone() }
    }

    /// A client of the same sampling session that submits expired samples anew as this says. Without it, that is as the
    /// configuration's [`max_retries`](crate::ConfigBuilder::max_retries),
    /// [`retry_base`](crate::ConfigBuilder::retry_base) and [`retry_cap`](crate::ConfigBuilder::retry_cap) say.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(sampler: tinkex::SamplingClient) {
    /// let careful = sampler.retry_config(tinkex::RetryConfig::default().attempts(100));
    /// # }
    /// ```
    #[must_use]
    pub fn retry_config(&self, retry: RetryConfig) -> Self {
        SamplingClient { retry: Arc::new(retry), ..self.clone() }
    }

    /// Samples `num_samples` continuations of a prompt. Blocks; submits on the calling thread.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for parameters out of range, before any request; else whatever ended the
    /// request.
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
    /// [`max_queued`](crate::ConfigBuilder::max_queued) samples wait for a thread, or
    /// [`Closed`](ErrorKind::Closed); the rest comes from the [`Pending`].
    pub fn submit_sample_with(&self, options: SampleOptions<'_>) -> Result<Pending<SampleResponse>> {
        self.samples(options, self.submitting())
    }

    /// The log-probability of each token of a prompt given those before it, in nats; none for the first. Blocks.
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

    /// The id of the tokenizer of the model that is sampled from, which follows from the name of its base model as the Python
    /// client has it. Blocks for one request, unless the client was opened on a base model.
    ///
    /// # Errors
    ///
    /// Whatever ended the request; status 404 from servers that do not tell of samplers, as those of the protocol 0.4.1.
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

    /// The tokenizer of the model that is sampled from; [`TrainingClient::tokenizer`](crate::TrainingClient::tokenizer) says
    /// where it comes from. Reads it anew each time: keep it.
    ///
    /// # Errors
    ///
    /// As [`TrainingClient::tokenizer`](crate::TrainingClient::tokenizer) and [`tokenizer_id`](SamplingClient::tokenizer_id).
    #[doc(alias = "get_tokenizer")]
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let deadline = self.blocking().deadline();
        Tokenizer::named(&self.tokenizer_id()?, self.session.config(), deadline, "tokenizer")
    }

    fn samples(&self, options: SampleOptions<'_>, manner: Manner) -> Result<Pending<SampleResponse>> {
        let length = options.how.prompt_logprobs.then(|| options.prompt.len());
        Ok(self.run("sample", options, manner)?.pending(move |replies| {
            let mut reply = the_one(replies)?;
            if let (Some(length), Some(logprobs)) = (length, reply.prompt_logprobs.as_mut()) {
                one_per_token(logprobs, length)?;
            }
            Ok(reply)
        }))
    }

    fn logprobs(&self, prompt: &ModelInput, manner: Manner) -> Result<Pending<Vec<Option<f32>>>> {
        let params = SamplingParams::default().max_tokens(1);
        let options = SampleOptions::new(prompt).sampling_params(params).prompt_logprobs(true);
        let length = prompt.len();
        Ok(self.run("compute_logprobs", options, manner)?.pending(move |replies| {
            let logprobs = the_one(replies)?.prompt_logprobs;
            let mut logprobs =
                logprobs.ok_or_else(|| Error::new(ErrorKind::Decode, "the answer has no prompt_logprobs"))?;
            one_per_token(&mut logprobs, length)?;
            Ok(logprobs)
        }))
    }

    fn run(
        &self,
        operation: &'static str,
        options: SampleOptions<'_>,
        manner: Manner,
    ) -> Result<Outcome<SampleResponse>> {
        options.validate().map_err(|error| error.with_operation(operation))?;
        let (slots, parts) = Slots::new(operation, 1);
        if manner.blocks() {
            slots.waited_for();
        }
        let clock = self.session.config().clock().clone();
        let outcome = Outcome { slots, operation, clock, manner, alive: Arc::clone(&self.session) as Arc<_> };
        let SampleOptions { prompt, how } = options;
        for part in parts {
            let job = SampleJob {
                sampler: Arc::clone(&self.sampler),
                prompt: self.sampler.keep(prompt),
                how: how.clone(),
                part,
                deadline: manner.deadline(),
                retry: Arc::clone(&self.retry),
                expired: 0,
            };
            if manner.blocks() {
                job.run();
            } else {
                let bytes = prompt.heap_bytes();
                let reservation =
                    self.session.budget().reserve(bytes, manner.room()).map_err(|e| e.with_operation(operation))?;
                let task: Task = Box::new(move || {
                    drop(reservation);
                    job.run();
                });
                self.session.submitters().submit(task).map_err(|(_, error)| error.with_operation(operation))?;
            }
        }
        Ok(outcome)
    }

    fn blocking(&self) -> Manner {
        Manner::blocking(self.session.config().clock(), self.timeout_operation)
    }

    fn submitting(&self) -> Manner {
        Manner::submitting(self.timeout_operation)
    }
}

/// Some servers leave the first token out, which nothing comes before.
fn one_per_token(logprobs: &mut Vec<Option<f32>>, tokens: usize) -> Result<()> {
    if logprobs.len() + 1 == tokens {
        logprobs.insert(0, None);
    }
    if logprobs.len() == tokens {
        return Ok(());
    }
    let message = format!("the answer has {} prompt_logprobs for {tokens} tokens", logprobs.len());
    Err(Error::new(ErrorKind::Decode, message))
}

impl fmt::Debug for SamplingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.sampler.sampling_session_id;
        f.debug_struct("SamplingClient").field("sampling_session_id", id).finish_non_exhaustive()
    }
}

//! The client that trains a LoRA adapter.

mod combine;
mod compression;
#[cfg(feature = "ndarray")]
mod custom;
mod loads;
mod model;
mod passes;
mod queue;
mod requests;
mod saves;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

#[cfg(feature = "ndarray")]
pub use custom::CustomLoss;
use passes::{Pass, SeenOutputs};
use queue::TrainingQueue;

use crate::clock::Clock;
use crate::error::Result;
use crate::pending::{Pending, PollingSession};
use crate::session::Dependent;
use crate::types::{Batch, ForwardBackwardOutput, GetInfoResponse, Loss, OptimParams, OptimStepResponse, run_page};

/// Trains one LoRA adapter on a base model. Cheap to clone; all clones share one order of requests.
///
/// Requests run in the order in which the calls are made, from whichever threads. A call takes its place in that order when it
/// is made, not when its result is waited for, so steps can be pipelined: submit the next one before the result of the last is
/// ready. Obtained from [`ServiceClient::create_lora_training_client`](crate::ServiceClient::create_lora_training_client).
///
/// Each operation has a blocking form and a `submit_` form. The blocking form returns the result, waits for space when the
/// queue of [`max_queued`](crate::ConfigBuilder::max_queued) calls is full, and takes up to
/// [`timeout_operation`](crate::ConfigBuilder::timeout_operation). The `submit_` form returns a [`Pending`] at once; if the
/// queue is full, it fails with [`QueueFull`](crate::ErrorKind::QueueFull), or waits if
/// [`with_waiting_submits`](TrainingClient::with_waiting_submits) says so.
///
/// # After a failed call
///
/// Requests are numbered, and some services wait for every number, or insist on it. So the client leaves none out:
///
/// - A request that the service refused (most 4xx) was not run. The next one gets its number.
/// - If [`may_have_taken_effect`](crate::Error::may_have_taken_effect) is set because no response of the service says what became
///   of the request (a lost connection, a response that cannot be read, status 408 or 5xx), the next call first sends that request
///   once more, with the same number and idempotency key. It is run once: now, if it was not before. Then a step is not missing,
///   and must not be repeated; only its result is lost. The exception is a call of one request that the program makes again at
///   once, with the same arguments: it takes the place of the lost one, and returns its result.
/// - If the service still cannot be reached, or that next call ends before (its deadline, a cancellation), the call fails, and nothing
///   of it was sent. If the service can be reached, and fails that request again, the request is given up; so it is after calls that
///   ended have sent it for [`timeout_submit`](crate::ConfigBuilder::timeout_submit) in all.
///
/// # Examples
///
/// ```no_run
/// use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput};
/// use tinkex::{Config, ServiceClient};
///
/// let service = ServiceClient::connect(Config::from_env()?)?;
/// let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default())?;
/// let datum = Datum::new(ModelInput::from_tokens(vec![10, 11, 12]))
///     .input("target_tokens", vec![11_i64, 12, 13])?
///     .input("weights", vec![0.0_f32, 1.0, 1.0])?;
/// let batch = Batch::from(vec![datum]);
/// let output = trainer.forward_backward(&batch, LossFn::CrossEntropy)?;
/// trainer.optim_step(AdamParams::new().learning_rate(1e-4))?;
/// println!("{:?}", output.metrics.get("loss:sum"));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone)]
pub struct TrainingClient {
    core: Arc<Core>,
    timeout_operation: Option<Duration>,
    waiting_submits: bool,
}

struct Core {
    session: PollingSession,
    queue: Arc<TrainingQueue>,
    model_id: Arc<str>,
    /// Once it has been asked for.
    info: OnceLock<GetInfoResponse>,
    seen: Arc<SeenOutputs>,
}

impl Drop for Core {
    fn drop(&mut self) {
        if !self.session.http().process().is_current() {
            return;
        }
        self.queue.close(Clock::system().now() + self.session.config().timeout_drop());
        self.session.inner().release(&(Arc::clone(&self.queue) as Arc<dyn Dependent>));
    }
}

impl TrainingClient {
    pub(crate) fn new(session: &PollingSession, model_id: &str) -> Result<Self> {
        let queue = Arc::new(TrainingQueue::spawn(session.http(), session.poller())?);
        session.inner().adopt(Arc::clone(&queue) as Arc<dyn Dependent>);
        let core = Core {
            session: session.clone(),
            queue,
            model_id: model_id.into(),
            info: OnceLock::new(),
            seen: Arc::default(),
        };
        let timeout_operation = session.config().timeout_operation();
        Ok(TrainingClient { core: Arc::new(core), timeout_operation, waiting_submits: false })
    }

    /// The id of the trained model.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// println!("tinker://{}/weights", trainer.model_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn model_id(&self) -> &str {
        &self.core.model_id
    }

    /// The address of the training run's page in the service's web console. `None` unless the service is the official one:
    /// others have no console. Makes no request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// if let Some(url) = trainer.get_console_url() {
    ///     println!("see {url}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn get_console_url(&self) -> Option<String> {
        self.core.session.config().is_official().then(|| run_page(&self.core.model_id))
    }

    /// A client of the same model whose blocking calls and waits time out after `timeout`; `None` is no limit. Defaults to
    /// [`Config::timeout_operation`](crate::Config::timeout_operation), or to that of the service client.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    /// use tinkex::types::AdamParams;
    ///
    /// let limited = trainer.with_timeout_operation(Some(Duration::from_secs(60)));
    /// limited.optim_step(AdamParams::default())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout_operation(&self, timeout: Option<Duration>) -> Self {
        TrainingClient { timeout_operation: timeout, ..self.clone() }
    }

    /// A client of the same model whose `submit_` calls wait for room when the queue of
    /// [`max_queued`](crate::ConfigBuilder::max_queued) calls is full, up to the
    /// [`timeout_operation`](crate::ConfigBuilder::timeout_operation), in place of failing with
    /// [`QueueFull`](crate::ErrorKind::QueueFull). Defaults to false.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient, batches: Vec<tinkex::types::Batch>) -> tinkex::Result<()> {
    /// use tinkex::types::LossFn;
    ///
    /// let trainer = trainer.with_waiting_submits(true);
    /// let passes: tinkex::Result<Vec<_>> =
    ///     batches.iter().map(|batch| trainer.submit_forward(batch, LossFn::CrossEntropy)).collect();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_waiting_submits(&self, waiting: bool) -> Self {
        TrainingClient { waiting_submits: waiting, ..self.clone() }
    }

    /// Computes the loss of a batch and the log-probability of each target token, without gradients. Blocks.
    ///
    /// # Errors
    ///
    /// As [`forward_backward`](TrainingClient::forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient, batch: tinkex::types::Batch) -> tinkex::Result<()> {
    /// use tinkex::types::LossFn;
    ///
    /// let output = trainer.forward(&batch, LossFn::CrossEntropy)?;
    /// println!("held-out loss: {:?}", output.metrics.get("loss:sum"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward(&self, batch: impl Into<Batch>, loss: impl Into<Loss>) -> Result<ForwardBackwardOutput> {
        self.queue_pass("forward", Pass::Forward, &batch.into(), loss.into(), self.blocking())?.pending().wait()
    }

    /// Submits [`forward`](TrainingClient::forward).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient, batch: tinkex::types::Batch) -> tinkex::Result<()> {
    /// use tinkex::types::LossFn;
    ///
    /// let first = trainer.submit_forward(&batch, LossFn::CrossEntropy)?;
    /// let second = trainer.submit_forward(&batch, LossFn::CrossEntropy)?;
    /// println!("{:?} {:?}", first.wait()?.metrics, second.wait()?.metrics);
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_forward(
        &self,
        batch: impl Into<Batch>,
        loss: impl Into<Loss>,
    ) -> Result<Pending<ForwardBackwardOutput>> {
        Ok(self.queue_pass("forward", Pass::Forward, &batch.into(), loss.into(), self.submitting())?.pending())
    }

    /// Computes the loss of a batch and accumulates its gradient. Blocks.
    ///
    /// A large batch is sent in several requests, one after the other: as JSON of at most 128 datums and 500 000 numbers, as
    /// protobuf of at most 1024 datums and 5 MB, unless the service has other limits. [`Wire`](crate::Wire) says which format it
    /// is. The outputs are in the order of the datums, the metrics reduced over the requests. If a request is refused, those
    /// after it are not sent.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty batch, a number that is not finite, and loss inputs that are
    /// missing or of another length than the model input ([`Datum::validate_for`](crate::types::Datum::validate_for)), before any
    /// request; otherwise any error of a request. If [`may_have_taken_effect`](crate::Error::may_have_taken_effect) is set, the gradient
    /// may have been accumulated.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient, batch: tinkex::types::Batch) -> tinkex::Result<()> {
    /// use tinkex::types::{AdamParams, LossFn};
    ///
    /// let output = trainer.forward_backward(&batch, LossFn::CrossEntropy)?;
    /// trainer.optim_step(AdamParams::new().learning_rate(1e-4))?;
    /// println!("loss: {:?}", output.metrics.get("loss:sum"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward_backward(&self, batch: impl Into<Batch>, loss: impl Into<Loss>) -> Result<ForwardBackwardOutput> {
        let (batch, loss, mode) = (batch.into(), loss.into(), self.blocking());
        self.queue_pass("forward_backward", Pass::ForwardBackward, &batch, loss, mode)?.pending().wait()
    }

    /// Submits [`forward_backward`](TrainingClient::forward_backward).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), [`QueueFull`](crate::ErrorKind::QueueFull) or
    /// [`Closed`](crate::ErrorKind::Closed). The [`Pending`] returns all others.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient, batch: tinkex::types::Batch) -> tinkex::Result<()> {
    /// use tinkex::types::{AdamParams, LossFn};
    ///
    /// let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
    /// let step = trainer.submit_optim_step(AdamParams::default())?;
    /// println!("{:?}", pass.wait()?.metrics);
    /// step.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_forward_backward(
        &self,
        batch: impl Into<Batch>,
        loss: impl Into<Loss>,
    ) -> Result<Pending<ForwardBackwardOutput>> {
        let (batch, loss, mode) = (batch.into(), loss.into(), self.submitting());
        Ok(self.queue_pass("forward_backward", Pass::ForwardBackward, &batch, loss, mode)?.pending())
    }

    /// Updates the adapter from the accumulated gradient, and clears the gradient. Blocks.
    ///
    /// The settings are [`AdamParams`](crate::types::AdamParams), or [`DimuonParams`](crate::types::DimuonParams) for a model
    /// that was created with that optimizer.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for settings that no server can take, before any request; otherwise any
    /// error of a request. If [`may_have_taken_effect`](crate::Error::may_have_taken_effect) is set, the step may have taken
    /// place.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use tinkex::types::AdamParams;
    ///
    /// let response = trainer.optim_step(AdamParams::new().learning_rate(1e-4))?;
    /// println!("{:?}", response.metrics);
    /// # Ok(())
    /// # }
    /// ```
    pub fn optim_step(&self, params: impl Into<OptimParams>) -> Result<OptimStepResponse> {
        self.queue_optim_step(params.into(), self.blocking())?.wait()
    }

    /// Submits [`optim_step`](TrainingClient::optim_step).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use tinkex::types::AdamParams;
    ///
    /// let step = trainer.submit_optim_step(AdamParams::default())?;
    /// println!("submitted");
    /// step.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn submit_optim_step(&self, params: impl Into<OptimParams>) -> Result<Pending<OptimStepResponse>> {
        self.queue_optim_step(params.into(), self.submitting())
    }
}

impl fmt::Debug for TrainingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainingClient").field("model_id", &self.core.model_id).finish_non_exhaustive()
    }
}

//! Training one LoRA adapter.

mod queue;

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::de::DeserializeOwned;

use queue::Body;
pub(crate) use queue::{Job, TrainingQueue};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Call, Purpose, to_json};
use crate::pending::{Manner, Outcome, Part, Pending, Slots};
use crate::rules::{chunking, metrics};
use crate::sampling::SamplingClient;
use crate::session::{Dependent, Session};
use crate::types::{
    AdamParams, Batch, Datum, ForwardBackwardInput, ForwardBackwardOutput, ForwardBackwardRequest, ForwardRequest,
    GetInfoRequest, GetInfoResponse, LoadWeightsRequest, LoadWeightsResponse, Loss, OptimStepRequest,
    OptimStepResponse, RequestKind, SaveWeightsForSamplerRequest, SaveWeightsForSamplerResponse, SaveWeightsRequest,
    SaveWeightsResponse, check_tinker_scheme,
};

/// Trains one LoRA adapter on a base model. Cheap to clone; all clones share one order of requests.
///
/// Requests are carried out in the order in which the calls are made, by whichever threads. A call's place is taken when
/// it is made, not when it is waited for, so steps can be pipelined: submit the next before the result of the last is
/// there. Obtained from [`ServiceClient::create_lora_training_client`](crate::ServiceClient::create_lora_training_client).
///
/// Each operation has a blocking form and a `submit_` form. The blocking form returns the result, waits for room when the
/// queue of [`max_queued`](crate::config::ConfigBuilder::max_queued) calls is full, and ends by
/// [`timeout_operation`](crate::config::ConfigBuilder::timeout_operation). The `submit_` form does not wait: a full queue is
/// an error of kind [`QueueFull`](ErrorKind::QueueFull).
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
/// trainer.optim_step(AdamParams { learning_rate: 1e-4, ..AdamParams::default() })?;
/// println!("{:?}", output.metrics.get("loss:sum"));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone)]
pub struct TrainingClient {
    core: Arc<Core>,
    timeout_operation: Option<Duration>,
}

struct Core {
    session: Arc<Session>,
    queue: Arc<TrainingQueue>,
    model_id: Arc<str>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.queue.close(Clock::system().now() + self.session.config().timeout_drop());
    }
}

/// One call, as the queue takes it.
struct Request {
    operation: &'static str,
    path: &'static str,
    kind: RequestKind,
    bodies: Vec<Body>,
    /// An estimate of the bytes that wait in the queue.
    bytes: usize,
}

impl Request {
    fn one(operation: &'static str, path: &'static str, kind: RequestKind, body: Body) -> Self {
        Request { operation, path, kind, bodies: vec![body], bytes: 0 }
    }
}

impl TrainingClient {
    pub(crate) fn new(session: &Arc<Session>, model_id: &str) -> Result<Self> {
        let queue = Arc::new(TrainingQueue::spawn(session.http(), session.poller(), session.next_client())?);
        session.adopt(Arc::downgrade(&queue) as Weak<_>);
        let core = Core { session: Arc::clone(session), queue, model_id: model_id.into() };
        Ok(TrainingClient { core: Arc::new(core), timeout_operation: session.config().timeout_operation() })
    }

    /// The id of the model that is trained.
    #[must_use]
    pub fn model_id(&self) -> &str {
        &self.core.model_id
    }

    /// A client of the same model whose blocking calls and waits end after so long; `None` is without end.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(trainer: tinkex::TrainingClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    /// use tinkex::types::AdamParams;
    ///
    /// let hasty = trainer.timeout_operation(Some(Duration::from_secs(60)));
    /// hasty.optim_step(AdamParams::default())?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn timeout_operation(&self, timeout: Option<Duration>) -> Self {
        TrainingClient { core: Arc::clone(&self.core), timeout_operation: timeout }
    }

    /// Computes the loss of a batch, and the log-probability of each target token, without gradients. Blocks.
    ///
    /// # Errors
    ///
    /// As [`forward_backward`](TrainingClient::forward_backward).
    pub fn forward(&self, batch: impl Into<Batch>, loss: impl Into<Loss>) -> Result<ForwardBackwardOutput> {
        self.pass(Pass::Forward, &batch.into(), loss.into(), self.blocking())?.wait()
    }

    /// Submits [`forward`](TrainingClient::forward).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    pub fn submit_forward(
        &self,
        batch: impl Into<Batch>,
        loss: impl Into<Loss>,
    ) -> Result<Pending<ForwardBackwardOutput>> {
        self.pass(Pass::Forward, &batch.into(), loss.into(), self.submitting())
    }

    /// Computes the loss of a batch and adds its gradient to the model's. Blocks.
    ///
    /// A batch of more than 128 datums or 500 000 numbers is sent in several requests, one after the other; the outputs come
    /// back in the order of the datums, the metrics reduced over the requests.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an empty batch or a number that is not finite, before any request; else
    /// whatever ended the request. When [`may_have_taken_effect`](Error::may_have_taken_effect) is set, the gradient may
    /// have been added.
    pub fn forward_backward(&self, batch: impl Into<Batch>, loss: impl Into<Loss>) -> Result<ForwardBackwardOutput> {
        self.pass(Pass::ForwardBackward, &batch.into(), loss.into(), self.blocking())?.wait()
    }

    /// Submits [`forward_backward`](TrainingClient::forward_backward).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput), [`QueueFull`](ErrorKind::QueueFull) or [`Closed`](ErrorKind::Closed); the
    /// rest comes from the [`Pending`].
    pub fn submit_forward_backward(
        &self,
        batch: impl Into<Batch>,
        loss: impl Into<Loss>,
    ) -> Result<Pending<ForwardBackwardOutput>> {
        self.pass(Pass::ForwardBackward, &batch.into(), loss.into(), self.submitting())
    }

    /// Updates the adapter with Adam from the gradient so far, and clears the gradient. Blocks.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for parameters that are not finite, before any request; else whatever
    /// ended the request. When [`may_have_taken_effect`](Error::may_have_taken_effect) is set, the step may have been made.
    pub fn optim_step(&self, params: AdamParams) -> Result<OptimStepResponse> {
        self.optim_step_in(params, self.blocking())?.wait()
    }

    /// Submits [`optim_step`](TrainingClient::optim_step).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    pub fn submit_optim_step(&self, params: AdamParams) -> Result<Pending<OptimStepResponse>> {
        self.optim_step_in(params, self.submitting())
    }

    /// Saves the adapter and the optimizer's state under a name, to go on from later. Returns its `tinker://` path. Blocks.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for an empty name; status 409 for a name that is taken; else whatever
    /// ended the request.
    pub fn save_state(&self, name: &str) -> Result<SaveWeightsResponse> {
        self.save_state_in(name, self.blocking())?.wait()
    }

    /// Submits [`save_state`](TrainingClient::save_state).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    pub fn submit_save_state(&self, name: &str) -> Result<Pending<SaveWeightsResponse>> {
        self.save_state_in(name, self.submitting())
    }

    /// Loads an adapter that [`save_state`](TrainingClient::save_state) saved, from its `tinker://` path. Blocks.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a path that does not begin with `tinker://`; else whatever ended the
    /// request.
    pub fn load_state(&self, path: &str) -> Result<LoadWeightsResponse> {
        self.load_state_in(path, self.blocking())?.wait()
    }

    /// Submits [`load_state`](TrainingClient::load_state).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    pub fn submit_load_state(&self, path: &str) -> Result<Pending<LoadWeightsResponse>> {
        self.load_state_in(path, self.submitting())
    }

    /// Saves the adapter under a name, to sample from. Returns its `tinker://` path. Blocks.
    ///
    /// # Errors
    ///
    /// As [`save_state`](TrainingClient::save_state).
    pub fn save_weights_for_sampler(&self, name: &str) -> Result<SaveWeightsResponse> {
        self.save_for_sampler_in(name, self.blocking())?.wait()
    }

    /// Submits [`save_weights_for_sampler`](TrainingClient::save_weights_for_sampler).
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    pub fn submit_save_weights_for_sampler(&self, name: &str) -> Result<Pending<SaveWeightsResponse>> {
        self.save_for_sampler_in(name, self.submitting())
    }

    /// Saves the adapter without a name and returns a client that samples from it. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever ended the request.
    pub fn save_weights_and_get_sampling_client(&self) -> Result<SamplingClient> {
        self.sampling_client_in(self.blocking())?.wait()
    }

    /// Submits [`save_weights_and_get_sampling_client`](TrainingClient::save_weights_and_get_sampling_client). With some
    /// servers waiting for the client makes one more short request, on the waiting thread.
    ///
    /// # Errors
    ///
    /// As [`submit_forward_backward`](TrainingClient::submit_forward_backward).
    pub fn submit_save_weights_and_get_sampling_client(&self) -> Result<Pending<SamplingClient>> {
        self.sampling_client_in(self.submitting())
    }

    /// What the service knows of the model. Blocks, but does not wait for submitted requests.
    ///
    /// # Errors
    ///
    /// Whatever ended the request.
    pub fn get_info(&self) -> Result<GetInfoResponse> {
        let idle = self.core.session.config().timeout_idle();
        let call = Call {
            deadline: self.blocking().deadline(),
            ..Call::post("get_info", Purpose::Training, "get_info", idle, &[])
        };
        self.core.session.http().ask(call, &GetInfoRequest { model_id: (&*self.core.model_id).into() })
    }

    fn blocking(&self) -> Manner {
        Manner::blocking(self.core.session.config().clock(), self.timeout_operation)
    }

    fn submitting(&self) -> Manner {
        Manner::submitting(self.timeout_operation)
    }

    fn pass(&self, pass: Pass, batch: &Batch, loss: Loss, manner: Manner) -> Result<Pending<ForwardBackwardOutput>> {
        let operation = pass.name();
        if batch.is_empty() {
            return Err(
                Error::invalid_input("the batch is empty; it needs at least one datum").with_operation(operation)
            );
        }
        batch.validate().and_then(|()| loss.validate()).map_err(|error| error.with_operation(operation))?;
        let loss = Arc::new(loss);
        let bodies = chunking::split(batch.iter().map(Datum::size)).into_iter().map(|range| -> Body {
            let (batch, loss, model_id) = (batch.clone(), Arc::clone(&loss), Arc::clone(&self.core.model_id));
            Box::new(move |seq_id| {
                let input = ForwardBackwardInput::new(&batch[range], &loss);
                pass.body(input, &model_id, seq_id)
            })
        });
        let request = Request {
            operation,
            path: operation,
            kind: pass.kind(),
            bodies: bodies.collect(),
            bytes: batch.iter().map(Datum::heap_bytes).sum(),
        };
        Ok(self.enqueue(request, manner)?.pending(|chunks| Ok(combine(chunks))))
    }

    fn optim_step_in(&self, params: AdamParams, manner: Manner) -> Result<Pending<OptimStepResponse>> {
        let operation = "optim_step";
        params.validate().map_err(|error| error.with_operation(operation))?;
        let model_id = Arc::clone(&self.core.model_id);
        let body: Body = Box::new(move |seq_id| {
            let adam_params = std::borrow::Cow::Borrowed(&params);
            to_json(operation, &OptimStepRequest { adam_params, model_id: (&*model_id).into(), seq_id: Some(seq_id) })
        });
        let request = Request::one(operation, "optim_step", RequestKind::OptimStep, body);
        Ok(self.enqueue(request, manner)?.pending_one())
    }

    fn save_state_in(&self, name: &str, manner: Manner) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_state";
        let (name, model_id) = (checked_name(operation, name)?, Arc::clone(&self.core.model_id));
        let body: Body = Box::new(move |seq_id| {
            let path = Some((&*name).into());
            to_json(operation, &SaveWeightsRequest { model_id: (&*model_id).into(), path, seq_id: Some(seq_id) })
        });
        let request = Request::one(operation, "save_weights", RequestKind::SaveWeights, body);
        Ok(self.enqueue(request, manner)?.pending_one())
    }

    fn load_state_in(&self, path: &str, manner: Manner) -> Result<Pending<LoadWeightsResponse>> {
        let operation = "load_state";
        check_tinker_scheme(path).map_err(|error| error.with_operation(operation))?;
        let (path, model_id) = (path.to_owned(), Arc::clone(&self.core.model_id));
        let body: Body = Box::new(move |seq_id| {
            let (model_id, path) = ((&*model_id).into(), (&*path).into());
            to_json(operation, &LoadWeightsRequest { model_id, path, optimizer: None, seq_id: Some(seq_id) })
        });
        let request = Request::one(operation, "load_weights", RequestKind::LoadWeights, body);
        Ok(self.enqueue(request, manner)?.pending_one())
    }

    fn save_for_sampler_in(&self, name: &str, manner: Manner) -> Result<Pending<SaveWeightsResponse>> {
        let operation = "save_weights_for_sampler";
        let name = checked_name(operation, name)?;
        let outcome = self.save_for_sampler(operation, Some(name), manner)?;
        Ok(outcome.pending(move |saved| {
            let path = saved.into_iter().find_map(|saved| saved.path);
            path.map(|path| SaveWeightsResponse { path })
                .ok_or_else(|| Error::new(ErrorKind::Decode, "the service saved the weights and did not say where"))
        }))
    }

    fn sampling_client_in(&self, manner: Manner) -> Result<Pending<SamplingClient>> {
        let operation = "save_weights_and_get_sampling_client";
        let session = Arc::clone(&self.core.session);
        let timeout = self.timeout_operation;
        let outcome = self.save_for_sampler(operation, None, manner)?;
        Ok(outcome.pending(move |saved| {
            let saved = saved.into_iter().next();
            let client = match saved.map(|saved| (saved.sampling_session_id, saved.path)) {
                Some((Some(id), _)) => SamplingClient::new(&session, id),
                Some((None, Some(path))) => {
                    SamplingClient::open(operation, &session, None, Some(&path), manner.deadline())?
                }
                _ => {
                    let message = "the service saved the weights and named neither a sampling session nor a path";
                    return Err(Error::new(ErrorKind::Decode, message));
                }
            };
            Ok(client.timeout_operation(timeout))
        }))
    }

    fn save_for_sampler(
        &self,
        operation: &'static str,
        name: Option<String>,
        manner: Manner,
    ) -> Result<Outcome<SaveWeightsForSamplerResponse>> {
        let (model_id, counter) = (Arc::clone(&self.core.model_id), Arc::clone(self.core.session.sampling_sessions()));
        let body: Body = Box::new(move |seq_id| {
            let sampling_session_seq_id = name.is_none().then(|| counter.fetch_add(1, Ordering::Relaxed));
            let (model_id, path) = ((&*model_id).into(), name.as_deref().map(Into::into));
            let seq_id = Some(seq_id);
            to_json(operation, &SaveWeightsForSamplerRequest { model_id, path, sampling_session_seq_id, seq_id })
        });
        let kind = RequestKind::SaveWeightsForSampler;
        self.enqueue(Request::one(operation, "save_weights_for_sampler", kind, body), manner)
    }

    fn enqueue<R: DeserializeOwned + Send + 'static>(&self, request: Request, manner: Manner) -> Result<Outcome<R>> {
        let Request { operation, path, kind, bodies, bytes } = request;
        let (slots, parts) = Slots::<R>::new(operation, bodies.len());
        let requests: Vec<(Body, Part)> = bodies.into_iter().zip(parts).collect();
        let job = Job { path, kind, requests, bytes, deadline: manner.deadline() };
        self.core.queue.submit(job, manner.room()).map_err(|error| error.with_operation(operation))?;
        let clock = self.core.session.config().clock().clone();
        let alive = Arc::clone(&self.core) as Arc<_>;
        Ok(Outcome { slots, operation, clock, manner, alive })
    }
}

impl fmt::Debug for TrainingClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrainingClient").field("model_id", &self.core.model_id).finish_non_exhaustive()
    }
}

/// The two kinds of pass over a batch.
#[derive(Clone, Copy)]
enum Pass {
    Forward,
    ForwardBackward,
}

impl Pass {
    fn name(self) -> &'static str {
        match self {
            Pass::Forward => "forward",
            Pass::ForwardBackward => "forward_backward",
        }
    }

    fn kind(self) -> RequestKind {
        match self {
            Pass::Forward => RequestKind::Forward,
            Pass::ForwardBackward => RequestKind::ForwardBackward,
        }
    }

    fn body(self, input: ForwardBackwardInput<'_>, model_id: &str, seq_id: u64) -> Result<Vec<u8>> {
        let (model_id, seq_id) = (model_id.into(), Some(seq_id));
        match self {
            Pass::Forward => to_json(self.name(), &ForwardRequest { forward_input: input, model_id, seq_id }),
            Pass::ForwardBackward => {
                to_json(self.name(), &ForwardBackwardRequest { forward_backward_input: input, model_id, seq_id })
            }
        }
    }
}

/// The result of a batch from those of its chunks: outputs in order, metrics reduced.
fn combine(chunks: Vec<ForwardBackwardOutput>) -> ForwardBackwardOutput {
    let parts: Vec<_> = chunks.iter().map(|chunk| (&chunk.metrics, chunk.loss_fn_outputs.len())).collect();
    let metrics = metrics::reduce(&parts);
    let mut combined = ForwardBackwardOutput::default();
    for chunk in chunks {
        combined.loss_fn_output_type = chunk.loss_fn_output_type;
        combined.loss_fn_outputs.extend(chunk.loss_fn_outputs);
    }
    combined.metrics = metrics;
    combined
}

fn checked_name(operation: &'static str, name: &str) -> Result<String> {
    if name.trim().is_empty() {
        return Err(Error::invalid_input("the name of the checkpoint is empty").with_operation(operation));
    }
    Ok(name.to_owned())
}

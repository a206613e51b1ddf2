//! The client that opens a session and makes the other clients.

mod close;
mod create;
mod export;
mod from_state;
mod from_state_options;
mod status;
mod training_client_builder;
mod training_options;

use std::sync::Arc;
use std::time::Duration;

pub use from_state_options::FromStateOptions;
pub use training_client_builder::{FromStateBuilder, LoraBuilder, TrainingClientBuilder};
pub use training_options::TrainingOptions;

use crate::api::Api;
use crate::config::Config;
use crate::error::Result;
use crate::pending::{CallHandle, CallMode, Pending, PollingSession, TrackedPromise};
use crate::rest::CopyWeights;
use crate::rest::client::RestClient;
use crate::sampling::{SamplerOptions, SamplingClient};
use crate::session::Telemetry;
use crate::training::TrainingClient;
use crate::types::{PromiseResult, RequestKind, session_page};

/// A session with the service, and the factory of its clients. Cheap to clone.
///
/// The session owns the threads that its clients share. They end with [`close`](ServiceClient::close), or when the last of its
/// clients and [`Pending`]s is dropped.
///
/// A `fork` copies the memory of a process without its threads. There, each call of a client that was connected before fails at
/// once with an error of kind [`Closed`](crate::ErrorKind::Closed), and closing or dropping it neither blocks nor ends the session.
/// Connect in the fork to use the service there. The fork has copies of the open connections: they take descriptors of it until it
/// ends or runs another program, and they keep none open that this process has closed.
///
/// # Examples
///
/// ```no_run
/// use tinkex::{Config, ServiceClient};
///
/// let service = ServiceClient::connect(Config::from_env()?)?;
/// for model in service.get_server_capabilities()?.supported_models {
///     println!("{}", model.model_name.unwrap_or_default());
/// }
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServiceClient {
    session: PollingSession,
    timeout_operation: Option<Duration>,
}

impl ServiceClient {
    /// Opens a session. Messages from the service in its response are logged. Blocks for one request and its retries.
    ///
    /// # Errors
    ///
    /// Any error of the request, such as no connection, a rejected key, or a server that does not speak the protocol.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "local")] {
    /// use tinkex::{Config, ServiceClient};
    ///
    /// let server = tinkex::local::LocalServer::start()?;
    /// let config = Config::builder().base_url(server.base_url()).api_key("tml-local").build()?;
    /// let service = ServiceClient::connect(config)?;
    /// println!("session {}", service.session_id());
    /// # }
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn connect(config: Config) -> Result<Self> {
        let timeout_operation = config.timeout_operation();
        Ok(ServiceClient { session: PollingSession::open(&config)?, timeout_operation })
    }

    /// The configuration.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// println!("{}", service.config().base_url());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn config(&self) -> &Config {
        self.session.config()
    }

    /// The id of the session.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// println!("session {}", service.session_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn session_id(&self) -> &str {
        self.session.inner().id()
    }

    /// The address of the session's page in the service's web console. `None` unless the service is the official one: others
    /// have no console. Makes no request. [`TrainingClient::get_console_url`] has that of a training run,
    /// [`CheckpointPath`](crate::types::CheckpointPath) those of a checkpoint.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// if let Some(url) = service.get_console_url() {
    ///     println!("see {url}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn get_console_url(&self) -> Option<String> {
        self.config().is_official().then(|| session_page(self.session_id()))
    }

    /// A client of the same session whose blocking calls and waits, and those of the clients that it makes, time out after
    /// `timeout`; `None` is no limit. Defaults to [`Config::timeout_operation`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// use std::time::Duration;
    ///
    /// let hasty = service.with_timeout_operation(Some(Duration::from_secs(30)));
    /// hasty.health()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_timeout_operation(&self, timeout: Option<Duration>) -> Self {
        ServiceClient { session: self.session.clone(), timeout_operation: timeout }
    }

    /// Starts to build a training client, on a base model or from a saved state.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// let path = "tinker://run-1/weights/0100";
    /// let trainer = service.training_client().from_state(path).with_optimizer().user_metadata("resumed", "yes").create()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn training_client(&self) -> TrainingClientBuilder {
        TrainingClientBuilder::new(self)
    }

    /// Creates a LoRA adapter on a base model, to train. Blocks.
    ///
    /// The options are a [`LoraConfig`](crate::types::LoraConfig), or [`TrainingOptions`] to add metadata.
    /// [`training_client`](ServiceClient::training_client) does the same without blocking.
    ///
    /// # Errors
    ///
    /// As [`LoraBuilder::create`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// use tinkex::TrainingOptions;
    /// use tinkex::types::LoraConfig;
    ///
    /// let plain = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default())?;
    /// let options = TrainingOptions::from(LoraConfig::default().rank(16)).user_metadata("experiment", "7b");
    /// let tagged = service.create_lora_training_client("Qwen/Qwen3-8B", options)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_lora_training_client(
        &self,
        base_model: &str,
        options: impl Into<TrainingOptions>,
    ) -> Result<TrainingClient> {
        self.training_client().lora(base_model).options(options).create()
    }

    /// Creates a LoRA adapter like the one that a checkpoint was saved from, and loads its weights. The optimizer starts fresh,
    /// unless the options say otherwise. Blocks for several requests.
    ///
    /// The options are the path of the checkpoint, or [`FromStateOptions`] to load the optimizer's state, to add metadata, for another
    /// base model or optimizer, and for a token for weights of another user. The base model and the rank are those of the
    /// checkpoint's training run, and so is the metadata, where the options do not replace it.
    /// [`training_client`](ServiceClient::training_client) does the same without blocking.
    ///
    /// # Errors
    ///
    /// As [`FromStateBuilder::create`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// use tinkex::FromStateOptions;
    ///
    /// let plain = service.create_training_client_from_state("tinker://run-1/weights/0100")?;
    /// let options = FromStateOptions::new("tinker://run-1/weights/0100").user_metadata("continued", "yes");
    /// let tagged = service.create_training_client_from_state(options)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_training_client_from_state(&self, options: impl Into<FromStateOptions>) -> Result<TrainingClient> {
        self.training_client().from_state(options).create()
    }

    /// The same as [`create_training_client_from_state`](ServiceClient::create_training_client_from_state), with the
    /// optimizer's state. Blocks for several requests.
    ///
    /// # Errors
    ///
    /// As [`FromStateBuilder::create`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// let trainer = service.create_training_client_from_state_with_optimizer("tinker://run-1/weights/0100")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_training_client_from_state_with_optimizer(
        &self,
        options: impl Into<FromStateOptions>,
    ) -> Result<TrainingClient> {
        self.training_client().from_state(options).with_optimizer().create()
    }

    /// Opens a client that samples from a base model, or from saved weights by the path that the service gave for them, such as
    /// `tinker://RUN/sampler_weights/NAME`. Text with `://` is a path; [`SamplerOptions`] name both, and add settings. Blocks for one
    /// request.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty name or path, one with a line break, or neither, before
    /// any request; otherwise any error of the request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient, saved: tinkex::types::SaveWeightsResponse) -> tinkex::Result<()> {
    /// use tinkex::SamplerOptions;
    ///
    /// let base = service.create_sampling_client("Qwen/Qwen3-8B")?;
    /// let tuned = service.create_sampling_client(&saved.path)?;
    /// let options = SamplerOptions::new().model_path(saved.path).base_model("Qwen/Qwen3-8B");
    /// let checked = service.create_sampling_client(options)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_sampling_client(&self, options: impl Into<SamplerOptions>) -> Result<SamplingClient> {
        let deadline = self.blocking().deadline();
        let client = SamplingClient::open("create_sampling_client", &self.session, options.into(), deadline)?;
        Ok(client.with_timeout_operation(self.timeout_operation))
    }

    /// The result of a promise that is known by its id, such as an error's [`request_id`](crate::Error::request_id). The service
    /// keeps results for a while after it has delivered them. Does not block.
    ///
    /// `T` is the type of the result: [`ForwardBackwardOutput`](crate::types::ForwardBackwardOutput) for `Forward` and
    /// `ForwardBackward` (of one request: a large batch has several), otherwise the response type that starts with the name of
    /// the kind, such as [`OptimStepResponse`](crate::types::OptimStepResponse). [`PromiseResult`] says how to use another type.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient, error: tinkex::Error) -> tinkex::Result<()> {
    /// use tinkex::types::{OptimStepResponse, RequestKind};
    ///
    /// if let Some(id) = error.request_id() {
    ///     service.pending::<OptimStepResponse>(id, RequestKind::OptimStep).wait()?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pending<T: PromiseResult>(&self, request_id: &str, kind: RequestKind) -> Pending<T> {
        let operation = "pending";
        let (handle, completer) = CallHandle::<T>::new(operation);
        let (poller, config) = (self.session.poller(), self.config());
        let (client, now) = (poller.new_client(false), config.clock().now());
        poller.track(TrackedPromise::new(request_id, kind, client, completer, config, now));
        self.session.call(operation, handle, self.submitting()).pending_one()
    }

    /// A client for training runs, checkpoints, sessions and samplers, over the connections of this session. Makes no request.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// for run in service.create_rest_client().training_runs() {
    ///     println!("{}", run?.training_run_id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn create_rest_client(&self) -> RestClient {
        RestClient::of(Arc::clone(self.session.http()), Some(Arc::clone(self.session.inner())), self.timeout_operation)
    }

    /// Copies a checkpoint to a project, as [`RestClient::copy_weights`] does. Returns the copy's path. Blocks for one request.
    ///
    /// # Errors
    ///
    /// As [`RestClient::copy_weights`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// use tinkex::rest::CopyWeights;
    ///
    /// let copy = CopyWeights::new("tinker://run-1/weights/epoch-1");
    /// println!("{}", service.copy_weights(&copy)?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_weights(&self, copy: &CopyWeights) -> Result<String> {
        self.create_rest_client().copy_weights(copy)
    }

    /// Low-level access to the service, over the connections of this session, for requests that no client method makes. Makes
    /// no request itself.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// let health: tinkex::types::HealthResponse = service.api().get("/api/v1/healthz").send()?.json()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn api(&self) -> Api {
        Api::of(Arc::clone(self.session.http()), Some(Arc::clone(self.session.inner())), self.timeout_operation)
    }

    /// Reports events to the service's operators. Does nothing if telemetry is off.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) {
    /// use tinkex::types::Severity;
    ///
    /// service.telemetry().log("run.resumed", serde_json::json!({"step": 300}), Severity::Info);
    /// # }
    /// ```
    #[must_use]
    #[doc(alias = "get_telemetry")]
    pub fn telemetry(&self) -> Telemetry {
        self.session.inner().telemetry()
    }

    fn blocking(&self) -> CallMode {
        CallMode::blocking(self.config().clock(), self.timeout_operation)
    }

    fn submitting(&self) -> CallMode {
        CallMode::submitting(self.timeout_operation)
    }
}

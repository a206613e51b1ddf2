//! The way in: one connection to the service.

mod create;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use create::TrainingOptions;
use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{Limits, Purpose, Request};
use crate::pending::{Manner, Outcome, Pending, PollGroup, Promised, Slots};
use crate::rest::client::RestClient;
use crate::sampling::SamplingClient;
use crate::session::{Session, Telemetry};
use crate::training::TrainingClient;
use crate::types::{GetServerCapabilitiesResponse, HealthResponse, RequestKind};

/// One session with the service, and the maker of its clients. Cheap to clone.
///
/// It owns the threads that its clients share. They end with [`close`](ServiceClient::close), or with the last service,
/// training and sampling client and the last [`Pending`] made through it.
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
    session: Arc<Session>,
    timeout_operation: Option<Duration>,
}

impl ServiceClient {
    /// Creates a session on the service. Messages that the service sends along are logged. Blocks for one request and its
    /// retries.
    ///
    /// # Errors
    ///
    /// No connection, a refused key, or a server that does not speak the protocol.
    pub fn connect(config: Config) -> Result<Self> {
        let timeout_operation = config.timeout_operation();
        Ok(ServiceClient { session: Arc::new(Session::open(&config)?), timeout_operation })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        self.session.config()
    }

    /// The id of the session.
    #[must_use]
    pub fn session_id(&self) -> &str {
        self.session.id()
    }

    /// A client of the same session whose blocking calls and waits, and those of the clients it makes, end after so long;
    /// `None` is without end.
    #[must_use]
    pub fn timeout_operation(&self, timeout: Option<Duration>) -> Self {
        ServiceClient { session: Arc::clone(&self.session), timeout_operation: timeout }
    }

    /// The models that the service offers. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever ended the request.
    pub fn get_server_capabilities(&self) -> Result<GetServerCapabilitiesResponse> {
        self.get("get_server_capabilities", "get_server_capabilities")
    }

    /// Whether the service is well. Blocks.
    ///
    /// # Errors
    ///
    /// Whatever ended the request.
    pub fn health(&self) -> Result<HealthResponse> {
        self.get("health", "healthz")
    }

    /// Creates a LoRA adapter on a base model, to train. Blocks.
    ///
    /// The options are a [`LoraConfig`](crate::types::LoraConfig), or [`TrainingOptions`] to give metadata along.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty name or a LoRA configuration that trains nothing,
    /// before any request; else whatever ended the request.
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
    /// let noted = service.create_lora_training_client("Qwen/Qwen3-8B", options)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_lora_training_client(
        &self,
        base_model: &str,
        options: impl Into<TrainingOptions>,
    ) -> Result<TrainingClient> {
        self.create_in(base_model, options.into(), self.blocking())?.wait()
    }

    /// Submits [`create_lora_training_client`](ServiceClient::create_lora_training_client).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), [`QueueFull`](crate::ErrorKind::QueueFull) or
    /// [`Closed`](crate::ErrorKind::Closed); the rest comes from the [`Pending`].
    pub fn submit_create_lora_training_client(
        &self,
        base_model: &str,
        options: impl Into<TrainingOptions>,
    ) -> Result<Pending<TrainingClient>> {
        self.create_in(base_model, options.into(), self.submitting())
    }

    /// Creates a LoRA adapter like the one that a checkpoint was saved from, and loads its weights; the optimizer begins
    /// anew. Blocks.
    ///
    /// Base model and rank are those of the checkpoint's training run, and so is the metadata, under the entries given here.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a path that is not `tinker://RUN/weights/NAME`, before any
    /// request, and for a run that is not of a LoRA adapter; else whatever ended one of the requests.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
    /// use std::collections::BTreeMap;
    ///
    /// let metadata = BTreeMap::from([("continued".to_owned(), "yes".to_owned())]);
    /// let trainer = service.create_training_client_from_state("tinker://run-1/weights/0100", &metadata)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn create_training_client_from_state(
        &self,
        path: &str,
        user_metadata: &BTreeMap<String, String>,
    ) -> Result<TrainingClient> {
        self.create_from_state_in(path, user_metadata, false, self.blocking())?.wait()
    }

    /// Submits [`create_training_client_from_state`](ServiceClient::create_training_client_from_state). The result is there
    /// when the adapter is; waiting for it then loads the weights, on the waiting thread.
    ///
    /// # Errors
    ///
    /// As [`submit_create_lora_training_client`](ServiceClient::submit_create_lora_training_client).
    pub fn submit_create_training_client_from_state(
        &self,
        path: &str,
        user_metadata: &BTreeMap<String, String>,
    ) -> Result<Pending<TrainingClient>> {
        self.create_from_state_in(path, user_metadata, false, self.submitting())
    }

    /// The same as [`create_training_client_from_state`](ServiceClient::create_training_client_from_state), with the
    /// optimizer's state. Blocks.
    ///
    /// # Errors
    ///
    /// As [`create_training_client_from_state`](ServiceClient::create_training_client_from_state).
    pub fn create_training_client_from_state_with_optimizer(
        &self,
        path: &str,
        user_metadata: &BTreeMap<String, String>,
    ) -> Result<TrainingClient> {
        self.create_from_state_in(path, user_metadata, true, self.blocking())?.wait()
    }

    /// Submits [`create_training_client_from_state_with_optimizer`], as
    /// [`submit_create_training_client_from_state`](ServiceClient::submit_create_training_client_from_state) does.
    ///
    /// [`create_training_client_from_state_with_optimizer`]:
    ///     ServiceClient::create_training_client_from_state_with_optimizer
    ///
    /// # Errors
    ///
    /// As [`submit_create_lora_training_client`](ServiceClient::submit_create_lora_training_client).
    pub fn submit_create_training_client_from_state_with_optimizer(
        &self,
        path: &str,
        user_metadata: &BTreeMap<String, String>,
    ) -> Result<Pending<TrainingClient>> {
        self.create_from_state_in(path, user_metadata, true, self.submitting())
    }

    /// Opens a client that samples from a base model, or from saved weights by their `tinker://` path. Blocks.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty name or another scheme; else whatever ended the
    /// request.
    pub fn create_sampling_client(&self, model: &str) -> Result<SamplingClient> {
        let operation = "create_sampling_client";
        if model.trim().is_empty() {
            return Err(Error::invalid_input("the name of the model is empty").with_operation(operation));
        }
        let (base_model, path) = if model.contains("://") { (None, Some(model)) } else { (Some(model), None) };
        let client = SamplingClient::open(operation, &self.session, base_model, path, self.blocking().deadline())?;
        Ok(client.timeout_operation(self.timeout_operation))
    }

    /// A promise known only by its id, for instance from an error's
    /// [`request_id`](Error::request_id). The service keeps results for a while after they were delivered. Does not block.
    ///
    /// `T` is the answer's type: [`ForwardBackwardOutput`](crate::types::ForwardBackwardOutput) for `Forward` and
    /// `ForwardBackward` (of one request: a large batch has several), otherwise the type that the kind's name begins, such as
    /// [`OptimStepResponse`](crate::types::OptimStepResponse).
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
    pub fn pending<T: DeserializeOwned + Send + 'static>(&self, request_id: &str, kind: RequestKind) -> Pending<T> {
        let (slots, parts) = Slots::<T>::new("pending", 1);
        for part in parts {
            self.session.poller().ask(Promised {
                request_id: request_id.into(),
                kind,
                round_trip: Duration::ZERO,
                group: PollGroup { client: self.session.next_client(), ordered: false },
                part,
                resubmit: None,
                timeout_progress: None,
            });
        }
        self.outcome(slots, "pending", self.submitting()).pending_one()
    }

    /// A client of training runs, checkpoints, sessions and samplers, over the connections of this session. Makes no request.
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
        RestClient::of(Arc::clone(self.session.http()), Some(Arc::clone(&self.session)), self.timeout_operation)
    }

    /// The low-level door to the service, over the connections of this session, for what the clients lack.
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
        Api::of(Arc::clone(self.session.http()), Some(Arc::clone(&self.session)), self.timeout_operation)
    }

    /// Reports to the service's operators. Does nothing where telemetry is off.
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
        self.session.telemetry()
    }

    /// Ends the session: every request in flight and every thread. Whoever waits gets an error of kind
    /// [`Closed`](crate::ErrorKind::Closed), also through clones and the clients made from it.
    ///
    /// Blocks until the threads have ended and the telemetry that is left was sent, at most so long, and less when the service
    /// does not take it; what cannot be ended by then (a name lookup) is left behind
    /// with a warning. A second call does nothing.
    pub fn close(&self, timeout: Duration) {
        self.session.close(timeout);
    }

    fn get<T: DeserializeOwned>(&self, operation: &'static str, path: &'static str) -> Result<T> {
        let http = self.session.http();
        let limits = Limits { deadline: self.blocking().deadline(), ..http.limits(operation, Purpose::Session) };
        http.send(&Request::get(path), &limits)?.json(operation)
    }

    fn blocking(&self) -> Manner {
        Manner::blocking(self.config().clock(), self.timeout_operation)
    }

    fn submitting(&self) -> Manner {
        Manner::submitting(self.timeout_operation)
    }

    fn outcome<R>(&self, slots: Slots<R>, operation: &'static str, manner: Manner) -> Outcome<R> {
        let clock = self.config().clock().clone();
        Outcome { slots, operation, clock, manner, alive: Arc::clone(&self.session) as Arc<_> }
    }
}

//! The way in: one connection to the service.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::api::Api;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::http::{Call, Purpose, Repeat, to_json};
use crate::pending::{Manner, Outcome, Part, Pending, PollGroup, Promised, Slots};
use crate::sampling::SamplingClient;
use crate::session::{Session, Task};
use crate::training::TrainingClient;
use crate::types::{
    CreateModelRequest, CreateModelResponse, GetServerCapabilitiesResponse, HealthResponse, LoraConfig, Promise,
    RequestKind,
};

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
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty name or a LoRA configuration that trains nothing,
    /// before any request; else whatever ended the request.
    pub fn create_lora_training_client(&self, base_model: &str, lora: LoraConfig) -> Result<TrainingClient> {
        self.create_in(base_model, lora, self.blocking())?.wait()
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
        lora: LoraConfig,
    ) -> Result<Pending<TrainingClient>> {
        self.create_in(base_model, lora, Manner::submitting(self.timeout_operation))
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
    /// [`request_id`](Error::request_id). The service keeps results for a while after they were delivered.
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
            });
        }
        self.outcome(slots, "pending", Manner::submitting(self.timeout_operation)).pending_one()
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

    /// Ends the session: every request in flight and every thread. Whoever waits gets an error of kind
    /// [`Closed`](crate::ErrorKind::Closed), also through clones and the clients made from it.
    ///
    /// Blocks until the threads have ended, at most so long; what can not be ended by then (a name lookup) is left behind
    /// with a warning. A second call does nothing.
    pub fn close(&self, timeout: Duration) {
        self.session.close(timeout);
    }

    fn get<T: DeserializeOwned>(&self, operation: &'static str, path: &'static str) -> Result<T> {
        let idle = self.config().timeout_idle();
        let call = Call { deadline: self.blocking().deadline(), ..Call::get(operation, Purpose::Session, path, idle) };
        self.session.http().send(&call)?.json(operation)
    }

    fn blocking(&self) -> Manner {
        Manner::blocking(self.config().clock(), self.timeout_operation)
    }

    fn outcome<R>(&self, slots: Arc<Slots<R>>, operation: &'static str, manner: Manner) -> Outcome<R> {
        let clock = self.config().clock().clone();
        Outcome { slots, operation, clock, manner, alive: Arc::clone(&self.session) as Arc<_> }
    }

    fn create_in(&self, base_model: &str, lora: LoraConfig, manner: Manner) -> Result<Pending<TrainingClient>> {
        let operation = "create_lora_training_client";
        if base_model.trim().is_empty() {
            return Err(Error::invalid_input("the name of the base model is empty").with_operation(operation));
        }
        lora.validate().map_err(|error| error.with_operation(operation))?;
        let request = CreateModelRequest {
            session_id: self.session.id().into(),
            model_seq_id: self.session.next_model(),
            base_model: base_model.into(),
            user_metadata: None,
            lora_config: Some(lora),
        };
        let body = to_json(operation, &request)?;
        let (slots, parts) = Slots::<CreateModelResponse>::new(operation, 1);
        for part in parts {
            let submit = self.model_submission(body.clone(), part, manner);
            if manner.blocks() {
                slots.waited_for();
                submit();
            } else {
                self.session.submitters().submit(submit).map_err(|(_, error)| error.with_operation(operation))?;
            }
        }
        let (session, timeout) = (Arc::clone(&self.session), self.timeout_operation);
        Ok(self.outcome(slots, operation, manner).pending(move |created| {
            let model_id = created.into_iter().next().map(|created| created.model_id).unwrap_or_default();
            Ok(TrainingClient::new(&session, &model_id)?.timeout_operation(timeout))
        }))
    }

    /// Submits a create_model; holds no session, since a thread of the session runs it.
    fn model_submission(&self, body: Vec<u8>, part: Part, manner: Manner) -> Task {
        let (http, poller) = (Arc::clone(self.session.http()), self.session.poller().clone());
        let group = PollGroup { client: self.session.next_client(), ordered: false };
        Box::new(move || {
            let config = http.config();
            let call = Call {
                repeat: Repeat::Window,
                deadline: manner.deadline(),
                ..Call::post(part.operation(), Purpose::Training, "create_model", config.timeout_idle(), &body)
            };
            let began = config.clock().now();
            match part.begin().and_then(|()| http.send(&call)).and_then(|answer| answer.json::<Promise>(call.operation))
            {
                Ok(promise) => poller.ask(Promised {
                    request_id: promise.request_id.into(),
                    kind: RequestKind::CreateModel,
                    round_trip: config.clock().now() - began,
                    group,
                    part,
                    resubmit: None,
                }),
                Err(error) => part.resolve(Err(error)),
            }
        })
    }
}

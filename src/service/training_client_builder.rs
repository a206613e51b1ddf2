//! Builders of training clients.

use super::{FromStateOptions, ServiceClient, TrainingOptions};
use crate::error::Result;
use crate::pending::Pending;
use crate::training::TrainingClient;
use crate::types::OptimizerConfig;

/// Chooses what a new training client starts from. Obtained from [`ServiceClient::training_client`].
///
/// # Examples
///
/// ```no_run
/// # fn f(service: tinkex::ServiceClient) -> tinkex::Result<()> {
/// use tinkex::types::LoraConfig;
///
/// let fresh = service.training_client().lora("Qwen/Qwen3-8B").options(LoraConfig::default().rank(16)).submit()?;
/// let resumed = service.training_client().from_state("tinker://run-1/weights/0100").with_optimizer().submit()?;
/// let (fresh, resumed) = (fresh.wait()?, resumed.wait()?);
/// let token = std::env::var("WEIGHTS_TOKEN").unwrap_or_default();
/// let shared = service.training_client().from_state("tinker://run-2/weights/0100").weights_access_token(token).create()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TrainingClientBuilder {
    service: ServiceClient,
}

impl TrainingClientBuilder {
    pub(super) fn new(service: &ServiceClient) -> Self {
        TrainingClientBuilder { service: service.clone() }
    }

    /// Starts from a new LoRA adapter on a base model.
    pub fn lora(self, base_model: impl Into<String>) -> LoraBuilder {
        LoraBuilder { service: self.service, base_model: base_model.into(), options: TrainingOptions::new() }
    }

    /// Starts from a state that [`TrainingClient::save_state`] saved, by the path that it returned, or with [`FromStateOptions`].
    /// The base model and the rank are those of the checkpoint.
    pub fn from_state(self, options: impl Into<FromStateOptions>) -> FromStateBuilder {
        FromStateBuilder { service: self.service, from: options.into() }
    }
}

/// Builds a training client with a new LoRA adapter. Obtained from [`TrainingClientBuilder::lora`].
#[derive(Clone, Debug)]
#[must_use]
pub struct LoraBuilder {
    service: ServiceClient,
    base_model: String,
    options: TrainingOptions,
}

impl LoraBuilder {
    /// The adapter and the metadata: [`TrainingOptions`], or a [`LoraConfig`](crate::types::LoraConfig). Defaults to
    /// [`TrainingOptions::default`].
    pub fn options(mut self, options: impl Into<TrainingOptions>) -> Self {
        self.options = options.into();
        self
    }

    /// Creates the client. Blocks.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty name, a line break in the name, or a LoRA
    /// configuration that trains nothing, before any request; otherwise any error of a request.
    pub fn create(self) -> Result<TrainingClient> {
        self.service.create_lora(&self.base_model, self.options, self.service.blocking())?.wait()
    }

    /// Submits the creation of the client. Does not block.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), as [`create`](LoraBuilder::create), or
    /// [`Closed`](crate::ErrorKind::Closed). The [`Pending`] returns all others.
    pub fn submit(self) -> Result<Pending<TrainingClient>> {
        self.service.create_lora(&self.base_model, self.options, self.service.submitting())
    }
}

/// Builds a training client from a saved state. Obtained from [`TrainingClientBuilder::from_state`].
#[derive(Clone, Debug)]
#[must_use]
pub struct FromStateBuilder {
    service: ServiceClient,
    from: FromStateOptions,
}

impl FromStateBuilder {
    /// Also loads the optimizer's state. By default, the optimizer starts fresh.
    pub fn with_optimizer(mut self) -> Self {
        self.from = self.from.with_optimizer();
        self
    }

    /// Sets the base model, which must fit the checkpoint. Defaults to the checkpoint's.
    pub fn base_model(mut self, name: impl Into<String>) -> Self {
        self.from = self.from.base_model(name);
        self
    }

    /// Sets the optimizer of the new model. Defaults to AdamW, or to what the service says that the weights were trained with.
    pub fn optimizer_config(mut self, config: impl Into<OptimizerConfig>) -> Self {
        self.from = self.from.optimizer_config(config);
        self
    }

    /// Sets a token that gives access to weights of another user. Defaults to none. With one, the service itself creates the
    /// model like the one that the checkpoint was saved from: only the official service of 2026 does that.
    pub fn weights_access_token(mut self, token: impl Into<String>) -> Self {
        self.from = self.from.weights_access_token(token);
        self
    }

    /// Adds one entry to the metadata of the new training run. It replaces the entry of that key in the metadata of the
    /// checkpoint's training run. Defaults to none.
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.from = self.from.user_metadata(key, value);
        self
    }

    /// Creates the client and loads its weights. Blocks for several requests.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a path, an empty name of a base model, or a line
    /// break, before any request, and for a checkpoint that is not a LoRA adapter; otherwise any error of a request.
    pub fn create(self) -> Result<TrainingClient> {
        self.service.create_from_state(self.from, self.service.blocking())?.wait()
    }

    /// Submits the creation of the client. Does not block. The result is ready when the adapter is created; the thread that
    /// waits for it then loads the weights.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a text that is not a path, an empty name of a base model, or a line
    /// break, or [`Closed`](crate::ErrorKind::Closed). The [`Pending`] returns all others.
    pub fn submit(self) -> Result<Pending<TrainingClient>> {
        self.service.create_from_state(self.from, self.service.submitting())
    }
}

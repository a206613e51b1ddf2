//! What to create a training client from.

use std::collections::BTreeMap;
use std::fmt;

use crate::types::{OptimizerConfig, from_text};

/// The saved state that
/// [`ServiceClient::create_training_client_from_state`](crate::ServiceClient::create_training_client_from_state) starts from, and what
/// differs from it. A path is enough.
///
/// # Examples
///
/// ```
/// use tinkex::FromStateOptions;
///
/// let options = FromStateOptions::new("tinker://run-1/weights/0100").with_optimizer().user_metadata("resumed", "yes");
/// let shared = FromStateOptions::from("tinker://run-2/weights/0100").weights_access_token("a-secret");
/// assert!(!format!("{shared:?}").contains("a-secret"));
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct FromStateOptions {
    pub(super) path: String,
    pub(super) weights_access_token: Option<String>,
    pub(super) base_model: Option<String>,
    pub(super) optimizer_config: Option<OptimizerConfig>,
    /// Whether to load the optimizer's state.
    pub(super) with_optimizer: bool,
    pub(super) user_metadata: BTreeMap<String, String>,
}

impl FromStateOptions {
    /// The state at this path, as [`TrainingClient::save_state`](crate::TrainingClient::save_state) returned it. The base model and the
    /// rank are those of the checkpoint; the optimizer starts fresh.
    pub fn new(path: impl Into<String>) -> Self {
        FromStateOptions { path: path.into(), ..FromStateOptions::default() }
    }

    /// Also loads the optimizer's state. By default, the optimizer starts fresh.
    pub fn with_optimizer(mut self) -> Self {
        self.with_optimizer = true;
        self
    }

    /// Sets the base model, which must fit the checkpoint. Defaults to the checkpoint's.
    pub fn base_model(mut self, name: impl Into<String>) -> Self {
        self.base_model = Some(name.into());
        self
    }

    /// Sets the optimizer of the new model. Defaults to AdamW, or to what the service says that the weights were trained with.
    pub fn optimizer_config(mut self, config: impl Into<OptimizerConfig>) -> Self {
        self.optimizer_config = Some(config.into());
        self
    }

    /// Sets a token that gives access to weights of another user. Defaults to none. With one, the service itself creates the
    /// model like the one that the checkpoint was saved from: only the official service of 2026 does that.
    pub fn weights_access_token(mut self, token: impl Into<String>) -> Self {
        self.weights_access_token = Some(token.into());
        self
    }

    /// Adds one entry to the metadata of the new training run. It replaces the entry of that key in the metadata of the
    /// checkpoint's training run. Defaults to none.
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }
}

impl fmt::Debug for FromStateOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromStateOptions")
            .field("path", &self.path)
            .field("base_model", &self.base_model)
            .field("optimizer_config", &self.optimizer_config)
            .field("with_optimizer", &self.with_optimizer)
            .finish_non_exhaustive()
    }
}

from_text!(FromStateOptions);

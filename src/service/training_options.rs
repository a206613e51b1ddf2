//! The options of a new training client.

use std::collections::BTreeMap;

use crate::types::{LoraConfig, OptimizerConfig};

/// The adapter to train, its optimizer, and the metadata that the service keeps with the training run.
///
/// Without metadata, and with AdamW, a [`LoraConfig`] is enough.
///
/// # Examples
///
/// ```
/// use tinkex::TrainingOptions;
/// use tinkex::types::{DimuonOptimizerConfig, LoraConfig};
///
/// let options = TrainingOptions::from(LoraConfig::default().rank(16)).user_metadata("experiment", "7b");
/// let options = options.optimizer_config(DimuonOptimizerConfig::new());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct TrainingOptions {
    pub(super) lora: LoraConfig,
    pub(super) optimizer_config: Option<OptimizerConfig>,
    pub(super) user_metadata: BTreeMap<String, String>,
}

impl TrainingOptions {
    /// The default adapter and optimizer, without metadata.
    pub fn new() -> Self {
        TrainingOptions::default()
    }

    /// The shape of the adapter. Defaults to [`LoraConfig::default`].
    pub fn lora(mut self, lora: LoraConfig) -> Self {
        self.lora = lora;
        self
    }

    /// The optimizer. Defaults to AdamW; then nothing about it is sent, since servers of 2025 know no other.
    pub fn optimizer_config(mut self, config: impl Into<OptimizerConfig>) -> Self {
        self.optimizer_config = Some(config.into());
        self
    }

    /// Adds one entry to the metadata that the service keeps with the training run. Defaults to none.
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }
}

impl From<LoraConfig> for TrainingOptions {
    fn from(lora: LoraConfig) -> Self {
        TrainingOptions::new().lora(lora)
    }
}

//! The options of a new training client.

use std::collections::BTreeMap;

use crate::types::LoraConfig;

/// The adapter to train, and the metadata that the service keeps with the training run.
///
/// Without metadata, a [`LoraConfig`] is enough.
///
/// # Examples
///
/// ```
/// use tinkex::TrainingOptions;
/// use tinkex::types::LoraConfig;
///
/// let options = TrainingOptions::from(LoraConfig::default().rank(16)).user_metadata("experiment", "7b");
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct TrainingOptions {
    pub(super) lora: LoraConfig,
    pub(super) user_metadata: BTreeMap<String, String>,
}

impl TrainingOptions {
    /// The default adapter, without metadata.
    pub fn new() -> Self {
        TrainingOptions::default()
    }

    /// The shape of the adapter. Defaults to [`LoraConfig::default`].
    pub fn lora(mut self, lora: LoraConfig) -> Self {
        self.lora = lora;
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

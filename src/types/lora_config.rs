//! The shape of a LoRA adapter.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The shape of a LoRA adapter. Defaults to rank 32, a seed that the server chooses, and all layers.
///
/// ```
/// use tinkex::types::LoraConfig;
///
/// let attention_only = LoraConfig::new().rank(8).seed(1).train_mlp(false).train_unembed(false);
/// attention_only.validate()?;
/// assert!(attention_only.train_attn(false).validate().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LoraConfig {
    /// The rank, at least 1. Defaults to 32, as in the Python client.
    pub rank: u32,
    /// The seed of the adapter's initial weights. Defaults to none, which is not sent: the server chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Whether to train the unembedding layer. Defaults to true.
    pub train_unembed: bool,
    /// Whether to train the MLP layers. Defaults to true.
    pub train_mlp: bool,
    /// Whether to train the attention layers. Defaults to true.
    pub train_attn: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        LoraConfig { rank: 32, seed: None, train_unembed: true, train_mlp: true, train_attn: true }
    }
}

impl LoraConfig {
    /// The defaults: rank 32, a seed that the server chooses, all layers.
    #[must_use]
    pub fn new() -> Self {
        LoraConfig::default()
    }

    /// Sets the rank, at least 1. Defaults to 32.
    #[must_use]
    pub fn rank(mut self, rank: u32) -> Self {
        self.rank = rank;
        self
    }

    /// Sets the seed of the adapter's initial weights. Defaults to none: the server chooses.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets whether to train the attention layers. Defaults to true.
    #[must_use]
    pub fn train_attn(mut self, train_attn: bool) -> Self {
        self.train_attn = train_attn;
        self
    }

    /// Sets whether to train the MLP layers. Defaults to true.
    #[must_use]
    pub fn train_mlp(mut self, train_mlp: bool) -> Self {
        self.train_mlp = train_mlp;
        self
    }

    /// Sets whether to train the unembedding layer. Defaults to true.
    #[must_use]
    pub fn train_unembed(mut self, train_unembed: bool) -> Self {
        self.train_unembed = train_unembed;
        self
    }

    /// Checks the settings before they are sent.
    ///
    /// # Errors
    ///
    /// A rank of zero, and an adapter that trains no layers.
    pub fn validate(&self) -> Result<()> {
        if self.rank == 0 {
            return Err(Error::invalid_input("the LoRA rank must be at least 1"));
        }
        if !(self.train_unembed || self.train_mlp || self.train_attn) {
            return Err(Error::invalid_input("at least one of train_unembed, train_mlp and train_attn must be true"));
        }
        Ok(())
    }
}

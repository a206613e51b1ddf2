//! The dimensions of a transformer.

/// The dimensions of a [`Transformer`](super::Transformer), with the names of Hugging Face's configurations.
#[derive(Clone, Debug)]
pub(super) struct ModelConfig {
    /// Number of distinct tokens.
    pub(super) vocab_size: usize,
    /// Features of a token between layers; a multiple of twice the number of heads.
    pub(super) hidden_size: usize,
    pub(super) num_layers: usize,
    /// Attention heads per layer.
    pub(super) num_heads: usize,
    /// Features inside an MLP.
    pub(super) intermediate_size: usize,
    /// Maximum number of tokens of a sequence.
    pub(super) context_length: usize,
}

impl ModelConfig {
    /// The embedding row of a token. A token outside the vocabulary is treated as its last one, so that no input can make
    /// the model panic.
    pub(super) fn clamp_token(&self, token: u32) -> usize {
        (token as usize).min(self.vocab_size - 1)
    }
}

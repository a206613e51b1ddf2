//! The dimensions of a transformer.

/// The dimensions of a [`Transformer`](super::Transformer), with the names of Hugging Face's configurations.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::local) struct ModelConfig {
    /// Number of distinct tokens.
    pub(in crate::local) vocab_size: usize,
    /// Features of a token between layers.
    pub(in crate::local) hidden_size: usize,
    pub(in crate::local) num_layers: usize,
    /// Heads of queries per layer.
    pub(in crate::local) num_heads: usize,
    /// Heads of keys and values; divides `num_heads`. Each serves as many consecutive heads of queries.
    pub(in crate::local) num_kv_heads: usize,
    /// Features of a head; even.
    pub(in crate::local) head_size: usize,
    /// Features inside an MLP.
    pub(in crate::local) intermediate_size: usize,
    /// Maximum number of tokens of a sequence.
    pub(in crate::local) context_length: usize,
    /// Keeps the norms finite on a row of zeros.
    pub(in crate::local) rms_norm_eps: f64,
    /// The base of the angles of rotary positions.
    pub(in crate::local) rope_theta: f64,
    /// What the frequencies of rotary positions are divided by: one number for each pair of features of a head.
    pub(in crate::local) rope_divisors: Option<Vec<f64>>,
    /// Tokens that end a text.
    pub(in crate::local) end_tokens: Vec<u32>,
}

impl ModelConfig {
    /// The embedding row of a token. A token outside the vocabulary is treated as its last one, so that no input can make
    /// the model panic.
    pub(super) fn clamp_token(&self, token: u32) -> usize {
        (token as usize).min(self.vocab_size - 1)
    }

    /// Features of the queries of all heads together.
    pub(super) fn query_size(&self) -> usize {
        self.num_heads * self.head_size
    }

    /// Features of the keys, or of the values, of all heads together.
    pub(super) fn key_size(&self) -> usize {
        self.num_kv_heads * self.head_size
    }
}

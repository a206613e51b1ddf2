//! What a model says about a given sequence.

use crate::types::TokenLogprob;

/// What to report at each position of a sequence, besides the log-probability of its token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptOptions {
    /// This number of most probable tokens.
    pub top_k: usize,
}

impl PromptOptions {
    /// Nothing else.
    #[must_use]
    pub fn new() -> Self {
        PromptOptions::default()
    }

    /// Reports this number of most probable tokens. Defaults to 0.
    #[must_use]
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }
}

/// Log-probabilities of given tokens. The first token of a sequence has none.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PromptLogprobs {
    /// One entry per token, `None` for the first.
    pub logprobs: Vec<Option<f32>>,
    /// The most probable tokens at each position, most probable first; `None` for the first position.
    pub top_k: Vec<Option<Vec<TokenLogprob>>>,
}

impl PromptLogprobs {
    /// Log-probabilities with one entry per token in both lists.
    pub fn new(logprobs: Vec<Option<f32>>, top_k: Vec<Option<Vec<TokenLogprob>>>) -> Self {
        PromptLogprobs { logprobs, top_k }
    }
}

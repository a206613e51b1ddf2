//! What a model says about a given sequence.

use crate::types::TokenLogprob;

/// What to report about the tokens of a sequence. Nothing is ever reported about the first one, which has no predecessor.
///
/// ```
/// use tinkex::local::model::{Model, PromptOptions, SamplingContext};
/// use tinkex::local::transformer::Transformer;
///
/// let options = PromptOptions::new().top_k(2).last_n(1).targets(vec![vec![], vec![], vec![98, 99]]).alternatives(4).seed(1);
/// let prompt = Transformer::bytes_tiny().prompt_logprobs(&SamplingContext::base(), &[97, 98, 99], &options);
/// assert!(prompt.logprobs[1].is_none() && prompt.logprobs[2].is_some());
/// assert_eq!(prompt.targets[2][1], prompt.logprobs[2].unwrap());
/// assert_eq!(prompt.top_k[2].as_ref().map(Vec::len), Some(2));
/// assert_eq!((prompt.alternatives[1].len(), prompt.alternatives[2].len()), (4, 4));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PromptOptions {
    /// This number of most probable tokens.
    pub top_k: usize,
    /// Log-probabilities and most probable tokens only in place of this number of last tokens; `None` means all.
    pub last_n: Option<usize>,
    /// The tokens whose log-probabilities to report in place of each token. Empty if there are none at all.
    pub targets: Vec<Vec<u32>>,
    /// This number of tokens, drawn independently in place of each token.
    pub alternatives: usize,
    /// The temperature of these draws. Zero always draws the most probable token.
    pub temperature: f32,
    /// The same seed draws the same alternatives; `None` chooses a random seed.
    pub seed: Option<u64>,
}

impl Default for PromptOptions {
    fn default() -> Self {
        PromptOptions { top_k: 0, last_n: None, targets: Vec::new(), alternatives: 0, temperature: 1.0, seed: None }
    }
}

impl PromptOptions {
    /// The log-probability of each token, and nothing else.
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

    /// Restricts log-probabilities and most probable tokens to this number of last tokens. Defaults to all.
    #[must_use]
    pub fn last_n(mut self, tokens: usize) -> Self {
        self.last_n = Some(tokens);
        self
    }

    /// Reports the log-probabilities of these tokens in place of each token. Defaults to none.
    #[must_use]
    pub fn targets(mut self, targets: Vec<Vec<u32>>) -> Self {
        self.targets = targets;
        self
    }

    /// Draws this number of tokens in place of each token. Defaults to 0.
    #[must_use]
    pub fn alternatives(mut self, count: usize) -> Self {
        self.alternatives = count;
        self
    }

    /// Sets the temperature of the alternatives. Defaults to 1.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets the seed of the alternatives. Defaults to a random one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Whether the token at a position of a sequence of this length has a log-probability.
    #[must_use]
    pub fn scores(&self, position: usize, length: usize) -> bool {
        position > 0 && position < length && self.last_n.is_none_or(|last| length - position <= last)
    }
}

/// What a model says about the tokens of a sequence. Each list has one entry per token, or none if nothing of its kind was
/// requested.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PromptLogprobs {
    /// The log-probability of each token; `None` for the first, and for those that were not requested.
    pub logprobs: Vec<Option<f32>>,
    /// The most probable tokens in place of each token, most probable first; `None` for the first position, and for those that
    /// were not requested.
    pub top_k: Vec<Option<Vec<TokenLogprob>>>,
    /// The log-probabilities of the requested targets; empty for the first token.
    pub targets: Vec<Vec<f32>>,
    /// The drawn tokens with their log-probabilities under the model itself; empty for the first token.
    pub alternatives: Vec<Vec<TokenLogprob>>,
    /// The number of tokens whose keys and values the model had [kept](super::KvNamespace).
    pub cached_tokens: usize,
}

impl PromptLogprobs {
    /// Log-probabilities with one entry per token in both lists, and nothing else.
    pub fn new(logprobs: Vec<Option<f32>>, top_k: Vec<Option<Vec<TokenLogprob>>>) -> Self {
        PromptLogprobs { logprobs, top_k, ..PromptLogprobs::default() }
    }
}

//! Generated text, and the options of generating it.

use crate::types::TokenLogprob;

/// The options of text generation; Tinker's [`SamplingParams`](crate::types::SamplingParams).
///
/// The default samples from the model's own distribution: temperature 1, top-p 1, no other limit.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GenerationOptions {
    /// Maximum number of tokens to generate; `None` generates up to the context length.
    pub max_tokens: Option<usize>,
    /// Zero always takes the most probable token; one samples from the model's own distribution.
    pub temperature: f32,
    /// Sample among this number of most probable tokens; `None` means all.
    pub top_k: Option<usize>,
    /// Sample among the smallest set of most probable tokens whose probabilities add up to this.
    pub top_p: f32,
    /// The same seed generates the same tokens; `None` chooses a random seed.
    pub seed: Option<u64>,
    /// Token sequences that end a sample, such as a single stop token.
    pub stop_sequences: Vec<Vec<u32>>,
    /// Texts that end a sample as soon as its text contains one.
    pub stop_strings: Vec<String>,
    /// Whether the model's end-of-text token ends a sample, too.
    pub stop_at_end_of_text: bool,
    /// Report this number of most probable tokens in place of each sampled one.
    pub topk_logprobs: usize,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        GenerationOptions {
            max_tokens: None,
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            seed: None,
            stop_sequences: Vec::new(),
            stop_strings: Vec::new(),
            stop_at_end_of_text: true,
            topk_logprobs: 0,
        }
    }
}

impl GenerationOptions {
    /// The defaults: temperature 1, top-p 1, a random seed and no other limit.
    #[must_use]
    pub fn new() -> Self {
        GenerationOptions::default()
    }

    /// Sets the maximum number of tokens to generate. Defaults to the rest of the context.
    #[must_use]
    pub fn max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// Sets the temperature. Defaults to 1.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets top-k. Defaults to all tokens.
    #[must_use]
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = Some(top_k);
        self
    }

    /// Sets top-p. Defaults to 1.
    #[must_use]
    pub fn top_p(mut self, top_p: f32) -> Self {
        self.top_p = top_p;
        self
    }

    /// Sets the seed. Defaults to a random one.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets the token sequences that end a sample. Defaults to none.
    #[must_use]
    pub fn stop_sequences(mut self, stop_sequences: Vec<Vec<u32>>) -> Self {
        self.stop_sequences = stop_sequences;
        self
    }

    /// Sets the texts that end a sample. Defaults to none.
    #[must_use]
    pub fn stop_strings(mut self, stop_strings: Vec<String>) -> Self {
        self.stop_strings = stop_strings;
        self
    }

    /// Whether the model's end-of-text token ends a sample, too. Defaults to `true`.
    #[must_use]
    pub fn stop_at_end_of_text(mut self, stop: bool) -> Self {
        self.stop_at_end_of_text = stop;
        self
    }

    /// Reports this number of most probable tokens in place of each sampled one. Defaults to 0.
    #[must_use]
    pub fn topk_logprobs(mut self, count: usize) -> Self {
        self.topk_logprobs = count;
        self
    }
}

/// Continuations of one prompt.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Samples {
    /// One after the other.
    pub sequences: Vec<Sample>,
    /// The number of tokens of the prompt whose keys and values the model had [kept](super::KvNamespace).
    pub cached_tokens: usize,
}

impl Samples {
    /// Continuations of a prompt of which nothing had been kept.
    pub fn new(sequences: Vec<Sample>) -> Self {
        Samples { sequences, cached_tokens: 0 }
    }
}

/// One continuation of a prompt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The generated tokens, including the stop sequence but not the prompt.
    pub tokens: Vec<u32>,
    /// Natural logarithm of each token's probability under the model itself, before temperature, top-k and top-p.
    pub logprobs: Vec<f32>,
    /// The most probable tokens in place of each token, most probable first; empty if not requested.
    pub topk_logprobs: Vec<Vec<TokenLogprob>>,
    /// Why generation ended.
    pub finish_reason: FinishReason,
}

impl Sample {
    /// A sample with as many log-probabilities as tokens, and no most probable ones.
    pub fn new(tokens: Vec<u32>, logprobs: Vec<f32>, finish_reason: FinishReason) -> Self {
        Sample { tokens, logprobs, topk_logprobs: Vec::new(), finish_reason }
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// A stop sequence, or the model's end-of-text token.
    Stop,
    /// The maximum number of tokens, or the context length.
    Length,
}

//! The [`Model`] trait: what the local server needs from a language model, and the plain data between the two.
//!
//! The server knows requests, promises and checkpoints; a model knows tokens and tensors. Neither sees the internals of the
//! other: the server keeps an [`Adapter`] per training run and the gradient accumulated for it, and lends both to the model
//! for one call.
//!
//! # Using a model without a server
//!
//! ```
//! use tinkex::local::adam::{Adam, AdamOptions};
//! use tinkex::local::model::{AdapterOptions, Example, GenerationOptions, Model, Objective, Tensors};
//! use tinkex::local::transformer::Transformer;
//!
//! let model = Transformer::bytes_tiny();
//! let mut adapter = model.new_adapter(&AdapterOptions::new().rank(8).seed(1));
//! let objective = Objective::cross_entropy(vec![1.0; 3]);
//! let example = Example::new(vec![97, 98, 97], vec![98, 97, 98], objective);
//!
//! let mut gradient = Tensors::new();
//! let before = model.forward_backward(&adapter, &[example.clone()], Some(&mut gradient));
//! Adam::default().step(&mut adapter.tensors, &gradient, &AdamOptions::new().learning_rate(1e-2));
//! let after = model.forward_backward(&adapter, &[example], None);
//! assert!(after[0].iter().sum::<f32>() > before[0].iter().sum::<f32>());
//!
//! let greedy = GenerationOptions::new().max_tokens(4).temperature(0.0);
//! assert!(model.sample(Some(&adapter), &[97], 1, &greedy)[0].tokens.len() <= 4);
//! ```
//!
//! # Serving your own model
//!
//! A bigram table over bytes, whose adapter is added to the logits:
//!
//! ```
//! use std::sync::Arc;
//!
//! use tinkex::local::LocalServer;
//! use tinkex::local::model::{
//!     Adapter, AdapterOptions, Example, FinishReason, GenerationOptions, Model, PromptLogprobs, Sample, Tensors,
//! };
//! use tinkex::ndarray::{Array2, s};
//!
//! #[derive(Debug)]
//! struct Bigrams;
//!
//! impl Bigrams {
//!     /// Log-probabilities of all tokens after `token`.
//!     fn logprobs(adapter: Option<&Adapter>, token: u32) -> Vec<f32> {
//!         let logits = match adapter {
//!             Some(adapter) => adapter.tensors["logits"].slice(s![token as usize, ..]).to_vec(),
//!             None => vec![0.0; 256],
//!         };
//!         let log_sum = logits.iter().map(|logit| logit.exp()).sum::<f32>().ln();
//!         logits.into_iter().map(|logit| logit - log_sum).collect()
//!     }
//! }
//!
//! impl Model for Bigrams {
//!     fn name(&self) -> &str {
//!         "example/bigrams"
//!     }
//!
//!     fn vocab_size(&self) -> usize {
//!         256
//!     }
//!
//!     fn context_length(&self) -> usize {
//!         1024
//!     }
//!
//!     fn new_adapter(&self, options: &AdapterOptions) -> Adapter {
//!         Adapter::new(options.clone(), Tensors::from([("logits".to_owned(), Array2::zeros((256, 256)))]))
//!     }
//!
//!     fn forward_backward(&self, adapter: &Adapter, batch: &[Example], mut gradient: Option<&mut Tensors>) -> Vec<Vec<f32>> {
//!         let mut all = Vec::new();
//!         for example in batch {
//!             let pairs = || example.tokens.iter().zip(&example.targets);
//!             let logprobs: Vec<f32> = pairs()
//!                 .map(|(&token, &target)| Bigrams::logprobs(Some(adapter), token)[target as usize])
//!                 .collect();
//!             if let Some(gradient) = &mut gradient {
//!                 let sum = gradient.entry("logits".to_owned()).or_insert_with(|| Array2::zeros((256, 256)));
//!                 for ((&token, &target), dlogprob) in pairs().zip(example.objective.gradient(&logprobs)) {
//!                     for (id, logprob) in Bigrams::logprobs(Some(adapter), token).into_iter().enumerate() {
//!                         let is_target = f32::from(id == target as usize);
//!                         sum[[token as usize, id]] += dlogprob * (is_target - logprob.exp());
//!                     }
//!                 }
//!             }
//!             all.push(logprobs);
//!         }
//!         all
//!     }
//!
//!     /// Always takes the most probable token.
//!     fn sample(&self, adapter: Option<&Adapter>, prompt: &[u32], count: usize, options: &GenerationOptions) -> Vec<Sample> {
//!         let (mut token, mut tokens, mut logprobs) = (prompt.last().copied().unwrap_or(0), Vec::new(), Vec::new());
//!         for _ in 0..options.max_tokens.unwrap_or(16) {
//!             let next = Bigrams::logprobs(adapter, token).into_iter().enumerate();
//!             let (id, logprob) = next.max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("the vocabulary is not empty");
//!             token = id as u32;
//!             tokens.push(token);
//!             logprobs.push(logprob);
//!         }
//!         vec![Sample::new(tokens, logprobs, FinishReason::Length); count]
//!     }
//!
//!     fn prompt_logprobs(&self, adapter: Option<&Adapter>, tokens: &[u32], _top_k: usize) -> PromptLogprobs {
//!         let pairs = tokens.windows(2).map(|pair| Some(Bigrams::logprobs(adapter, pair[0])[pair[1] as usize]));
//!         let logprobs: Vec<_> = tokens.first().map(|_| None).into_iter().chain(pairs).collect();
//!         PromptLogprobs::new(logprobs, vec![None; tokens.len()])
//!     }
//! }
//!
//! # fn main() -> tinkex::Result<()> {
//! let server = LocalServer::builder().model(Arc::new(Bigrams)).start()?;
//! # Ok(())
//! # }
//! ```

use std::{collections::BTreeMap, fmt::Debug};

use ndarray::Array2;

pub use super::objective::Objective;
use crate::types::TokenLogprob;

/// Named matrices: an adapter, or a gradient with respect to one. The order of the names is the order of every reduction,
/// and of the tensors in a checkpoint.
pub type Tensors<T = f32> = BTreeMap<String, Array2<T>>;

/// A language model that the local server can offer.
///
/// The base weights never change; everything learned is in the adapter. All methods may be called from several threads at
/// once.
///
/// Callers check their input first: token ids are below [`vocab_size`](Model::vocab_size), every example has as many targets
/// and weights as tokens, and no sequence exceeds [`context_length`](Model::context_length). A model must not panic on input
/// that violates this; its results may then be arbitrary.
pub trait Model: Debug + Send + Sync {
    /// The name by which clients request the model, such as `tinkex/bytes-tiny`.
    fn name(&self) -> &str;

    /// The id of the model's tokenizer. Defaults to `bytes`, whose tokens are the UTF-8 bytes of a text, with 256 as the
    /// end-of-text token ([`Tokenizer::bytes`](crate::Tokenizer::bytes)). The server knows no other tokenizer, and splits
    /// stop strings into bytes for every model.
    fn tokenizer(&self) -> &str {
        "bytes"
    }

    /// Number of distinct tokens; ids run from zero to one less.
    fn vocab_size(&self) -> usize;

    /// Maximum number of tokens of one sequence, prompt and sample together.
    fn context_length(&self) -> usize;

    /// A new adapter, with which the model behaves like its base. The same options always create the same tensors.
    fn new_adapter(&self, options: &AdapterOptions) -> Adapter;

    /// The natural logarithm of the probability of every target token: one vector per example, in the order of the batch.
    ///
    /// With a `gradient`, the derivative of the batch's loss (the sum over its examples, see [`Objective`]) with respect to
    /// each tensor of the adapter is *added* to the entry under the tensor's name; missing entries are created. The result
    /// does not depend on the number of threads, to the last bit.
    fn forward_backward(&self, adapter: &Adapter, batch: &[Example], gradient: Option<&mut Tensors>) -> Vec<Vec<f32>>;

    /// Generates `count` independent continuations of a prompt. Without an adapter, the base model generates them.
    fn sample(
        &self,
        adapter: Option<&Adapter>,
        prompt: &[u32],
        count: usize,
        options: &GenerationOptions,
    ) -> Vec<Sample>;

    /// The log-probability of each token of a sequence given those before it, and the `top_k` most probable tokens at each
    /// position.
    fn prompt_logprobs(&self, adapter: Option<&Adapter>, tokens: &[u32], top_k: usize) -> PromptLogprobs;
}

/// The options of a new adapter; Tinker's [`LoraConfig`](crate::types::LoraConfig).
///
/// Defaults to rank 32, seed 0 and all modules.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterOptions {
    /// Rows of `A` and columns of `B`, at least 1.
    pub rank: usize,
    /// Seed of the random numbers in `A`.
    pub seed: u64,
    /// Adapt the query, key, value and output projections of the attention layers.
    pub train_attn: bool,
    /// Adapt the gate, up and down projections of the MLPs.
    pub train_mlp: bool,
    /// Adapt the unembedding, the projection to the vocabulary.
    pub train_unembed: bool,
}

impl Default for AdapterOptions {
    fn default() -> Self {
        AdapterOptions { rank: 32, seed: 0, train_attn: true, train_mlp: true, train_unembed: true }
    }
}

impl AdapterOptions {
    /// The defaults: rank 32, seed 0 and all modules.
    #[must_use]
    pub fn new() -> Self {
        AdapterOptions::default()
    }

    /// Sets the rank. Defaults to 32.
    #[must_use]
    pub fn rank(mut self, rank: usize) -> Self {
        self.rank = rank;
        self
    }

    /// Sets the seed. Defaults to 0.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether to adapt the attention layers. Defaults to `true`.
    #[must_use]
    pub fn train_attn(mut self, train: bool) -> Self {
        self.train_attn = train;
        self
    }

    /// Whether to adapt the MLPs. Defaults to `true`.
    #[must_use]
    pub fn train_mlp(mut self, train: bool) -> Self {
        self.train_mlp = train;
        self
    }

    /// Whether to adapt the unembedding. Defaults to `true`.
    #[must_use]
    pub fn train_unembed(mut self, train: bool) -> Self {
        self.train_unembed = train;
        self
    }
}

/// Low-rank changes to the weights of a model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Adapter<T = f32> {
    /// The options that it was created with.
    pub options: AdapterOptions,
    /// `A` (rank × inputs) and `B` (outputs × rank) for each adapted projection, named as PEFT names them.
    pub tensors: Tensors<T>,
}

impl<T> Adapter<T> {
    /// An adapter with these tensors.
    pub fn new(options: AdapterOptions, tensors: Tensors<T>) -> Self {
        Adapter { options, tensors }
    }
}

/// One sequence to train on; Tinker's [`Datum`](crate::types::Datum).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Example {
    /// The input tokens.
    pub tokens: Vec<u32>,
    /// The token that should follow each of them: usually `tokens`, shifted by one.
    pub targets: Vec<u32>,
    /// The loss function and its inputs.
    pub objective: Objective,
}

impl Example {
    /// An example with as many targets as tokens.
    pub fn new(tokens: Vec<u32>, targets: Vec<u32>, objective: Objective) -> Self {
        Example { tokens, targets, objective }
    }
}

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
    /// Token sequences that end a sample: a single stop token, or the bytes of a stop string.
    pub stop_sequences: Vec<Vec<u32>>,
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
}

/// One continuation of a prompt.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// The generated tokens, including the stop sequence but not the prompt.
    pub tokens: Vec<u32>,
    /// Natural logarithm of each token's probability under the model itself, before temperature, top-k and top-p.
    pub logprobs: Vec<f32>,
    /// Why generation ended.
    pub finish_reason: FinishReason,
}

impl Sample {
    /// A sample with as many log-probabilities as tokens.
    pub fn new(tokens: Vec<u32>, logprobs: Vec<f32>, finish_reason: FinishReason) -> Self {
        Sample { tokens, logprobs, finish_reason }
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

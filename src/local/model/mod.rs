//! The [`Model`] trait: what the local server needs from a language model, and the plain data between the two.
//!
//! The server knows requests, promises and checkpoints; a model knows tokens and tensors. Neither sees the internals of the
//! other: the server keeps an [`Adapter`] per training run and the gradient accumulated for it, and lends both to the model
//! for one call.
//!
//! # Using a model without a server
//!
//! ```
//! use std::sync::Arc;
//!
//! use tinkex::local::adam::{Adam, AdamOptions};
//! use tinkex::local::model::{AdapterOptions, Example, GenerationOptions, Model, Objective, SamplingContext, Tensors};
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
//! let context = SamplingContext::new(Arc::new(adapter));
//! assert!(model.sample(&context, &[97], 1, &greedy).sequences[0].tokens.len() <= 4);
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
//!     Adapter, AdapterOptions, Example, FinishReason, GenerationOptions, Model, PromptLogprobs, PromptOptions, Sample,
//!     Samples, SamplingContext, Tensors,
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
//!             let logprobs: Vec<f32> = example
//!                 .predictions()
//!                 .map(|(at, target)| Bigrams::logprobs(Some(adapter), example.tokens[at])[target as usize])
//!                 .collect();
//!             if let Some(gradient) = &mut gradient {
//!                 let sum = gradient.entry("logits".to_owned()).or_insert_with(|| Array2::zeros((256, 256)));
//!                 for ((at, target), dlogprob) in example.predictions().zip(example.objective.gradient(&logprobs)) {
//!                     let token = example.tokens[at];
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
//!     fn sample(
//!         &self,
//!         context: &SamplingContext,
//!         prompt: &[u32],
//!         count: usize,
//!         options: &GenerationOptions,
//!     ) -> Samples {
//!         let adapter = context.adapter();
//!         let (mut token, mut tokens, mut logprobs) = (prompt.last().copied().unwrap_or(0), Vec::new(), Vec::new());
//!         while tokens.len() < options.max_tokens.unwrap_or(16) && !context.is_cancelled() {
//!             let next = Bigrams::logprobs(adapter.as_deref(), token).into_iter().enumerate();
//!             let (id, logprob) = next.max_by(|(_, a), (_, b)| a.total_cmp(b)).expect("the vocabulary is not empty");
//!             token = id as u32;
//!             tokens.push(token);
//!             logprobs.push(logprob);
//!         }
//!         Samples::new(vec![Sample::new(tokens, logprobs, FinishReason::Length); count])
//!     }
//!
//!     fn prompt_logprobs(&self, context: &SamplingContext, tokens: &[u32], _: &PromptOptions) -> PromptLogprobs {
//!         let adapter = context.adapter();
//!         let logprob = |pair: &[u32]| Bigrams::logprobs(adapter.as_deref(), pair[0])[pair[1] as usize];
//!         let pairs = tokens.windows(2).map(|pair| Some(logprob(pair)));
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

mod adapter;
mod context;
mod generation;
mod prompt;
mod text_package;

use std::{collections::BTreeMap, fmt::Debug, thread::available_parallelism};

use ndarray::Array2;

pub use super::objective::Objective;
pub use adapter::{Adapter, AdapterOptions};
pub use context::{Cancellation, KvNamespace, SampledToken, SamplingContext};
pub use generation::{FinishReason, GenerationOptions, Sample, Samples};
pub use prompt::{PromptLogprobs, PromptOptions};
pub use text_package::TextPackage;

/// Named matrices: an adapter, or a gradient with respect to one. The order of the names is the order of every reduction,
/// and of the tensors in a checkpoint.
pub type Tensors<T = f32> = BTreeMap<String, Array2<T>>;

/// A language model that the local server can offer.
///
/// The base weights never change; everything learned is in the adapter. All methods may be called from several threads at
/// once.
///
/// Callers check their input first: token ids are below [`vocab_size`](Model::vocab_size), every example has a
/// target for each token, or as many as it says ([`Example::targets_per_token`]), the objective has an input for each target, and
/// no sequence exceeds [`context_length`](Model::context_length). A model must not panic on input
/// that violates this; its results may then be arbitrary.
pub trait Model: Debug + Send + Sync {
    /// The name by which clients request the model, such as `tinkex/bytes-tiny`.
    fn name(&self) -> &str;

    /// The id of the model's tokenizer. Defaults to `bytes`, whose tokens are the UTF-8 bytes of a text, with 256 as the
    /// end-of-text token ([`Tokenizer::bytes`](crate::Tokenizer::bytes)). The tokenizer of a model with a
    /// [text package](Model::text_package) has the id that clients make of the model's name.
    fn tokenizer(&self) -> &str {
        "bytes"
    }

    /// The tokenizer and the chat template. Defaults to none, for a model whose tokens are bytes.
    fn text_package(&self) -> Option<&TextPackage> {
        None
    }

    /// The tokens that end a text. Defaults to none.
    fn end_tokens(&self) -> &[u32] {
        &[]
    }

    /// Number of distinct tokens; ids run from zero to one less.
    fn vocab_size(&self) -> usize;

    /// Maximum number of tokens of one sequence, prompt and sample together.
    fn context_length(&self) -> usize;

    /// A new adapter, with which the model behaves like its base. The same options always create the same tensors.
    fn new_adapter(&self, options: &AdapterOptions) -> Adapter;

    /// Checks that an adapter, such as that of a checkpoint, fits the model: that the model uses each of its tensors, and misses none.
    /// Defaults to a comparison with a [new adapter](Model::new_adapter) of the same options, by names and shapes.
    ///
    /// # Errors
    ///
    /// What does not fit, in words.
    fn check_adapter(&self, adapter: &Adapter) -> Result<(), String> {
        adapter.check_shapes(&self.new_adapter(&adapter.options))
    }

    /// The memory that a pass over this batch takes at its peak, in bytes, beyond what the model and the adapter take all the time:
    /// forward and backward if it `has_gradient`, else forward alone, with an adapter of these options. The server refuses a batch
    /// for which there is too little. Defaults to 0: it is not worth a check.
    fn pass_bytes(&self, _adapter: &AdapterOptions, _batch: &[Example], _has_gradient: bool) -> u64 {
        0
    }

    /// The natural logarithm of the probability of every target token: one vector per example, in the order of the batch, with
    /// a number for each of the example's [`predictions`](Example::predictions).
    ///
    /// With a `gradient`, the derivative of the batch's loss (the sum over its examples, see [`Objective`]) with respect to
    /// each tensor of the adapter is *added* to the entry under the tensor's name; missing entries are created. The result
    /// does not depend on the number of threads, to the last bit.
    fn forward_backward(&self, adapter: &Adapter, batch: &[Example], gradient: Option<&mut Tensors>) -> Vec<Vec<f32>>;

    /// Generates `count` independent continuations of a prompt. Without an adapter, the base model generates them.
    ///
    /// Returns early, with whatever it has, once the context is [cancelled](SamplingContext::is_cancelled).
    fn sample(&self, context: &SamplingContext, prompt: &[u32], count: usize, options: &GenerationOptions) -> Samples;

    /// How many threads may call [`sample`](Model::sample) and [`prompt_logprobs`](Model::prompt_logprobs) at once: other samples
    /// wait. At most 64 do in all. Defaults to one for each processor. A model that computes samples of several callers together,
    /// as [`Transformer`](super::transformer::Transformer) does, takes more.
    fn concurrent_samples(&self) -> usize {
        available_parallelism().map_or(1, usize::from)
    }

    /// The log-probability of each token of a sequence given those before it, and what else the options ask for. A model that
    /// leaves out targets or alternatives is one that cannot report them; the server then refuses the request. Returns early, with whatever it has, once the context is cancelled.
    fn prompt_logprobs(&self, context: &SamplingContext, tokens: &[u32], options: &PromptOptions) -> PromptLogprobs;
}

/// One sequence to train on; Tinker's [`Datum`](crate::types::Datum).
///
/// ```
/// use tinkex::local::model::{Example, Objective};
///
/// let example = Example::new(vec![10, 11], vec![11, 12], Objective::cross_entropy(vec![0.0, 1.0]));
/// assert_eq!(example.predictions().collect::<Vec<_>>(), [(0, 11), (1, 12)]);
///
/// // Two candidates for each token, as for distillation: the objective has an input for each.
/// let objective = Objective::cross_entropy(vec![0.75, 0.25, 0.5, 0.5]);
/// let example = Example::new(vec![10, 11], vec![11, 7, 12, 8], objective).targets_per_token(2);
/// assert_eq!(example.predictions().collect::<Vec<_>>(), [(0, 11), (0, 7), (1, 12), (1, 8)]);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Example {
    /// The input tokens.
    pub tokens: Vec<u32>,
    /// The token that should follow each of them: usually `tokens`, shifted by one. With several targets for each token, first
    /// all of the first token, then all of the second, and so on.
    pub targets: Vec<u32>,
    /// The number of targets for each token, if they are a matrix. None: a list with one target for each.
    pub targets_per_token: Option<usize>,
    /// The loss function and its inputs, one for each target.
    pub objective: Objective,
}

impl Example {
    /// An example with as many targets as tokens.
    pub fn new(tokens: Vec<u32>, targets: Vec<u32>, objective: Objective) -> Self {
        Example { tokens, targets, targets_per_token: None, objective }
    }

    /// Makes the targets a matrix with this number of targets for each token. Defaults to a list with one for each.
    #[must_use]
    pub fn targets_per_token(mut self, count: usize) -> Self {
        self.targets_per_token = Some(count);
        self
    }

    /// Each target, with the index of the token that it should follow, in the order of `targets`.
    pub fn predictions(&self) -> impl Iterator<Item = (usize, u32)> {
        let rows = self.targets.chunks(self.targets_per_token.unwrap_or(1).max(1)).take(self.tokens.len());
        rows.enumerate().flat_map(|(index, row)| row.iter().map(move |&target| (index, target)))
    }
}

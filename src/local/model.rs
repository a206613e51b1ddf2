//! What the local server asks of a language model, and the plain data between the two.
//!
//! The server knows requests, promises and checkpoints; a model knows tokens and tensors. Neither sees the other's
//! inside: the server keeps an [`Adapter`] and the gradient accumulated for it per client, and lends both to the
//! model for one call.
//!
//! A model can be used without a server, too:
//!
//! ```
//! use tinkex::local::adam::{Adam, AdamStep};
//! use tinkex::local::model::{AdapterOptions, Example, Loss, Model, SampleOptions, Tensors};
//! use tinkex::local::transformer::Transformer;
//!
//! let model = Transformer::bytes_tiny();
//! let options = AdapterOptions { rank: 8, seed: 1, train_attn: true, train_mlp: true, train_unembed: true };
//! let mut adapter = model.new_adapter(&options);
//! let example = Example {
//!     tokens: vec![97, 98, 97],
//!     targets: vec![98, 97, 98],
//!     loss: Loss::CrossEntropy { weights: vec![1.0; 3] },
//! };
//!
//! let mut gradient = Tensors::new();
//! let before = model.forward_backward(&adapter, &[example.clone()], Some(&mut gradient));
//! let step = AdamStep { learning_rate: 1e-2, ..AdamStep::default() };
//! Adam::default().step(&mut adapter.tensors, &gradient, &step);
//! let after = model.forward_backward(&adapter, &[example], None);
//! assert!(after[0].iter().sum::<f32>() > before[0].iter().sum::<f32>());
//!
//! let greedy = SampleOptions { max_tokens: Some(4), temperature: 0.0, ..SampleOptions::default() };
//! assert!(model.sample(Some(&adapter), &[97], 1, &greedy)[0].tokens.len() <= 4);
//! ```

use std::{collections::BTreeMap, fmt::Debug};

use ndarray::Array2;

/// Named matrices: an adapter, or a gradient with respect to one. The order of the names is the order of every
/// reduction, and of the tensors in a checkpoint.
pub type Tensors<T = f32> = BTreeMap<String, Array2<T>>;

/// A language model that the local server can offer.
///
/// The base weights never change; everything learned is in the adapter. All methods may be called from several
/// threads at once.
///
/// Callers check their input first: token ids below [`vocab_size`](Model::vocab_size), as many targets and weights as
/// tokens, and no more tokens than [`context_length`](Model::context_length). A model must survive what slipped
/// through, with any numbers as the answer.
pub trait Model: Debug + Send + Sync {
    /// The name under which clients ask for it, such as `tinkex/bytes-tiny`.
    fn name(&self) -> &str;

    /// What turns text into tokens. Defaults to `bytes`: the tokens of a text are its bytes in UTF-8, and 256 ends a text
    /// ([`Tokenizer::bytes`](crate::Tokenizer::bytes)). The server itself knows no other, and reads stop strings so.
    fn tokenizer(&self) -> &str {
        "bytes"
    }

    /// Number of distinct tokens; ids run from zero to one less.
    fn vocab_size(&self) -> usize;

    /// The most tokens of one sequence, prompt and sample together.
    fn context_length(&self) -> usize;

    /// A fresh adapter, which changes nothing yet: the same options give the same tensors.
    fn new_adapter(&self, options: &AdapterOptions) -> Adapter;

    /// The natural logarithm of the probability of every target token, one vector per example and in its order.
    ///
    /// With a `gradient`, the derivative of the batch's loss (the sum over its examples, see [`Loss`]) with respect
    /// to each tensor of the adapter is *added* to it under the tensor's name; names that are missing are made. The
    /// result does not depend on the number of threads, to the last bit.
    fn forward_backward(&self, adapter: &Adapter, batch: &[Example], gradient: Option<&mut Tensors>) -> Vec<Vec<f32>>;

    /// Continues the prompt `count` times, independently; without an adapter, as the base model does.
    fn sample(&self, adapter: Option<&Adapter>, prompt: &[u32], count: usize, options: &SampleOptions) -> Vec<Sample>;

    /// How probable each token of a sequence is after those before it, and which `top_k` tokens were most probable in
    /// its place.
    fn prompt_logprobs(&self, adapter: Option<&Adapter>, tokens: &[u32], top_k: usize) -> PromptLogprobs;
}

/// What a client asks for when it creates a training run; Tinker's `LoraConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterOptions {
    /// Rows of `A` and columns of `B`, at least 1.
    pub rank: usize,
    /// Where the random numbers in `A` start.
    pub seed: u64,
    /// Adapt the query, key, value and output projections.
    pub train_attn: bool,
    /// Adapt the gate, up and down projections.
    pub train_mlp: bool,
    /// Adapt the projection to the vocabulary.
    pub train_unembed: bool,
}

/// Low-rank changes to the weights of a model, with the options that they were made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter<T = f32> {
    /// What it was made from.
    pub options: AdapterOptions,
    /// `A` (rank × inputs) and `B` (outputs × rank) for each adapted projection, named as PEFT names them.
    pub tensors: Tensors<T>,
}

/// One sequence to learn from; Tinker's datum.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// What the model reads.
    pub tokens: Vec<u32>,
    /// What it should say after each of them: usually the tokens, one to the left.
    pub targets: Vec<u32>,
    /// How what it says is judged.
    pub loss: Loss,
}

/// What a training step makes smaller. Losses are sums over tokens and examples, as Tinker defines them, never means.
///
/// Every loss is a function of the target tokens' log-probabilities alone, so a model has only to ask for its
/// [`value`](Loss::value) and its [`slopes`](Loss::slopes).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// −Σ weightₜ · logprobₜ.
    CrossEntropy {
        /// One per token; zero where nothing is to be learned, as in a prompt. Negative ones are allowed: custom
        /// losses send them.
        weights: Vec<f32>,
    },
    /// −Σ ratioₜ · advantageₜ, where the ratio is exp(logprobₜ − the log-probability when it was sampled).
    ImportanceSampling {
        /// The log-probability of each target when it was sampled.
        logprobs: Vec<f32>,
        /// How much better than expected each target turned out.
        advantages: Vec<f32>,
    },
    /// −Σ min(ratioₜ · advantageₜ, clipped ratioₜ · advantageₜ).
    Ppo {
        /// The log-probability of each target when it was sampled.
        logprobs: Vec<f32>,
        /// How much better than expected each target turned out.
        advantages: Vec<f32>,
        /// The bounds of each clipped ratio, lower and upper.
        clip: Vec<(f32, f32)>,
    },
}

/// How to continue a prompt; Tinker's `SamplingParams`.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleOptions {
    /// The most tokens to produce; none means up to the context length.
    pub max_tokens: Option<usize>,
    /// Zero takes the most probable token every time; one samples from the model's own distribution.
    pub temperature: f32,
    /// Sample among that many of the most probable tokens; none means all.
    pub top_k: Option<usize>,
    /// Sample among the fewest most probable tokens that have this much probability together.
    pub top_p: f32,
    /// The same seed gives the same tokens; none takes a new one.
    pub seed: Option<u64>,
    /// Sequences of tokens that end a sample: a stop token alone, or the bytes of a stop string.
    pub stop: Vec<Vec<u32>>,
}

impl Default for SampleOptions {
    /// Temperature 1, top-p 1, no other limit: the model's own distribution.
    fn default() -> Self {
        SampleOptions { max_tokens: None, temperature: 1.0, top_k: None, top_p: 1.0, seed: None, stop: Vec::new() }
    }
}

/// One continuation of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Without the prompt, with what stopped it.
    pub tokens: Vec<u32>,
    /// Natural logarithm of each token's probability under the model itself, before temperature, top-k and top-p.
    pub logprobs: Vec<f32>,
    /// Why it ends where it ends.
    pub stop_reason: StopReason,
}

/// Why a sample ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// A stop sequence, or the model's own end of text.
    Stop,
    /// `max_tokens` or the context length.
    Length,
}

/// Log-probabilities of given tokens; nothing is known of a sequence's first one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptLogprobs {
    /// One entry per token, none for the first.
    pub logprobs: Vec<Option<f32>>,
    /// In each token's place, the most probable tokens with their log-probabilities, most probable first; none for
    /// the first token.
    pub top_k: Vec<Option<Vec<(u32, f32)>>>,
}

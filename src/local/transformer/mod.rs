//! A decoder-only transformer: real models of the Llama family, Qwen2, Qwen3 and Mistral, which `ModelLoader` loads from files, and
//! small ones over bytes, in three sizes.
//!
//! | model | layers | hidden size | heads | MLP | context | weights |
//! |---|---|---|---|---|---|---|
//! | `tinkex/bytes-tiny` | 2 | 64 | 4 | 128 | 1024 | 0.1 million |
//! | `tinkex/bytes-small` | 4 | 128 | 4 | 384 | 1024 | 0.9 million |
//! | `tinkex/bytes-medium` | 6 | 256 | 8 | 768 | 1024 | 5.2 million |
//!
//! The base weights of the small ones are random, from a fixed seed, and untrained: a model learns everything in its adapter. They
//! are generated on first use.
//!
//! The layer is in `layer`, the mathematics in `ops`, `rotary` and `attention`, the passes from tokens to the last norm in `network`,
//! from there to log-probabilities in `target_logprobs`, the adapters in `lora` and `projection`, the batches of training in
//! `micro_batches`, and `sampling` has the batch that all samples share.
//!
//! # Prompts
//!
//! A model keeps the keys and values of the latest prompts ([`KvNamespace`](super::model::KvNamespace)), in blocks of 32 tokens,
//! up to 256 MiB ([`prompt_cache`](Transformer::prompt_cache)). A sample whose prompt begins like an earlier one continues from
//! the last whole block that they share, and a sample of the same prompt from its end. No bit of the results depends on it.
//!
//! It is written on ndarray instead of a framework such as candle, whose dependencies would take minutes to build; numeric
//! differentiation checks every gradient.

mod attention;
mod config;
#[cfg(test)]
mod gradient_tests;
mod layer;
mod lora;
mod micro_batches;
mod modules;
mod network;
mod ops;
mod parameters;
mod pass_memory;
mod projection;
mod rotary;
mod sampling;
mod splitmix;
mod target_logprobs;
#[cfg(test)]
mod tests;
mod views;

use std::fmt;
use std::sync::OnceLock;

pub(super) use self::config::ModelConfig;
pub(super) use self::lora::ALPHA as LORA_ALPHA;
use self::lora::{Lora, LoraGradient};
use self::micro_batches::run_batch;
use self::modules::{Adaptable, adaptable_modules};
use self::network::Network;
pub(super) use self::parameters::Parameters;
#[cfg(feature = "pretrained")]
pub(super) use self::parameters::{LayerParameters, Projection};
use self::rotary::Rotary;
#[cfg(feature = "pretrained")]
pub(super) use self::rotary::llama3_divisors;
use self::sampling::{MAX_SEQUENCES, Sampler};
use super::kernel::{Real, Threads};
use super::model::{
    Adapter, AdapterOptions, Example, GenerationOptions, Model, PromptLogprobs, PromptOptions, Samples,
    SamplingContext, Tensors, TextPackage,
};

/// The end-of-text token; 0 to 255 are the bytes. It ends every sample, with or without stop sequences.
pub const END_OF_TEXT: u32 = 256;

/// The seed of the base weights of all sizes. Changing it would invalidate every saved adapter.
const BASE_SEED: u64 = 0;

/// Enough for about two hundred prompts of a thousand tokens with the smallest byte model, twenty with the largest, and five with a
/// real model of 135 million weights.
const MAX_PROMPT_BYTES: usize = 256 << 20;

/// A decoder-only transformer with fixed base weights, random or loaded from files.
///
/// RMS normalization before the attention and the MLP of each layer, rotary position embeddings, causal attention, SwiGLU
/// MLPs; loaded ones may have grouped queries, biases, norms of queries and keys, and the embedding as unembedding.
pub struct Transformer<T = f32> {
    name: String,
    config: ModelConfig,
    rotary: Rotary,
    modules: Vec<Adaptable>,
    parameters: Weights<T>,
    threads: Threads,
    sampler: Sampler,
    text: Option<TextPackage>,
}

/// The weights that no adapter changes.
#[derive(Debug)]
enum Weights<T> {
    /// From a seed; made on first use.
    Random {
        seed: u64,
        made: OnceLock<Parameters<T>>,
    },
    Loaded(Parameters<T>),
}

impl<T> fmt::Debug for Transformer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its weights would fill pages.
        f.debug_struct("Transformer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Transformer {
    /// `tinkex/bytes-tiny`: fast enough for tests in a debug build.
    pub fn bytes_tiny() -> Transformer {
        Transformer::bytes("tinkex/bytes-tiny", 64, 2, 4, 128)
    }

    /// `tinkex/bytes-small`.
    pub fn bytes_small() -> Transformer {
        Transformer::bytes("tinkex/bytes-small", 128, 4, 4, 384)
    }

    /// `tinkex/bytes-medium`: about the largest that is practical on two cores.
    pub fn bytes_medium() -> Transformer {
        Transformer::bytes("tinkex/bytes-medium", 256, 6, 8, 768)
    }

    /// How many bytes of keys and values of prompts the model keeps; 0 keeps none. Defaults to 256 MiB.
    ///
    /// ```
    /// use tinkex::local::model::{GenerationOptions, Model, SamplingContext};
    /// use tinkex::local::transformer::Transformer;
    ///
    /// let model = Transformer::bytes_tiny().prompt_cache(0);
    /// let options = GenerationOptions::new().max_tokens(1);
    /// let samples = [0, 1].map(|_| model.sample(&SamplingContext::base(), &[97, 98], 1, &options));
    /// assert_eq!(samples.map(|samples| samples.cached_tokens), [0, 0]);
    /// ```
    #[must_use]
    pub fn prompt_cache(mut self, bytes: usize) -> Transformer {
        self.sampler = Sampler::new(bytes, &self.threads);
        self
    }

    fn bytes(
        name: &str,
        hidden_size: usize,
        num_layers: usize,
        num_heads: usize,
        intermediate_size: usize,
    ) -> Transformer {
        let vocab_size = END_OF_TEXT as usize + 1;
        let config = ModelConfig {
            vocab_size,
            hidden_size,
            num_layers,
            num_heads,
            num_kv_heads: num_heads,
            head_size: hidden_size / num_heads,
            intermediate_size,
            context_length: 1024,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            rope_divisors: None,
            end_tokens: vec![END_OF_TEXT],
        };
        Transformer::new(name, config, BASE_SEED)
    }
}

#[allow(private_bounds, reason = "the precision is part of the type for tests alone")]
impl<T: Real> Transformer<T> {
    /// A model with random weights.
    fn new(name: &str, config: ModelConfig, seed: u64) -> Transformer<T> {
        let threads = Threads::new(None);
        Transformer::with_weights(name, config, Weights::Random { seed, made: OnceLock::new() }, threads, None)
    }

    /// A model whose weights are in memory.
    #[cfg_attr(not(feature = "pretrained"), allow(dead_code, reason = "only real models are loaded"))]
    pub(super) fn loaded(
        name: &str,
        config: ModelConfig,
        parameters: Parameters<T>,
        threads: Threads,
        text: Option<TextPackage>,
    ) -> Transformer<T> {
        Transformer::with_weights(name, config, Weights::Loaded(parameters), threads, text)
    }

    fn with_weights(
        name: &str,
        config: ModelConfig,
        parameters: Weights<T>,
        threads: Threads,
        text: Option<TextPackage>,
    ) -> Transformer<T> {
        let (rotary, modules) = (Rotary::new(&config), adaptable_modules(&config));
        let sampler = Sampler::new(MAX_PROMPT_BYTES, &threads);
        Transformer { name: name.to_owned(), config, rotary, modules, parameters, threads, sampler, text }
    }

    fn network(&self) -> Network<'_, T> {
        let parameters = match &self.parameters {
            Weights::Random { seed, made } => made.get_or_init(|| Parameters::random(&self.config, *seed)),
            Weights::Loaded(parameters) => parameters,
        };
        Network { config: &self.config, parameters, rotary: &self.rotary }
    }

    fn lora<'a>(&self, adapter: &'a Adapter<T>) -> Lora<'a, T> {
        Lora::new(&self.modules, adapter)
    }

    fn forward_backward(
        &self,
        adapter: &Adapter<T>,
        batch: &[Example],
        gradient: Option<&mut Tensors<T>>,
    ) -> Vec<Vec<T>> {
        let lora = self.lora(adapter);
        let gradient = gradient.map(|gradient| LoraGradient::new(&self.modules, &lora, gradient));
        self.threads.run(|| run_batch(self.network(), &lora, batch, gradient))
    }
}

impl Model for Transformer {
    fn name(&self) -> &str {
        &self.name
    }

    fn tokenizer(&self) -> &str {
        if self.text.is_some() { &self.name } else { "bytes" }
    }

    fn text_package(&self) -> Option<&TextPackage> {
        self.text.as_ref()
    }

    fn end_tokens(&self) -> &[u32] {
        &self.config.end_tokens
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn new_adapter(&self, options: &AdapterOptions) -> Adapter {
        lora::init(&self.modules, options)
    }

    fn pass_bytes(&self, adapter: &AdapterOptions, batch: &[Example], has_gradient: bool) -> u64 {
        pass_memory::pass_bytes(&self.config, adapter.rank, batch, has_gradient)
    }

    fn forward_backward(&self, adapter: &Adapter, batch: &[Example], gradient: Option<&mut Tensors>) -> Vec<Vec<f32>> {
        Transformer::forward_backward(self, adapter, batch, gradient)
    }

    /// Blocks until the samples are done. All callers share the calls of the network; more than 64 sequences, or 1 GiB of keys and
    /// values, wait in order.
    ///
    /// An empty prompt is treated as the model's first end token, which precedes a new text.
    fn sample(&self, context: &SamplingContext, prompt: &[u32], count: usize, options: &GenerationOptions) -> Samples {
        self.sampler.sample(self, context, prompt, count, options)
    }

    fn concurrent_samples(&self) -> usize {
        MAX_SEQUENCES
    }

    fn prompt_logprobs(&self, context: &SamplingContext, tokens: &[u32], options: &PromptOptions) -> PromptLogprobs {
        self.sampler.describe(self, context, tokens, options)
    }
}

//! A small decoder-only transformer over bytes, in three sizes.
//!
//! | model | layers | hidden size | heads | MLP | context | weights |
//! |---|---|---|---|---|---|---|
//! | `tinkex/bytes-tiny` | 2 | 64 | 4 | 128 | 1024 | 0.1 million |
//! | `tinkex/bytes-small` | 4 | 128 | 4 | 384 | 1024 | 0.9 million |
//! | `tinkex/bytes-medium` | 6 | 256 | 8 | 768 | 1024 | 5.2 million |
//!
//! The base weights are random, from a fixed seed, and untrained: a model learns everything in its adapter. They are
//! generated on first use.
//!
//! The layer is in `layer`, the mathematics in `ops` and `attention`, the forward and backward pass in `network`, the
//! adapters in `lora`, the threads in `micro_batches`, the sampling of tokens in `decoding`, the work on prompts in `prompt`, and
//! what is kept of them in `prompt_cache`.
//!
//! # Prompts
//!
//! A model keeps the keys and values of the latest prompts ([`KvNamespace`](super::model::KvNamespace)), in blocks of 32 tokens,
//! up to 64 MiB ([`prompt_cache`](Transformer::prompt_cache)). A sample whose prompt begins like an earlier one continues from
//! the last whole block that they share, and a sample of the same prompt from its end. No bit of the results depends on it.
//!
//! It is written on ndarray instead of a framework such as candle, whose dependencies would take minutes to build; numeric
//! differentiation checks every gradient.

mod attention;
mod config;
mod decoding;
mod layer;
mod lora;
mod micro_batches;
mod network;
mod ops;
mod parameters;
mod prompt;
mod prompt_cache;
#[cfg(test)]
mod sampling_tests;
mod sampling_weights;
mod splitmix;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::OnceLock, thread::available_parallelism};

use ndarray::{Array2, NdFloat};

pub(super) use self::config::ModelConfig;
use self::decoding::Decoder;
pub(super) use self::lora::ALPHA as LORA_ALPHA;
use self::micro_batches::run_batch;
use self::network::{Network, Projections};
use self::ops::RotaryEmbedding;
#[allow(unused_imports, reason = "skeleton")]
pub(super) use self::parameters::{LayerParameters, Parameters, Projection};
use self::prompt_cache::PromptCache;
use self::sampling_weights::SamplingWeights;
use self::splitmix::SplitMix64;
use super::model::{
    Adapter, AdapterOptions, Example, GenerationOptions, Model, PromptLogprobs, PromptOptions, Samples,
    SamplingContext, Tensors,
};

/// The end-of-text token; 0 to 255 are the bytes. It ends every sample, with or without stop sequences.
pub const END_OF_TEXT: u32 = 256;

/// The seed of the base weights of all sizes. Changing it would invalidate every saved adapter.
const BASE_SEED: u64 = 0;

/// Enough for about fifty prompts of a thousand tokens with the smallest model, and five with the largest.
const MAX_PROMPT_BYTES: usize = 64 << 20;

/// A decoder-only transformer with fixed random base weights.
///
/// RMS normalization before the attention and the MLP of each layer, rotary position embeddings, causal attention, SwiGLU
/// MLPs, no biases.
#[derive(Debug)]
pub struct Transformer<T = f32> {
    name: String,
    config: ModelConfig,
    seed: u64,
    weights: OnceLock<BaseWeights<T>>,
    prompts: PromptCache<T>,
}

/// The weights that no adapter changes, and the base of those that it does.
#[derive(Debug)]
struct BaseWeights<T> {
    rotary: RotaryEmbedding<T>,
    embedding: Array2<T>,
    projections: Projections<T>,
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

    /// How many bytes of keys and values of prompts the model keeps; 0 keeps none. Defaults to 64 MiB.
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
        self.prompts = PromptCache::new(bytes);
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

impl<T: NdFloat> BaseWeights<T> {
    fn random(config: &ModelConfig, seed: u64) -> BaseWeights<T> {
        let mut random = SplitMix64::new(seed);
        BaseWeights {
            rotary: RotaryEmbedding::new(config.context_length, config.hidden_size / config.num_heads),
            // The scale hardly matters, since every layer normalizes its input. One is about the scale of what the layers
            // add, so that the token is still recognizable after the last layer.
            embedding: random.matrix((config.vocab_size, config.hidden_size), 1.0),
            projections: Projections::random(config, &mut random),
        }
    }
}

impl<T: NdFloat> Transformer<T> {
    fn new(name: &str, config: ModelConfig, seed: u64) -> Transformer<T> {
        let prompts = PromptCache::new(MAX_PROMPT_BYTES);
        Transformer { name: name.to_owned(), config, seed, weights: OnceLock::new(), prompts }
    }

    fn base_weights(&self) -> &BaseWeights<T> {
        self.weights.get_or_init(|| BaseWeights::random(&self.config, self.seed))
    }

    /// The base projections, or their merge with an adapter.
    fn projections(&self, adapter: Option<&Adapter<T>>) -> Cow<'_, Projections<T>> {
        let base = &self.base_weights().projections;
        adapter.map_or(Cow::Borrowed(base), |adapter| Cow::Owned(lora::merge(base, adapter)))
    }

    fn network<'a>(&'a self, projections: &'a Projections<T>) -> Network<'a, T> {
        let BaseWeights { rotary, embedding, .. } = self.base_weights();
        Network { config: &self.config, rotary, embedding, projections }
    }

    fn forward_backward(
        &self,
        adapter: &Adapter<T>,
        batch: &[Example],
        gradient: Option<&mut Tensors<T>>,
    ) -> Vec<Vec<T>> {
        let projections = self.projections(Some(adapter));
        let threads = available_parallelism().map_or(1, usize::from);
        let (logprobs, dprojections) = run_batch(self.network(&projections), batch, gradient.is_some(), threads);
        if let (Some(gradient), Some(dprojections)) = (gradient, dprojections) {
            lora::accumulate_gradient(&dprojections, adapter, gradient);
        }
        logprobs
    }
}

impl Model for Transformer {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    fn context_length(&self) -> usize {
        self.config.context_length
    }

    fn new_adapter(&self, options: &AdapterOptions) -> Adapter {
        lora::init(&self.base_weights().projections, options)
    }

    fn forward_backward(&self, adapter: &Adapter, batch: &[Example], gradient: Option<&mut Tensors>) -> Vec<Vec<f32>> {
        Transformer::forward_backward(self, adapter, batch, gradient)
    }

    /// An empty prompt is treated as [`END_OF_TEXT`], which precedes a new text.
    fn sample(&self, context: &SamplingContext, prompt: &[u32], count: usize, options: &GenerationOptions) -> Samples {
        let tokens = if prompt.is_empty() { &[END_OF_TEXT] } else { prompt };
        let weights = SamplingWeights::latest(self, context);
        // The prompt runs once; each sample continues from a copy of the caches.
        let Some(run) = self.run_prompt(&weights, context, tokens, tokens.len() - 1) else { return Samples::default() };
        let logits = self.logits_after(&weights, &run);
        let remaining = self.config.context_length.saturating_sub(tokens.len());
        let max_tokens = options.max_tokens.unwrap_or(usize::MAX).min(remaining);
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        let mut decoder = Decoder { model: self, context, weights, options, max_tokens };
        let indices = (0..count).take_while(|_| !context.is_cancelled());
        let sequences =
            indices.map(|index| decoder.generate(run.caches.clone(), logits.clone(), SplitMix64::stream(seed, index)));
        Samples { sequences: sequences.collect(), cached_tokens: run.cached_tokens.min(prompt.len()) }
    }

    fn prompt_logprobs(&self, context: &SamplingContext, tokens: &[u32], options: &PromptOptions) -> PromptLogprobs {
        self.describe_prompt(&SamplingWeights::latest(self, context), context, tokens, options)
    }
}

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
//! adapters in `lora`, the threads in `micro_batches`, the sampling of tokens in `decoding`.
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
mod splitmix;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::OnceLock, thread::available_parallelism};

use ndarray::{Array2, NdFloat};

use self::config::ModelConfig;
use self::decoding::{Generation, top_k};
pub(super) use self::lora::ALPHA as LORA_ALPHA;
use self::micro_batches::run_batch;
use self::network::{Network, Projections};
use self::ops::{RotaryEmbedding, log_softmax};
use self::splitmix::SplitMix64;
use super::model::{
    Adapter, AdapterOptions, Example, GenerationOptions, Model, PromptLogprobs, PromptOptions, Sample, SamplingContext,
    Tensors,
};

/// The end-of-text token; 0 to 255 are the bytes. It ends every sample, with or without stop sequences.
pub const END_OF_TEXT: u32 = 256;

/// The seed of the base weights of all sizes. Changing it would invalidate every saved adapter.
const BASE_SEED: u64 = 0;

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

    fn bytes(
        name: &str,
        hidden_size: usize,
        num_layers: usize,
        num_heads: usize,
        intermediate_size: usize,
    ) -> Transformer {
        let vocab_size = END_OF_TEXT as usize + 1;
        let config =
            ModelConfig { vocab_size, hidden_size, num_layers, num_heads, intermediate_size, context_length: 1024 };
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
        Transformer { name: name.to_owned(), config, seed, weights: OnceLock::new() }
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
    fn sample(
        &self,
        context: &SamplingContext,
        prompt: &[u32],
        count: usize,
        options: &GenerationOptions,
    ) -> Vec<Sample> {
        if context.is_cancelled() {
            return Vec::new();
        }
        let prompt = if prompt.is_empty() { &[END_OF_TEXT] } else { prompt };
        let projections = self.projections(context.adapter().as_deref());
        let network = self.network(&projections);
        // The prompt runs once; each sample continues from a copy of the caches.
        let mut caches = network.empty_caches();
        let logits = network.forward_cached(&mut caches, prompt);
        let remaining = self.config.context_length.saturating_sub(prompt.len());
        let max_tokens = options.max_tokens.unwrap_or(usize::MAX).min(remaining);
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        let generation = |index| Generation {
            network,
            context,
            caches: caches.clone(),
            logits: logits.clone(),
            random: SplitMix64::stream(seed, index),
            end_of_text: END_OF_TEXT,
        };
        (0..count).map(|index| generation(index).run(options, max_tokens)).collect()
    }

    fn prompt_logprobs(&self, context: &SamplingContext, tokens: &[u32], options: &PromptOptions) -> PromptLogprobs {
        if context.is_cancelled() {
            return PromptLogprobs::default();
        }
        let projections = self.projections(context.adapter().as_deref());
        let (mut logits, _) = self.network(&projections).forward(&[tokens]);
        let mut prompt = PromptLogprobs::default();
        if !tokens.is_empty() {
            prompt.logprobs.push(None);
            prompt.top_k.push(None);
        }
        // The row of each token holds the logits of the next one.
        for (mut row, &token) in logits.rows_mut().into_iter().zip(tokens.iter().skip(1)) {
            log_softmax(row.view_mut());
            prompt.logprobs.push(Some(row[self.config.clamp_token(token)]));
            prompt.top_k.push(Some(top_k(row.view(), options.top_k)));
        }
        prompt
    }
}

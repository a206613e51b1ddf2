//! A small decoder-only transformer over bytes, in three sizes.
//!
//! | model | layers | width | heads | MLP | context | weights |
//! |---|---|---|---|---|---|---|
//! | `tinkex/bytes-tiny` | 2 | 64 | 4 | 128 | 1024 | 0.1 million |
//! | `tinkex/bytes-small` | 4 | 128 | 4 | 384 | 1024 | 0.9 million |
//! | `tinkex/bytes-medium` | 6 | 256 | 8 | 768 | 1024 | 5.2 million |
//!
//! Their base weights come from fixed seeds and know nothing; what a model can do it learns in an adapter. They are made
//! when they are first needed.
//!
//! `layer` has the architecture, `ops` and `attention` the mathematics, `network` the way from tokens to scores and back, `lora` the
//! adapters, `batch` the threads, `sample` the choice of tokens.

mod attention;
mod batch;
mod layer;
mod lora;
mod network;
mod ops;
mod random;
mod sample;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, sync::OnceLock, thread::available_parallelism};

use ndarray::{Array2, NdFloat};

pub(super) use self::lora::ALPHA as LORA_ALPHA;
use self::{
    network::{Network, Projections},
    ops::{Rotary, log_softmax},
    random::Random,
    sample::{Continuation, most_probable},
};
use super::model::{Adapter, AdapterOptions, Example, Model, PromptLogprobs, Sample, SampleOptions, Tensors};

/// The token that ends a text; 0 to 255 are the bytes. It ends every sample, whether or not it is among the stop
/// sequences.
pub const END_OF_TEXT: u32 = 256;

/// Where the base weights of all sizes start. Part of their definition, as saved adapters fit no other base.
const BYTES_SEED: u64 = 0;

/// The sizes of a [`Transformer`], in numbers of features and tokens.
#[derive(Clone, Debug)]
struct Sizes {
    /// Distinct tokens.
    vocab: usize,
    /// Features of a token between layers; a multiple of twice the heads.
    width: usize,
    /// Layers.
    layers: usize,
    /// Attention heads of a layer.
    heads: usize,
    /// Features inside an MLP.
    hidden: usize,
    /// The most tokens of a sequence.
    context: usize,
}

/// A decoder-only transformer with fixed random base weights.
///
/// RMS normalisation before each part of a layer, rotary positions, causal attention, gated MLPs, no biases.
#[derive(Debug)]
pub struct Transformer<T = f32> {
    name: String,
    sizes: Sizes,
    seed: u64,
    weights: OnceLock<Weights<T>>,
}

/// What every call needs and none changes.
#[derive(Debug)]
struct Weights<T> {
    rotary: Rotary<T>,
    embedding: Array2<T>,
    base: Projections<T>,
}

impl Sizes {
    /// The row of a token; what is not in the vocabulary is read as its last token, so that no input can make the
    /// model panic.
    fn known(&self, token: u32) -> usize {
        (token as usize).min(self.vocab - 1)
    }
}

impl Transformer {
    /// `tinkex/bytes-tiny`: quick enough for tests in a debug build.
    pub fn bytes_tiny() -> Transformer {
        Transformer::bytes("tinkex/bytes-tiny", 64, 2, 4, 128)
    }

    /// `tinkex/bytes-small`.
    pub fn bytes_small() -> Transformer {
        Transformer::bytes("tinkex/bytes-small", 128, 4, 4, 384)
    }

    /// `tinkex/bytes-medium`: as large as is bearable on two cores.
    pub fn bytes_medium() -> Transformer {
        Transformer::bytes("tinkex/bytes-medium", 256, 6, 8, 768)
    }

    fn bytes(name: &str, width: usize, layers: usize, heads: usize, hidden: usize) -> Transformer {
        let sizes = Sizes { vocab: END_OF_TEXT as usize + 1, width, layers, heads, hidden, context: 1024 };
        Transformer::new(name, sizes, BYTES_SEED)
    }
}

impl<T: NdFloat> Weights<T> {
    /// The deviation of the embeddings hardly matters, since every part normalises what it reads; one is about what the
    /// layers add to them, so that a token still knows itself at the end.
    fn random(sizes: &Sizes, seed: u64) -> Weights<T> {
        let mut random = Random::new(seed);
        Weights {
            rotary: Rotary::new(sizes.context, sizes.width / sizes.heads),
            embedding: random.matrix((sizes.vocab, sizes.width), 1.0),
            base: Projections::random(sizes, &mut random),
        }
    }
}

impl<T: NdFloat> Transformer<T> {
    /// A model whose base weights come from a seed.
    fn new(name: &str, sizes: Sizes, seed: u64) -> Transformer<T> {
        Transformer { name: name.to_owned(), sizes, seed, weights: OnceLock::new() }
    }

    fn weights(&self) -> &Weights<T> {
        self.weights.get_or_init(|| Weights::random(&self.sizes, self.seed))
    }

    /// The base projections, or those that an adapter makes of them.
    fn projections(&self, adapter: Option<&Adapter<T>>) -> Cow<'_, Projections<T>> {
        let base = &self.weights().base;
        adapter.map_or(Cow::Borrowed(base), |adapter| Cow::Owned(lora::merge(base, adapter)))
    }

    fn network<'a>(&'a self, projections: &'a Projections<T>) -> Network<'a, T> {
        let Weights { rotary, embedding, .. } = self.weights();
        Network { sizes: &self.sizes, rotary, embedding, projections }
    }

    fn forward_backward(
        &self,
        adapter: &Adapter<T>,
        batch: &[Example],
        gradient: Option<&mut Tensors<T>>,
    ) -> Vec<Vec<T>> {
        let projections = self.projections(Some(adapter));
        let threads = available_parallelism().map_or(1, usize::from);
        let (logprobs, slopes) = batch::run(self.network(&projections), batch, gradient.is_some(), threads);
        if let (Some(gradient), Some(slopes)) = (gradient, slopes) {
            lora::add_gradient(&slopes, adapter, gradient);
        }
        logprobs
    }
}

impl Model for Transformer {
    fn name(&self) -> &str {
        &self.name
    }

    fn vocab_size(&self) -> usize {
        self.sizes.vocab
    }

    fn context_length(&self) -> usize {
        self.sizes.context
    }

    fn new_adapter(&self, options: &AdapterOptions) -> Adapter {
        lora::fresh(&self.weights().base, options)
    }

    fn forward_backward(&self, adapter: &Adapter, batch: &[Example], gradient: Option<&mut Tensors>) -> Vec<Vec<f32>> {
        Transformer::forward_backward(self, adapter, batch, gradient)
    }

    /// An empty prompt is read as [`END_OF_TEXT`], after which a text may begin.
    fn sample(&self, adapter: Option<&Adapter>, prompt: &[u32], count: usize, options: &SampleOptions) -> Vec<Sample> {
        let prompt = if prompt.is_empty() { &[END_OF_TEXT] } else { prompt };
        let projections = self.projections(adapter);
        let network = self.network(&projections);
        let mut seen = network.nothing_seen();
        let scores = network.extend(&mut seen, prompt);
        let most = options.max_tokens.unwrap_or(usize::MAX).min(self.sizes.context.saturating_sub(prompt.len()));
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
        let continuation = |index| Continuation {
            network,
            seen: seen.clone(),
            scores: scores.clone(),
            random: Random::stream(seed, index),
        };
        (0..count).map(|index| continuation(index).sample(options, most)).collect()
    }

    fn prompt_logprobs(&self, adapter: Option<&Adapter>, tokens: &[u32], top_k: usize) -> PromptLogprobs {
        let projections = self.projections(adapter);
        let (mut scores, _) = self.network(&projections).forward(&[tokens]);
        let mut found = PromptLogprobs::default();
        if !tokens.is_empty() {
            found.logprobs.push(None);
            found.top_k.push(None);
        }
        for (mut row, &token) in scores.rows_mut().into_iter().zip(tokens.iter().skip(1)) {
            log_softmax(row.view_mut());
            found.logprobs.push(Some(row[self.sizes.known(token)]));
            found.top_k.push(Some(most_probable(row.view(), top_k)));
        }
        found
    }
}

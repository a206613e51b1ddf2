//! The network from tokens to logits, and its backward pass.

use std::iter::once;

use ndarray::{Array2, ArrayView2, Axis, NdFloat};

use super::attention::PackedSequence;
use super::config::ModelConfig;
use super::layer::{BatchLayout, KvCache, Layer, LayerActivations};
use super::ops::{RmsNorm, RotaryEmbedding, linear, linear_backward, rms_norm};
use super::splitmix::SplitMix64;

/// The part of the network that a projection belongs to; an adapter may leave each part out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModuleGroup {
    Attention,
    Mlp,
    Unembedding,
}

/// Identifies a projection.
#[derive(Debug)]
pub(super) struct ModuleId {
    /// Its name in PEFT's checkpoints.
    pub(super) name: String,
    pub(super) group: ModuleGroup,
}

/// Every matrix that an adapter can change, or the gradients with respect to them.
#[derive(Clone, Debug)]
pub(super) struct Projections<T> {
    pub(super) layers: Vec<Layer<T>>,
    /// Vocabulary × hidden size.
    pub(super) unembedding: Array2<T>,
}

impl<T: NdFloat> Projections<T> {
    /// Random projections that preserve the scale of a row: the standard deviation is 1/√inputs.
    pub(super) fn random(config: &ModelConfig, random: &mut SplitMix64) -> Projections<T> {
        let ModelConfig { vocab_size, hidden_size, intermediate_size, .. } = *config;
        let mut matrix =
            |outputs: usize, inputs: usize| random.matrix((outputs, inputs), (inputs as f64).sqrt().recip());
        let layers = (0..config.num_layers)
            .map(|_| Layer {
                query: matrix(hidden_size, hidden_size),
                key: matrix(hidden_size, hidden_size),
                value: matrix(hidden_size, hidden_size),
                output: matrix(hidden_size, hidden_size),
                gate: matrix(intermediate_size, hidden_size),
                up: matrix(intermediate_size, hidden_size),
                down: matrix(hidden_size, intermediate_size),
            })
            .collect();
        Projections { layers, unembedding: matrix(vocab_size, hidden_size) }
    }

    pub(super) fn zeros_like(&self) -> Projections<T> {
        let mut zeros = self.clone();
        for (_, matrix) in zeros.modules_mut() {
            matrix.fill(T::zero());
        }
        zeros
    }

    /// All projections with their ids, always in the same order.
    pub(super) fn modules(&self) -> impl Iterator<Item = (ModuleId, &Array2<T>)> {
        let layers = self.layers.iter().enumerate().flat_map(|(index, layer)| {
            let Layer { query, key, value, output, gate, up, down } = layer;
            layer_module_ids(index).into_iter().zip([query, key, value, output, gate, up, down])
        });
        layers.chain(once((unembedding_id(), &self.unembedding)))
    }

    /// All projections as [`modules`](Projections::modules), mutably.
    pub(super) fn modules_mut(&mut self) -> impl Iterator<Item = (ModuleId, &mut Array2<T>)> {
        let layers = self.layers.iter_mut().enumerate().flat_map(|(index, layer)| {
            let Layer { query, key, value, output, gate, up, down } = layer;
            layer_module_ids(index).into_iter().zip([query, key, value, output, gate, up, down])
        });
        layers.chain(once((unembedding_id(), &mut self.unembedding)))
    }
}

/// The ids of a layer's projections, in the order of its fields.
fn layer_module_ids(layer: usize) -> [ModuleId; 7] {
    let attention =
        |name| ModuleId { name: format!("model.layers.{layer}.self_attn.{name}_proj"), group: ModuleGroup::Attention };
    let mlp = |name| ModuleId { name: format!("model.layers.{layer}.mlp.{name}_proj"), group: ModuleGroup::Mlp };
    [attention("q"), attention("k"), attention("v"), attention("o"), mlp("gate"), mlp("up"), mlp("down")]
}

fn unembedding_id() -> ModuleId {
    ModuleId { name: "lm_head".to_owned(), group: ModuleGroup::Unembedding }
}

/// The network, with borrowed weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a, T> {
    pub(super) config: &'a ModelConfig,
    pub(super) rotary: &'a RotaryEmbedding<T>,
    /// Vocabulary × hidden size.
    pub(super) embedding: &'a Array2<T>,
    pub(super) projections: &'a Projections<T>,
}

/// What the backward pass needs of a forward pass.
#[derive(Debug)]
pub(super) struct ForwardPass<'a, T> {
    layout: BatchLayout<'a, T>,
    caches: Vec<KvCache<T>>,
    activations: Vec<LayerActivations<T>>,
    final_norm: RmsNorm<T>,
}

impl<'a, T: NdFloat> Network<'a, T> {
    /// Runs whole sequences, packed one below the other. Returns the logits after each token: rows × vocabulary.
    pub(super) fn forward(&self, sequences: &[&[u32]]) -> (Array2<T>, ForwardPass<'a, T>) {
        let mut start = 0;
        let packed = sequences
            .iter()
            .map(|tokens| {
                let rows = start..start + tokens.len();
                start = rows.end;
                PackedSequence { query_rows: rows.clone(), key_rows: rows }
            })
            .collect();
        let layout = BatchLayout {
            positions: sequences.iter().flat_map(|tokens| 0..tokens.len()).collect(),
            sequences: packed,
            num_heads: self.config.num_heads,
            rotary: self.rotary,
        };
        let mut caches = self.empty_caches();
        let (final_norm, activations) = self.run_layers(&sequences.concat(), &layout, &mut caches);
        let logits = self.logits(final_norm.output.view());
        (logits, ForwardPass { layout, caches, activations, final_norm })
    }

    /// Backpropagates from the logits; adds the gradients with respect to the projections to `gradients`.
    pub(super) fn backward(&self, dlogits: &Array2<T>, pass: &ForwardPass<'_, T>, gradients: &mut Projections<T>) {
        let ForwardPass { layout, caches, activations, final_norm } = pass;
        let dnorm =
            linear_backward(dlogits, &final_norm.output, &self.projections.unembedding, &mut gradients.unembedding);
        let mut dx = final_norm.backward(dnorm);
        let layers = self.projections.layers.iter().zip(&mut gradients.layers).zip(caches.iter().zip(activations));
        for ((layer, gradients), (cache, activations)) in layers.rev() {
            layer.backward(&mut dx, layout, cache, activations, gradients);
        }
    }

    /// One empty cache per layer.
    pub(super) fn empty_caches(&self) -> Vec<KvCache<T>> {
        self.projections.layers.iter().map(|_| KvCache::empty(self.config.hidden_size)).collect()
    }

    /// Runs further tokens of one sequence, whose earlier tokens are in the caches. Returns the normalized output of the last
    /// layer: one row per token.
    pub(super) fn extend(&self, caches: &mut [KvCache<T>], tokens: &[u32]) -> Array2<T> {
        let cached = caches.first().map_or(0, KvCache::len);
        let length = cached + tokens.len();
        let layout = BatchLayout {
            positions: (cached..length).collect(),
            sequences: vec![PackedSequence { query_rows: 0..tokens.len(), key_rows: 0..length }],
            num_heads: self.config.num_heads,
            rotary: self.rotary,
        };
        self.run_layers(tokens, &layout, caches).0.output
    }

    /// The logits after each token, from the normalized output of the last layer: rows × vocabulary.
    pub(super) fn logits(&self, output: ArrayView2<'_, T>) -> Array2<T> {
        linear(output, &self.projections.unembedding)
    }

    fn run_layers(
        &self,
        tokens: &[u32],
        layout: &BatchLayout<'_, T>,
        caches: &mut [KvCache<T>],
    ) -> (RmsNorm<T>, Vec<LayerActivations<T>>) {
        let rows: Vec<_> = tokens.iter().map(|&token| self.config.clamp_token(token)).collect();
        let mut x = self.embedding.select(Axis(0), &rows);
        let layers = self.projections.layers.iter().zip(caches);
        let activations = layers.map(|(layer, cache)| layer.forward(&mut x, layout, cache)).collect();
        (rms_norm(&x), activations)
    }
}

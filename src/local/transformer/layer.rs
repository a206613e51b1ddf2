//! One layer: attention, then a gated MLP, each on normalized input and with a residual connection.

use ndarray::{Array2, Axis, NdFloat};

use super::attention::{AttentionInputs, AttentionWeights, PackedSequence};
use super::ops::{RmsNorm, RotaryEmbedding, linear, linear_backward, rms_norm, swiglu, swiglu_backward};

/// The weights of a layer, or the gradients with respect to them; each outputs × inputs.
#[derive(Clone, Debug)]
pub(super) struct Layer<T> {
    pub(super) query: Array2<T>,
    pub(super) key: Array2<T>,
    pub(super) value: Array2<T>,
    pub(super) output: Array2<T>,
    pub(super) gate: Array2<T>,
    pub(super) up: Array2<T>,
    pub(super) down: Array2<T>,
}

/// Which rows of a batch belong to which sequence, and what all layers share.
#[derive(Debug)]
pub(super) struct BatchLayout<'a, T> {
    /// The position of each row's token in its sequence.
    pub(super) positions: Vec<usize>,
    pub(super) sequences: Vec<PackedSequence>,
    pub(super) num_heads: usize,
    pub(super) rotary: &'a RotaryEmbedding<T>,
}

/// The keys and values of a layer, one row per token. Training fills it once per batch; sampling appends to it token by
/// token.
#[derive(Clone, Debug)]
pub(super) struct KvCache<T> {
    keys: Array2<T>,
    values: Array2<T>,
}

impl<T: NdFloat> KvCache<T> {
    pub(super) fn empty(hidden_size: usize) -> KvCache<T> {
        KvCache { keys: Array2::zeros((0, hidden_size)), values: Array2::zeros((0, hidden_size)) }
    }

    /// Number of cached tokens.
    pub(super) fn len(&self) -> usize {
        self.keys.nrows()
    }

    /// How many numbers it holds.
    pub(super) fn size(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    /// Appends the tokens of another cache of the same layer.
    pub(super) fn extend(&mut self, other: &KvCache<T>) {
        self.append(&other.keys, &other.values);
    }

    /// A copy of the tokens from this one on.
    pub(super) fn copy_from(&self, start: usize) -> KvCache<T> {
        let rows = |all: &Array2<T>| all.view().split_at(Axis(0), start.min(all.nrows())).1.to_owned();
        KvCache { keys: rows(&self.keys), values: rows(&self.values) }
    }

    fn append(&mut self, keys: &Array2<T>, values: &Array2<T>) {
        for (cached, new) in [(&mut self.keys, keys), (&mut self.values, values)] {
            cached.append(Axis(0), new.view()).expect("all keys and values of a layer have its hidden size");
        }
    }

    fn attention_inputs<'a>(&'a self, queries: &'a Array2<T>, layout: &BatchLayout<'_, T>) -> AttentionInputs<'a, T> {
        AttentionInputs {
            queries: queries.view(),
            keys: self.keys.view(),
            values: self.values.view(),
            num_heads: layout.num_heads,
        }
    }
}

/// What the backward pass needs of the forward pass, besides the keys and values.
#[derive(Debug)]
pub(super) struct LayerActivations<T> {
    attention_norm: RmsNorm<T>,
    queries: Array2<T>,
    attention_weights: AttentionWeights<T>,
    attention_output: Array2<T>,
    mlp_norm: RmsNorm<T>,
    gate: Array2<T>,
    up: Array2<T>,
    gated: Array2<T>,
}

impl<T: NdFloat> Layer<T> {
    /// Adds the layer's output to the rows of `x`, and their keys and values to the cache.
    pub(super) fn forward(
        &self,
        x: &mut Array2<T>,
        layout: &BatchLayout<'_, T>,
        cache: &mut KvCache<T>,
    ) -> LayerActivations<T> {
        let attention_norm = rms_norm(x);
        let input = attention_norm.output.view();
        let (mut queries, mut keys) = (linear(input, &self.query), linear(input, &self.key));
        layout.rotary.rotate(&mut queries, &layout.positions);
        layout.rotary.rotate(&mut keys, &layout.positions);
        cache.append(&keys, &linear(input, &self.value));
        let (attention_output, attention_weights) = cache.attention_inputs(&queries, layout).attend(&layout.sequences);
        *x += &linear(attention_output.view(), &self.output);

        let mlp_norm = rms_norm(x);
        let input = mlp_norm.output.view();
        let (gate, up) = (linear(input, &self.gate), linear(input, &self.up));
        let gated = swiglu(&gate, &up);
        *x += &linear(gated.view(), &self.down);

        LayerActivations { attention_norm, queries, attention_weights, attention_output, mlp_norm, gate, up, gated }
    }

    /// Turns the gradient with respect to the layer's output into the one with respect to its input, in place, and adds the
    /// gradients with respect to the weights to `gradients`.
    pub(super) fn backward(
        &self,
        dx: &mut Array2<T>,
        layout: &BatchLayout<'_, T>,
        cache: &KvCache<T>,
        activations: &LayerActivations<T>,
        gradients: &mut Layer<T>,
    ) {
        let dgated = linear_backward(dx, &activations.gated, &self.down, &mut gradients.down);
        let (dgate, dup) = swiglu_backward(&dgated, &activations.gate, &activations.up);
        let input = &activations.mlp_norm.output;
        let mut dinput = linear_backward(&dgate, input, &self.gate, &mut gradients.gate);
        dinput += &linear_backward(&dup, input, &self.up, &mut gradients.up);
        *dx += &activations.mlp_norm.backward(dinput);

        let doutput = linear_backward(dx, &activations.attention_output, &self.output, &mut gradients.output);
        let inputs = cache.attention_inputs(&activations.queries, layout);
        let [mut dqueries, mut dkeys, dvalues] =
            inputs.backward(&doutput, &layout.sequences, &activations.attention_weights);
        layout.rotary.rotate_backward(&mut dqueries, &layout.positions);
        layout.rotary.rotate_backward(&mut dkeys, &layout.positions);
        let input = &activations.attention_norm.output;
        let mut dinput = linear_backward(&dqueries, input, &self.query, &mut gradients.query);
        dinput += &linear_backward(&dkeys, input, &self.key, &mut gradients.key);
        dinput += &linear_backward(&dvalues, input, &self.value, &mut gradients.value);
        *dx += &activations.attention_norm.backward(dinput);
    }
}

//! The network from tokens to logits, and its backward pass.

use ndarray::{Array2, ArrayView2};

use super::attention::{Attend, PackedSequences};
use super::config::ModelConfig;
use super::layer::{Activations, Layer};
use super::lora::AdaptedRows;
use super::modules::Place;
use super::ops::{rms_norm, rms_norm_backward};
use super::parameters::Parameters;
use super::projection::{Backward, Linear};
use super::rotary::{Rotary, Rotation};
use crate::local::kernel::Real;

/// The network, with borrowed weights. Its products use the threads on which it runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network<'a, T> {
    pub(super) config: &'a ModelConfig,
    pub(super) parameters: &'a Parameters<T>,
    pub(super) rotary: &'a Rotary,
}

/// What the backward pass needs of a forward pass.
#[derive(Debug)]
pub(super) struct ForwardPass<'a, T> {
    rotation: Rotation<T>,
    sequences: PackedSequences<'a>,
    activations: Vec<Activations<T>>,
    /// Before the final norm.
    last: Array2<T>,
}

impl<'a, T: Real> Network<'a, T> {
    /// Runs new tokens, each at its position in its sequence. Returns the normalized output of the last layer: one row per token.
    /// No row depends on others, except by what `attention` does.
    pub(super) fn step(
        &self,
        tokens: &[u32],
        positions: &[usize],
        adapters: &[AdaptedRows<'_, T>],
        attention: &mut dyn Attend<T>,
    ) -> Array2<T> {
        let rotation = self.rotary.at(positions);
        self.final_norm(&self.run_layers(tokens, &rotation, adapters, attention, drop))
    }

    /// The logits of the token after each row, from the normalized output of the last layer: rows × vocabulary.
    pub(super) fn logits(&self, output: ArrayView2<'_, T>, adapters: &[AdaptedRows<'_, T>]) -> Array2<T> {
        self.head().forward(output, adapters).output
    }

    /// The projection to the vocabulary.
    pub(super) fn head(&self) -> Linear<'a, T> {
        let Parameters { embedding, unembedding, .. } = self.parameters;
        let weight = unembedding.as_ref().unwrap_or(embedding);
        Linear { weight, bias: None, place: Place::unembedding(self.config) }
    }

    /// Runs whole sequences, packed one below the other. Returns what [`step`](Network::step) does. With `is_kept`, the pass
    /// has what [`backward`](Network::backward) needs.
    pub(super) fn forward(
        &self,
        sequences: &[&[u32]],
        adapters: &[AdaptedRows<'_, T>],
        is_kept: bool,
    ) -> (Array2<T>, ForwardPass<'a, T>) {
        let positions: Vec<usize> = sequences.iter().flat_map(|tokens| 0..tokens.len()).collect();
        let rotation = self.rotary.at(&positions);
        let mut packed = PackedSequences::new(self.config, sequences.iter().map(|tokens| tokens.len()));
        let mut activations = Vec::new();
        let keep = |layer| {
            if is_kept {
                activations.push(layer);
            }
        };
        let last = self.run_layers(&sequences.concat(), &rotation, adapters, &mut packed, keep);
        (self.final_norm(&last), ForwardPass { rotation, sequences: packed, activations, last })
    }

    /// Adds the gradients with respect to the adapter, from the one with respect to the output of [`forward`](Network::forward).
    pub(super) fn backward(&self, doutput: Array2<T>, pass: ForwardPass<'_, T>, mut backward: Backward<'_, '_, T>) {
        let ForwardPass { rotation, sequences, activations, last } = pass;
        let eps = self.config.rms_norm_eps;
        let mut dx = rms_norm_backward(&last, &self.parameters.final_norm, eps, doutput);
        for (index, activations) in activations.into_iter().enumerate().rev() {
            if !backward.lora.reaches(index) {
                break;
            }
            self.layer(index, &rotation).backward(&mut dx, activations, &sequences, &mut backward);
        }
    }

    fn final_norm(&self, x: &Array2<T>) -> Array2<T> {
        rms_norm(x, &self.parameters.final_norm, self.config.rms_norm_eps)
    }

    fn layer<'b>(&'b self, index: usize, rotation: &'b Rotation<T>) -> Layer<'b, T> {
        Layer { index, config: self.config, parameters: &self.parameters.layers[index], rotation }
    }

    fn run_layers(
        &self,
        tokens: &[u32],
        rotation: &Rotation<T>,
        adapters: &[AdaptedRows<'_, T>],
        attention: &mut dyn Attend<T>,
        mut keep: impl FnMut(Activations<T>),
    ) -> Array2<T> {
        let mut x = Array2::zeros((tokens.len(), self.config.hidden_size));
        for (row, &token) in x.rows_mut().into_iter().zip(tokens) {
            self.parameters.embedding.copy_row(self.config.clamp_token(token), row);
        }
        for index in 0..self.parameters.layers.len() {
            keep(self.layer(index, rotation).forward(&mut x, adapters, attention));
        }
        x
    }
}

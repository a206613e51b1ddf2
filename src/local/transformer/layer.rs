//! One layer: attention, then a gated MLP, each on normalized input and with a residual connection.

use ndarray::{Array1, Array2, ArrayView2};

use super::attention::{Attend, PackedSequences};
use super::config::ModelConfig;
use super::lora::AdaptedRows;
use super::modules::{Module, Place};
use super::ops::{Normalized, normalize, swiglu, swiglu_backward};
use super::parameters::{LayerParameters, Projection};
use super::projection::{Backward, Linear, Projected};
use super::rotary::Rotation;
use crate::local::kernel::Real;

/// A layer of the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer<'a, T> {
    pub(super) index: usize,
    pub(super) config: &'a ModelConfig,
    pub(super) parameters: &'a LayerParameters<T>,
    pub(super) rotation: &'a Rotation<T>,
}

/// What the backward pass needs of the forward pass.
#[derive(Debug)]
pub(super) struct Activations<T> {
    attention_norm: Normalized<T>,
    queries: Heads<T>,
    keys: Heads<T>,
    values: Projected<T>,
    attended: Array2<T>,
    attended_reduced: Vec<Array2<T>>,
    mlp_norm: Normalized<T>,
    gate: Projected<T>,
    up: Projected<T>,
    gated_reduced: Vec<Array2<T>>,
}

/// Queries or keys.
#[derive(Debug)]
struct Heads<T> {
    /// Rotated.
    projected: Projected<T>,
    /// With a row for each head, if they are normalized.
    norm: Option<Normalized<T>>,
}

impl<'a, T: Real> Layer<'a, T> {
    fn linear(&self, projection: &'a Projection<T>, module: Module) -> Linear<'a, T> {
        let Projection { weight, bias } = projection;
        Linear { weight, bias: bias.as_ref(), place: Place::in_layer(self.index, module) }
    }

    /// Adds the layer's output to the rows of `x`.
    pub(super) fn forward(
        &self,
        x: &mut Array2<T>,
        adapters: &[AdaptedRows<'_, T>],
        attention: &mut dyn Attend<T>,
    ) -> Activations<T> {
        let parameters = self.parameters;
        let attention_norm = normalize(x.clone(), self.config.rms_norm_eps);
        let input = attention_norm.scaled(&parameters.attention_norm);
        let project =
            |projection, module, input: &Array2<T>| self.linear(projection, module).forward(input.view(), adapters);
        let queries = self.heads(project(&parameters.query, Module::Query, &input), parameters.query_norm.as_ref());
        let keys = self.heads(project(&parameters.key, Module::Key, &input), parameters.key_norm.as_ref());
        let values = project(&parameters.value, Module::Value, &input);
        let attended = attention.attend(
            self.index,
            queries.projected.output.view(),
            keys.projected.output.view(),
            values.output.view(),
        );
        let Projected { output, reduced: attended_reduced } = project(&parameters.output, Module::Output, &attended);
        *x += &output;

        let mlp_norm = normalize(x.clone(), self.config.rms_norm_eps);
        let input = mlp_norm.scaled(&parameters.mlp_norm);
        let gate = project(&parameters.gate, Module::Gate, &input);
        let up = project(&parameters.up, Module::Up, &input);
        let gated = swiglu(&gate.output, &up.output);
        let Projected { output, reduced: gated_reduced } = project(&parameters.down, Module::Down, &gated);
        *x += &output;

        Activations {
            attention_norm,
            queries,
            keys,
            values,
            attended,
            attended_reduced,
            mlp_norm,
            gate,
            up,
            gated_reduced,
        }
    }

    /// Turns the gradient with respect to the layer's output into the one with respect to its input, in place.
    pub(super) fn backward(
        &self,
        dx: &mut Array2<T>,
        activations: Activations<T>,
        sequences: &PackedSequences<'_>,
        pass: &mut Backward<'_, '_, T>,
    ) {
        let (parameters, activations) = (self.parameters, &activations);
        let Activations { attention_norm, queries, keys, values, attended, mlp_norm, gate, up, .. } = activations;

        let gated = swiglu(&gate.output, &up.output);
        let down = self.linear(&parameters.down, Module::Down);
        let dgated = down.backward(dx.view(), gated.view(), &activations.gated_reduced, pass);
        let [dgate, dup] = swiglu_backward(&dgated, &gate.output, &up.output);
        let input = mlp_norm.scaled(&parameters.mlp_norm);
        let mut back = |projection, module, dy: ArrayView2<'_, T>, input: &Array2<T>, reduced: &[Array2<T>]| {
            self.linear(projection, module).backward(dy, input.view(), reduced, pass)
        };
        let mut dinput = back(&parameters.gate, Module::Gate, dgate.view(), &input, &gate.reduced);
        dinput += &back(&parameters.up, Module::Up, dup.view(), &input, &up.reduced);
        *dx += &mlp_norm.backward(dinput, &parameters.mlp_norm);

        let doutput = back(&parameters.output, Module::Output, dx.view(), attended, &activations.attended_reduced);
        let [q, k, v] = [&queries.projected, &keys.projected, values].map(|projected| projected.output.view());
        let [dqueries, dkeys, dvalues] = sequences.backward(doutput.view(), q, k, v);
        let dqueries = self.heads_backward(dqueries, queries, parameters.query_norm.as_ref());
        let dkeys = self.heads_backward(dkeys, keys, parameters.key_norm.as_ref());
        let input = attention_norm.scaled(&parameters.attention_norm);
        let mut dinput = back(&parameters.query, Module::Query, dqueries.view(), &input, &queries.projected.reduced);
        dinput += &back(&parameters.key, Module::Key, dkeys.view(), &input, &keys.projected.reduced);
        dinput += &back(&parameters.value, Module::Value, dvalues.view(), &input, &values.reduced);
        *dx += &attention_norm.backward(dinput, &parameters.attention_norm);
    }

    /// Normalizes each head if there are gains for it, then rotates it.
    fn heads(&self, projected: Projected<T>, gains: Option<&Array1<T>>) -> Heads<T> {
        let Projected { output, reduced } = projected;
        let columns = output.ncols();
        let (mut output, norm) = match gains {
            Some(gains) => {
                let norm = normalize(reshape(output, self.config.head_size), self.config.rms_norm_eps);
                (reshape(norm.scaled(gains), columns), Some(norm))
            }
            None => (output, None),
        };
        self.rotation.rotate(&mut output);
        Heads { projected: Projected { output, reduced }, norm }
    }

    fn heads_backward(&self, mut dy: Array2<T>, heads: &Heads<T>, gains: Option<&Array1<T>>) -> Array2<T> {
        self.rotation.rotate_backward(&mut dy);
        let columns = dy.ncols();
        match (&heads.norm, gains) {
            (Some(norm), Some(gains)) => reshape(norm.backward(reshape(dy, self.config.head_size), gains), columns),
            _ => dy,
        }
    }
}

/// The same numbers with other rows.
fn reshape<T: Real>(rows: Array2<T>, columns: usize) -> Array2<T> {
    let count = rows.len() / columns;
    rows.into_shape_with_order((count, columns)).expect("heads fill the rows")
}

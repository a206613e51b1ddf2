//! One layer: attention, then a gated MLP, each on normalized input and with a residual connection.

use ndarray::{Array1, Array2};

use super::attention::{Attend, PackedSequences};
use super::config::ModelConfig;
use super::lora::AdaptedRows;
use super::modules::{Module, Place};
use super::ops::{add, rms_norm, rms_norm_backward, swiglu, swiglu_backward};
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
    /// Before the attention's norm.
    before: Array2<T>,
    queries: Heads<T>,
    keys: Heads<T>,
    values: Projected<T>,
    attended: Array2<T>,
    attended_reduced: Vec<Array2<T>>,
    /// Before the MLP's norm.
    middle: Array2<T>,
    gate: Projected<T>,
    up: Projected<T>,
    gated_reduced: Vec<Array2<T>>,
}

/// Queries or keys.
#[derive(Debug)]
struct Heads<T> {
    /// Rotated.
    projected: Projected<T>,
    /// Before their norm, with a row for each head, if they have one.
    raw: Option<Array2<T>>,
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
        let (parameters, eps) = (self.parameters, self.config.rms_norm_eps);
        let project =
            |projection, module, input: &Array2<T>| self.linear(projection, module).forward(input.view(), adapters);
        let before = x.clone();
        let input = rms_norm(x, &parameters.attention_norm, eps);
        let queries = self.heads(project(&parameters.query, Module::Query, &input), parameters.query_norm.as_ref());
        let keys = self.heads(project(&parameters.key, Module::Key, &input), parameters.key_norm.as_ref());
        let values = project(&parameters.value, Module::Value, &input);
        let [q, k, v] = [&queries.projected, &keys.projected, &values].map(|projected| projected.output.view());
        let attended = attention.attend(self.index, q, k, v);
        let Projected { output, reduced: attended_reduced } = project(&parameters.output, Module::Output, &attended);
        add(x, &output);

        let middle = x.clone();
        let input = rms_norm(x, &parameters.mlp_norm, eps);
        let gate = project(&parameters.gate, Module::Gate, &input);
        let up = project(&parameters.up, Module::Up, &input);
        let gated = swiglu(&gate.output, &up.output);
        let Projected { output, reduced: gated_reduced } = project(&parameters.down, Module::Down, &gated);
        add(x, &output);
        Activations { before, queries, keys, values, attended, attended_reduced, middle, gate, up, gated_reduced }
    }

    /// Turns the gradient with respect to the layer's output into the one with respect to its input, in place.
    pub(super) fn backward(
        &self,
        dx: &mut Array2<T>,
        activations: Activations<T>,
        sequences: &PackedSequences<'_>,
        pass: &mut Backward<'_, '_, T>,
    ) {
        let (parameters, eps) = (self.parameters, self.config.rms_norm_eps);
        let mut back = |projection, module, dy: &Array2<T>, input: &Array2<T>, reduced: &[Array2<T>]| {
            self.linear(projection, module).backward(dy.view(), input.view(), reduced, pass)
        };
        let Activations { before, queries, keys, values, attended, middle, mut gate, mut up, .. } = activations;
        let gated = swiglu(&gate.output, &up.output);
        let dgated = back(&parameters.down, Module::Down, dx, &gated, &activations.gated_reduced);
        drop(gated);
        swiglu_backward(&dgated, &mut gate.output, &mut up.output);
        drop(dgated);
        let input = rms_norm(&middle, &parameters.mlp_norm, eps);
        let mut dinput = back(&parameters.gate, Module::Gate, &gate.output, &input, &gate.reduced);
        add(&mut dinput, &back(&parameters.up, Module::Up, &up.output, &input, &up.reduced));
        add(dx, &rms_norm_backward(&middle, &parameters.mlp_norm, eps, dinput));

        let doutput = back(&parameters.output, Module::Output, dx, &attended, &activations.attended_reduced);
        let [q, k, v] = [&queries.projected, &keys.projected, &values].map(|projected| projected.output.view());
        let [dqueries, dkeys, dvalues] = sequences.backward(doutput.view(), q, k, v);
        let dqueries = self.heads_backward(dqueries, &queries, parameters.query_norm.as_ref());
        let dkeys = self.heads_backward(dkeys, &keys, parameters.key_norm.as_ref());
        let input = rms_norm(&before, &parameters.attention_norm, eps);
        let mut dinput = back(&parameters.query, Module::Query, &dqueries, &input, &queries.projected.reduced);
        add(&mut dinput, &back(&parameters.key, Module::Key, &dkeys, &input, &keys.projected.reduced));
        add(&mut dinput, &back(&parameters.value, Module::Value, &dvalues, &input, &values.reduced));
        add(dx, &rms_norm_backward(&before, &parameters.attention_norm, eps, dinput));
    }

    /// Normalizes each head if there are gains for it, then rotates it.
    fn heads(&self, projected: Projected<T>, gains: Option<&Array1<T>>) -> Heads<T> {
        let Projected { output, reduced } = projected;
        let columns = output.ncols();
        let (mut output, raw) = match gains {
            Some(gains) => {
                let raw = reshape(output, self.config.head_size);
                (reshape(rms_norm(&raw, gains, self.config.rms_norm_eps), columns), Some(raw))
            }
            None => (output, None),
        };
        self.rotation.rotate(&mut output);
        Heads { projected: Projected { output, reduced }, raw }
    }

    fn heads_backward(&self, mut dy: Array2<T>, heads: &Heads<T>, gains: Option<&Array1<T>>) -> Array2<T> {
        self.rotation.rotate_backward(&mut dy);
        let columns = dy.ncols();
        match (&heads.raw, gains) {
            (Some(raw), Some(gains)) => {
                let dy = reshape(dy, self.config.head_size);
                reshape(rms_norm_backward(raw, gains, self.config.rms_norm_eps, dy), columns)
            }
            _ => dy,
        }
    }
}

/// The same numbers with other rows.
fn reshape<T: Real>(rows: Array2<T>, columns: usize) -> Array2<T> {
    let count = rows.len() / columns;
    rows.into_shape_with_order((count, columns)).expect("heads fill the rows")
}

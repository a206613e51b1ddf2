//! One layer: attention, then a gated MLP, each on normalised rows and added to what it came from.

use ndarray::{Array2, Axis, NdFloat};

use super::{
    attention::{Inputs, Segment, Shares},
    ops::{Normalized, Rotary, gate, gate_backward, normalize, project, project_backward},
};

/// The weights of a layer, or the derivatives with respect to them; outputs × inputs each.
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

/// Where the rows of a batch stand in their sequences, and what all layers share.
#[derive(Debug)]
pub(super) struct Rows<'a, T> {
    pub(super) positions: Vec<usize>,
    pub(super) segments: Vec<Segment>,
    pub(super) heads: usize,
    pub(super) rotary: &'a Rotary<T>,
}

/// Keys and values of the tokens that a layer has seen. A token attends to those before it, whether they came in the
/// same batch or, when sampling, in an earlier one.
#[derive(Clone, Debug)]
pub(super) struct Seen<T> {
    keys: Array2<T>,
    values: Array2<T>,
}

impl<T: NdFloat> Seen<T> {
    pub(super) fn nothing(width: usize) -> Seen<T> {
        Seen { keys: Array2::zeros((0, width)), values: Array2::zeros((0, width)) }
    }

    pub(super) fn tokens(&self) -> usize {
        self.keys.nrows()
    }

    fn add(&mut self, keys: &Array2<T>, values: &Array2<T>) {
        for (seen, new) in [(&mut self.keys, keys), (&mut self.values, values)] {
            seen.append(Axis(0), new.view()).expect("all keys and values of a layer are as wide as the layer");
        }
    }

    fn attended_by<'a>(&'a self, queries: &'a Array2<T>, rows: &Rows<'_, T>) -> Inputs<'a, T> {
        Inputs { queries: queries.view(), keys: self.keys.view(), values: self.values.view(), heads: rows.heads }
    }
}

/// What the backward pass needs of the forward pass, besides the keys and values.
#[derive(Debug)]
pub(super) struct Trace<T> {
    attention_input: Normalized<T>,
    queries: Array2<T>,
    shares: Shares<T>,
    mixed: Array2<T>,
    mlp_input: Normalized<T>,
    gate: Array2<T>,
    up: Array2<T>,
    gated: Array2<T>,
}

impl<T: NdFloat> Layer<T> {
    /// Adds what the layer makes of the rows to them, and their keys and values to those seen.
    pub(super) fn forward(&self, x: &mut Array2<T>, rows: &Rows<'_, T>, seen: &mut Seen<T>) -> Trace<T> {
        let attention_input = normalize(x);
        let input = attention_input.rows.view();
        let (mut queries, mut keys) = (project(input, &self.query), project(input, &self.key));
        rows.rotary.turn(&mut queries, &rows.positions);
        rows.rotary.turn(&mut keys, &rows.positions);
        seen.add(&keys, &project(input, &self.value));
        let (mixed, shares) = seen.attended_by(&queries, rows).attend(&rows.segments);
        *x += &project(mixed.view(), &self.output);

        let mlp_input = normalize(x);
        let (closed, up) = (project(mlp_input.rows.view(), &self.gate), project(mlp_input.rows.view(), &self.up));
        let gated = gate(&closed, &up);
        *x += &project(gated.view(), &self.down);

        Trace { attention_input, queries, shares, mixed, mlp_input, gate: closed, up, gated }
    }

    /// Turns the derivative with respect to the rows after the layer into that with respect to the rows before, and
    /// adds the derivatives with respect to the weights to `slopes`.
    pub(super) fn backward(
        &self,
        dx: &mut Array2<T>,
        rows: &Rows<'_, T>,
        seen: &Seen<T>,
        trace: &Trace<T>,
        slopes: &mut Layer<T>,
    ) {
        let dgated = project_backward(dx, &trace.gated, &self.down, &mut slopes.down);
        let (dgate, dup) = gate_backward(&dgated, &trace.gate, &trace.up);
        let input = &trace.mlp_input.rows;
        let mut dinput = project_backward(&dgate, input, &self.gate, &mut slopes.gate);
        dinput += &project_backward(&dup, input, &self.up, &mut slopes.up);
        *dx += &trace.mlp_input.backward(dinput);

        let dmixed = project_backward(dx, &trace.mixed, &self.output, &mut slopes.output);
        let [mut dqueries, mut dkeys, dvalues] =
            seen.attended_by(&trace.queries, rows).backward(&dmixed, &rows.segments, &trace.shares);
        rows.rotary.turn_backward(&mut dqueries, &rows.positions);
        rows.rotary.turn_backward(&mut dkeys, &rows.positions);
        let input = &trace.attention_input.rows;
        let mut dinput = project_backward(&dqueries, input, &self.query, &mut slopes.query);
        dinput += &project_backward(&dkeys, input, &self.key, &mut slopes.key);
        dinput += &project_backward(&dvalues, input, &self.value, &mut slopes.value);
        *dx += &trace.attention_input.backward(dinput);
    }
}

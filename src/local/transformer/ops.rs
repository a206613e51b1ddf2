//! The functions that a layer is made of, each with its derivative next to it.
//!
//! Matrices have one row per token. Backward functions take the derivative of the loss with respect to the result and
//! give it with respect to the argument.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, NdFloat, Zip, linalg::general_mat_mul};

use super::random::real;

/// Keeps [`normalize`] finite on a row of zeros.
const NORM_EPS: f64 = 1e-6;

/// How fast the slowest pair of [`Rotary`] turns: the base of Su et al. 2021, "RoFormer".
const ROTARY_BASE: f64 = 10_000.0;

/// `x · weightᵀ`: rows of inputs to rows of outputs, for a weight of shape outputs × inputs.
pub(super) fn project<T: NdFloat>(x: ArrayView2<'_, T>, weight: &Array2<T>) -> Array2<T> {
    if x.nrows() == 1 {
        // Sampling goes token by token; packing the weight for a matrix product would take longer than the product.
        weight.dot(&x.row(0)).insert_axis(Axis(0))
    } else {
        x.dot(&weight.t())
    }
}

/// Adds the derivative of [`project`] with respect to the weight to `slope`, and gives the one with respect to `x`.
pub(super) fn project_backward<T: NdFloat>(
    dy: &Array2<T>,
    x: &Array2<T>,
    weight: &Array2<T>,
    slope: &mut Array2<T>,
) -> Array2<T> {
    general_mat_mul(T::one(), &dy.t(), x, T::one(), slope);
    dy.dot(weight)
}

/// Rows scaled to a mean square of one (Zhang & Sennrich 2019, "Root mean square layer normalization"), without
/// learned gains.
#[derive(Debug)]
pub(super) struct Normalized<T> {
    pub(super) rows: Array2<T>,
    /// One over the root mean square of each row before.
    factors: Array1<T>,
}

pub(super) fn normalize<T: NdFloat>(x: &Array2<T>) -> Normalized<T> {
    let width = real::<T>(x.ncols() as f64);
    let factors = x.map_axis(Axis(1), |row| (row.dot(&row) / width + real(NORM_EPS)).sqrt().recip());
    Normalized { rows: x * &factors.view().insert_axis(Axis(1)), factors }
}

impl<T: NdFloat> Normalized<T> {
    pub(super) fn backward(&self, mut dy: Array2<T>) -> Array2<T> {
        let width = real::<T>(dy.ncols() as f64);
        Zip::from(dy.rows_mut()).and(self.rows.rows()).and(&self.factors).for_each(|mut dy, y, &factor| {
            let along = dy.dot(&y) / width;
            Zip::from(&mut dy).and(y).for_each(|dy, &y| *dy = factor * (*dy - along * y));
        });
        dy
    }
}

/// The gate of a SwiGLU (Shazeer 2020, "GLU variants improve Transformer"): `gate · sigmoid(gate) · up`.
pub(super) fn gate<T: NdFloat>(gate: &Array2<T>, up: &Array2<T>) -> Array2<T> {
    Zip::from(gate).and(up).map_collect(|&gate, &up| gate * sigmoid(gate) * up)
}

/// The derivatives of [`gate`] with respect to its two arguments.
pub(super) fn gate_backward<T: NdFloat>(dy: &Array2<T>, gate: &Array2<T>, up: &Array2<T>) -> (Array2<T>, Array2<T>) {
    let mut dgate = Array2::zeros(gate.raw_dim());
    let mut dup = Array2::zeros(up.raw_dim());
    Zip::from(&mut dgate).and(&mut dup).and(dy).and(gate).and(up).for_each(|dgate, dup, &dy, &gate, &up| {
        let open = sigmoid(gate);
        *dup = dy * gate * open;
        *dgate = dy * up * open * (T::one() + gate * (T::one() - open));
    });
    (dgate, dup)
}

fn sigmoid<T: NdFloat>(x: T) -> T {
    (T::one() + (-x).exp()).recip()
}

/// Scores to probabilities, in place. The largest score is taken off first, so that nothing overflows.
pub(super) fn softmax<T: NdFloat>(mut scores: ArrayViewMut1<'_, T>) {
    let largest = scores.fold(T::neg_infinity(), |largest, &score| largest.max(score));
    scores.mapv_inplace(|score| (score - largest).exp());
    let total = scores.sum();
    scores.mapv_inplace(|score| score / total);
}

/// Turns the derivative with respect to the result of [`softmax`] into that with respect to the scores, in place.
pub(super) fn softmax_backward<T: NdFloat>(mut dy: ArrayViewMut1<'_, T>, y: ArrayView1<'_, T>) {
    let along = dy.dot(&y);
    Zip::from(&mut dy).and(y).for_each(|dy, &y| *dy = y * (*dy - along));
}

/// Scores to natural logarithms of probabilities, in place.
pub(super) fn log_softmax<T: NdFloat>(mut scores: ArrayViewMut1<'_, T>) {
    let largest = scores.fold(T::neg_infinity(), |largest, &score| largest.max(score));
    let total = scores.fold(T::zero(), |total, &score| total + (score - largest).exp());
    let shift = largest + total.ln();
    scores.mapv_inplace(|score| score - shift);
}

/// Rotary positions (Su et al. 2021): within each head the features i and i + half are turned by an angle that grows
/// with the position, so that the product of a query and a key depends on how far apart they are.
#[derive(Debug)]
pub(super) struct Rotary<T> {
    /// Cosine and sine for each position (row) and pair (column).
    turns: Array2<(T, T)>,
}

impl<T: NdFloat> Rotary<T> {
    pub(super) fn new(positions: usize, head_width: usize) -> Rotary<T> {
        let half = head_width / 2;
        let turns = Array2::from_shape_fn((positions, half), |(position, pair)| {
            let angle = position as f64 * ROTARY_BASE.powf(-(pair as f64) / half as f64);
            (real(angle.cos()), real(angle.sin()))
        });
        Rotary { turns }
    }

    /// Turns each row by the angles of its position.
    pub(super) fn turn(&self, rows: &mut Array2<T>, positions: &[usize]) {
        self.turn_by(rows, positions, T::one());
    }

    /// Turns back: a rotation's inverse is its transpose, which is what a derivative is multiplied by.
    pub(super) fn turn_backward(&self, rows: &mut Array2<T>, positions: &[usize]) {
        self.turn_by(rows, positions, -T::one());
    }

    fn turn_by(&self, rows: &mut Array2<T>, positions: &[usize], sign: T) {
        let half = self.turns.ncols();
        let last = self.turns.nrows() - 1;
        for (mut row, &position) in rows.rows_mut().into_iter().zip(positions) {
            let turns = self.turns.row(position.min(last));
            for head in row.exact_chunks_mut(2 * half) {
                let (first, second) = head.split_at(Axis(0), half);
                Zip::from(first).and(second).and(turns).for_each(|first, second, &(cos, sin)| {
                    let sin = sign * sin;
                    (*first, *second) = (*first * cos - *second * sin, *first * sin + *second * cos);
                });
            }
        }
    }
}

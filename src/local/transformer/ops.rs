//! The functions that a layer is made of, each with its backward function.
//!
//! Matrices have one row per token. A backward function takes the gradient of the loss with respect to the output (`dy`) and
//! returns it with respect to the input.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis, NdFloat, Zip, linalg::general_mat_mul};

use super::splitmix::real;

/// Keeps [`rms_norm`] finite on a row of zeros.
const RMS_NORM_EPS: f64 = 1e-6;

/// The base of the angles of [`RotaryEmbedding`] (Su et al. 2021, "RoFormer").
const ROTARY_BASE: f64 = 10_000.0;

/// `x · weightᵀ`: a linear layer without bias, for a weight of shape outputs × inputs.
pub(super) fn linear<T: NdFloat>(x: ArrayView2<'_, T>, weight: &Array2<T>) -> Array2<T> {
    if x.nrows() == 1 {
        // Sampling has one row at a time, for which a matrix product spends most of its time packing the weight.
        weight.dot(&x.row(0)).insert_axis(Axis(0))
    } else {
        x.dot(&weight.t())
    }
}

/// Adds the gradient of [`linear`] with respect to the weight to `dweight`, and returns the one with respect to `x`.
pub(super) fn linear_backward<T: NdFloat>(
    dy: &Array2<T>,
    x: &Array2<T>,
    weight: &Array2<T>,
    dweight: &mut Array2<T>,
) -> Array2<T> {
    general_mat_mul(T::one(), &dy.t(), x, T::one(), dweight);
    dy.dot(weight)
}

/// The result of [`rms_norm`].
#[derive(Debug)]
pub(super) struct RmsNorm<T> {
    pub(super) output: Array2<T>,
    /// 1 / RMS of each input row.
    inverse_rms: Array1<T>,
}

/// Scales rows to a mean square of one (Zhang & Sennrich 2019, "Root mean square layer normalization"), without learned
/// gains.
pub(super) fn rms_norm<T: NdFloat>(x: &Array2<T>) -> RmsNorm<T> {
    let width = real::<T>(x.ncols() as f64);
    let inverse_rms = x.map_axis(Axis(1), |row| (row.dot(&row) / width + real(RMS_NORM_EPS)).sqrt().recip());
    RmsNorm { output: x * &inverse_rms.view().insert_axis(Axis(1)), inverse_rms }
}

impl<T: NdFloat> RmsNorm<T> {
    pub(super) fn backward(&self, mut dy: Array2<T>) -> Array2<T> {
        let width = real::<T>(dy.ncols() as f64);
        Zip::from(dy.rows_mut()).and(self.output.rows()).and(&self.inverse_rms).for_each(|mut dy, y, &inverse_rms| {
            let projection = dy.dot(&y) / width;
            Zip::from(&mut dy).and(y).for_each(|dy, &y| *dy = inverse_rms * (*dy - projection * y));
        });
        dy
    }
}

/// SwiGLU (Shazeer 2020, "GLU variants improve Transformer"): `gate · sigmoid(gate) · up`.
pub(super) fn swiglu<T: NdFloat>(gate: &Array2<T>, up: &Array2<T>) -> Array2<T> {
    Zip::from(gate).and(up).map_collect(|&gate, &up| gate * sigmoid(gate) * up)
}

/// The gradients of [`swiglu`] with respect to its two inputs.
pub(super) fn swiglu_backward<T: NdFloat>(dy: &Array2<T>, gate: &Array2<T>, up: &Array2<T>) -> (Array2<T>, Array2<T>) {
    let mut dgate = Array2::zeros(gate.raw_dim());
    let mut dup = Array2::zeros(up.raw_dim());
    Zip::from(&mut dgate).and(&mut dup).and(dy).and(gate).and(up).for_each(|dgate, dup, &dy, &gate, &up| {
        let sigmoid = sigmoid(gate);
        *dup = dy * gate * sigmoid;
        *dgate = dy * up * sigmoid * (T::one() + gate * (T::one() - sigmoid));
    });
    (dgate, dup)
}

fn sigmoid<T: NdFloat>(x: T) -> T {
    (T::one() + (-x).exp()).recip()
}

/// Logits to probabilities, in place. Subtracts the maximum first, so that nothing overflows.
pub(super) fn softmax<T: NdFloat>(mut logits: ArrayViewMut1<'_, T>) {
    let max = logits.fold(T::neg_infinity(), |max, &logit| max.max(logit));
    logits.mapv_inplace(|logit| (logit - max).exp());
    let sum = logits.sum();
    logits.mapv_inplace(|exp| exp / sum);
}

/// Turns the gradient with respect to the output of [`softmax`] into the one with respect to its logits, in place.
pub(super) fn softmax_backward<T: NdFloat>(mut dy: ArrayViewMut1<'_, T>, y: ArrayView1<'_, T>) {
    let projection = dy.dot(&y);
    Zip::from(&mut dy).and(y).for_each(|dy, &y| *dy = y * (*dy - projection));
}

/// Logits to natural logarithms of probabilities, in place.
pub(super) fn log_softmax<T: NdFloat>(mut logits: ArrayViewMut1<'_, T>) {
    let max = logits.fold(T::neg_infinity(), |max, &logit| max.max(logit));
    let sum = logits.fold(T::zero(), |sum, &logit| sum + (logit - max).exp());
    let log_sum_exp = max + sum.ln();
    logits.mapv_inplace(|logit| logit - log_sum_exp);
}

/// Rotary position embedding (Su et al. 2021): within each head, the features i and i + half are rotated by an angle
/// proportional to the position, so that the product of a query and a key depends on their distance.
#[derive(Debug)]
pub(super) struct RotaryEmbedding<T> {
    /// Cosine and sine for each position (row) and pair of features (column).
    cos_sin: Array2<(T, T)>,
}

impl<T: NdFloat> RotaryEmbedding<T> {
    pub(super) fn new(positions: usize, head_size: usize) -> RotaryEmbedding<T> {
        let half = head_size / 2;
        let cos_sin = Array2::from_shape_fn((positions, half), |(position, pair)| {
            let angle = position as f64 * ROTARY_BASE.powf(-(pair as f64) / half as f64);
            (real(angle.cos()), real(angle.sin()))
        });
        RotaryEmbedding { cos_sin }
    }

    /// Rotates each row by the angles of its position.
    pub(super) fn rotate(&self, rows: &mut Array2<T>, positions: &[usize]) {
        self.rotate_by(rows, positions, T::one());
    }

    /// The backward function: a gradient is multiplied by the transpose of the rotation, which is its inverse.
    pub(super) fn rotate_backward(&self, rows: &mut Array2<T>, positions: &[usize]) {
        self.rotate_by(rows, positions, -T::one());
    }

    fn rotate_by(&self, rows: &mut Array2<T>, positions: &[usize], sign: T) {
        let half = self.cos_sin.ncols();
        let last_position = self.cos_sin.nrows() - 1;
        for (mut row, &position) in rows.rows_mut().into_iter().zip(positions) {
            let cos_sin = self.cos_sin.row(position.min(last_position));
            for head in row.exact_chunks_mut(2 * half) {
                let (first, second) = head.split_at(Axis(0), half);
                Zip::from(first).and(second).and(cos_sin).for_each(|first, second, &(cos, sin)| {
                    let sin = sign * sin;
                    (*first, *second) = (*first * cos - *second * sin, *first * sin + *second * cos);
                });
            }
        }
    }
}

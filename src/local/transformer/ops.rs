//! The functions that a layer is made of, each with its backward function.
//!
//! Matrices have one row per token. A backward function takes the gradient of the loss with respect to the output (`dy`) and
//! returns it with respect to the input.

use std::array::from_fn;

use ndarray::{Array1, Array2, ArrayView1, ArrayViewMut1, ArrayViewMut2, Axis, Zip};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::splitmix::real;
use crate::local::kernel::Real;

/// How many numbers one thread takes at a time: enough to be worth it.
const PIECE: usize = 1 << 14;

/// Works on blocks of rows of matrices with the same number of rows, on several threads. Each call gets the index of its first
/// row, which no number may depend on otherwise.
pub(super) fn rows_in_parallel<T: Send, const N: usize>(
    matrices: [&mut Array2<T>; N],
    work: impl Fn(usize, [ArrayViewMut2<'_, T>; N]) + Sync,
) {
    let columns: usize = matrices.iter().map(|matrix| matrix.ncols()).sum();
    let rows = (PIECE / columns.max(1)).max(1);
    if matrices.iter().all(|matrix| matrix.nrows() <= rows) {
        return work(0, matrices.map(|matrix| matrix.view_mut()));
    }
    let mut pieces = matrices.map(|matrix| matrix.axis_chunks_iter_mut(Axis(0), rows));
    let blocks = pieces[0].len();
    let blocks: Vec<_> =
        (0..blocks).map(|index| (index * rows, from_fn(|at| pieces[at].next().expect("all have as many")))).collect();
    blocks.into_par_iter().for_each(|(first, block)| work(first, block));
}

/// Rows with a mean square of one.
#[derive(Debug)]
pub(super) struct Normalized<T> {
    rows: Array2<T>,
    /// 1 / RMS of each input row.
    inverse_rms: Array1<T>,
}

/// Scales rows to a mean square of one (Zhang & Sennrich 2019, "Root mean square layer normalization"). `eps` keeps it finite on
/// a row of zeros.
pub(super) fn normalize<T: Real>(mut rows: Array2<T>, eps: f64) -> Normalized<T> {
    let width = real::<T>(rows.ncols() as f64);
    let mut inverse_rms = Array2::zeros((rows.nrows(), 1));
    rows_in_parallel([&mut rows, &mut inverse_rms], |_, [mut rows, mut inverse_rms]| {
        for (mut row, inverse_rms) in rows.rows_mut().into_iter().zip(&mut inverse_rms) {
            *inverse_rms = (row.dot(&row) / width + real(eps)).sqrt().recip();
            row *= *inverse_rms;
        }
    });
    Normalized { rows, inverse_rms: inverse_rms.remove_axis(Axis(1)) }
}

impl<T: Real> Normalized<T> {
    /// The rows with gains, one for each column.
    pub(super) fn scaled(&self, gains: &Array1<T>) -> Array2<T> {
        &self.rows * gains
    }

    /// The gradient with respect to the rows before they were normalized, from the one with respect to [`scaled`](Self::scaled).
    pub(super) fn backward(&self, mut dy: Array2<T>, gains: &Array1<T>) -> Array2<T> {
        let width = real::<T>(dy.ncols() as f64);
        rows_in_parallel([&mut dy], |first, [mut dy]| {
            for (index, mut dy) in dy.rows_mut().into_iter().enumerate() {
                let (y, inverse_rms) = (self.rows.row(first + index), self.inverse_rms[first + index]);
                dy *= gains;
                let projection = dy.dot(&y) / width;
                Zip::from(&mut dy).and(y).for_each(|dy, &y| *dy = inverse_rms * (*dy - projection * y));
            }
        });
        dy
    }
}

/// SwiGLU (Shazeer 2020, "GLU variants improve Transformer"): `gate · sigmoid(gate) · up`.
pub(super) fn swiglu<T: Real>(gate: &Array2<T>, up: &Array2<T>) -> Array2<T> {
    let mut gated = gate.clone();
    rows_in_parallel([&mut gated], |first, [mut gated]| {
        for (index, mut row) in gated.rows_mut().into_iter().enumerate() {
            Zip::from(&mut row).and(up.row(first + index)).for_each(|gate, &up| *gate = *gate * sigmoid(*gate) * up);
        }
    });
    gated
}

/// The gradients of [`swiglu`] with respect to its two inputs.
pub(super) fn swiglu_backward<T: Real>(dy: &Array2<T>, gate: &Array2<T>, up: &Array2<T>) -> [Array2<T>; 2] {
    let (mut dgate, mut dup) = (gate.clone(), up.clone());
    rows_in_parallel([&mut dgate, &mut dup], |first, [mut gate, mut up]| {
        for (index, (mut gate, mut up)) in gate.rows_mut().into_iter().zip(up.rows_mut()).enumerate() {
            Zip::from(&mut gate).and(&mut up).and(dy.row(first + index)).for_each(|gate, up, &dy| {
                let sigmoid = sigmoid(*gate);
                (*gate, *up) = (dy * *up * sigmoid * (T::one() + *gate * (T::one() - sigmoid)), dy * *gate * sigmoid);
            });
        }
    });
    [dgate, dup]
}

fn sigmoid<T: Real>(x: T) -> T {
    (T::one() + (-x).exp()).recip()
}

/// Logits to probabilities, in place. Subtracts the maximum first, so that nothing overflows.
pub(super) fn softmax<T: Real>(mut logits: ArrayViewMut1<'_, T>) {
    let max = logits.fold(T::neg_infinity(), |max, &logit| max.max(logit));
    logits.mapv_inplace(|logit| (logit - max).exp());
    let sum = logits.sum();
    logits.mapv_inplace(|exp| exp / sum);
}

/// Turns the gradient with respect to the output of [`softmax`] into the one with respect to its logits, in place.
pub(super) fn softmax_backward<T: Real>(mut dy: ArrayViewMut1<'_, T>, y: ArrayView1<'_, T>) {
    let projection = dy.dot(&y);
    Zip::from(&mut dy).and(y).for_each(|dy, &y| *dy = y * (*dy - projection));
}

/// Logits to natural logarithms of probabilities, in place.
pub(super) fn log_softmax<T: Real>(mut logits: ArrayViewMut1<'_, T>) {
    let max = logits.fold(T::neg_infinity(), |max, &logit| max.max(logit));
    let sum = logits.fold(T::zero(), |sum, &logit| sum + (logit - max).exp());
    let log_sum_exp = max + sum.ln();
    logits.mapv_inplace(|logit| logit - log_sum_exp);
}

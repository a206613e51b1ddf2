//! The functions that a layer is made of, on matrices with one row per token: those of `kernel`, on several threads.
//!
//! A backward function takes the gradient of the loss with respect to the output (`dy`) and returns it with respect to the input.

use std::array::from_fn;

use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::splitmix::real;
use crate::local::kernel::{self, Real};

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

/// Works on each row of matrices with the same number of rows, with its index.
fn each_row<T: Send, const N: usize>(matrices: [&mut Array2<T>; N], work: impl Fn(usize, [&mut [T]; N]) + Sync) {
    rows_in_parallel(matrices, |first, mut blocks| {
        for index in 0..blocks[0].nrows() {
            let mut rows = blocks.each_mut().map(|block| block.row_mut(index));
            work(first + index, rows.each_mut().map(|row| contiguous(row)));
        }
    });
}

fn contiguous<'a, T>(row: &'a mut ArrayViewMut1<'_, T>) -> &'a mut [T] {
    row.as_slice_mut().expect("rows are contiguous")
}

fn row<T>(matrix: &Array2<T>, index: usize) -> &[T] {
    matrix.row(index).to_slice().expect("rows are contiguous")
}

/// Scales rows to a mean square of one, then each column by its gain (Zhang & Sennrich 2019, "Root mean square layer
/// normalization"). `eps` keeps it finite on a row of zeros.
pub(super) fn rms_norm<T: Real>(x: &Array2<T>, gains: &Array1<T>, eps: f64) -> Array2<T> {
    let mut output = Array2::zeros(x.raw_dim());
    let gains = gains.as_slice().expect("gains are contiguous");
    each_row([&mut output], |index, [output]| kernel::rms_norm(row(x, index), gains, real(eps), output));
    output
}

/// The backward function of [`rms_norm`].
pub(super) fn rms_norm_backward<T: Real>(x: &Array2<T>, gains: &Array1<T>, eps: f64, mut dy: Array2<T>) -> Array2<T> {
    let gains = gains.as_slice().expect("gains are contiguous");
    each_row([&mut dy], |index, [dy]| kernel::rms_norm_backward(row(x, index), gains, real(eps), dy));
    dy
}

/// SwiGLU (Shazeer 2020, "GLU variants improve Transformer"): `gate · sigmoid(gate) · up`.
pub(super) fn swiglu<T: Real>(gate: &Array2<T>, up: &Array2<T>) -> Array2<T> {
    let mut output = Array2::zeros(gate.raw_dim());
    each_row([&mut output], |index, [output]| kernel::silu_gate(row(gate, index), row(up, index), output));
    output
}

/// The gradients of [`swiglu`] with respect to its two inputs, in their place.
pub(super) fn swiglu_backward<T: Real>(dy: &Array2<T>, gate: &mut Array2<T>, up: &mut Array2<T>) {
    each_row([gate, up], |index, [gate, up]| kernel::silu_gate_backward(row(dy, index), gate, up));
}

/// Logits to probabilities, in place.
pub(super) fn softmax<T: Real>(mut logits: ArrayViewMut1<'_, T>) {
    kernel::softmax(contiguous(&mut logits));
}

/// Logits to natural logarithms of probabilities, in place.
pub(super) fn log_softmax<T: Real>(mut logits: ArrayViewMut1<'_, T>) {
    kernel::log_softmax(contiguous(&mut logits));
}

/// Turns the gradient with respect to a row of [`softmax`]'s results into the one with respect to its logits, in place.
pub(super) fn softmax_backward<T: Real>(mut dy: ArrayViewMut1<'_, T>, y: &Array2<T>, index: usize) {
    kernel::softmax_backward(contiguous(&mut dy), row(y, index));
}

/// `left · right`.
pub(super) fn product<T: Real>(left: ArrayView2<'_, T>, right: ArrayView2<'_, T>) -> Array2<T> {
    let mut output = Array2::zeros((left.nrows(), right.ncols()));
    kernel::add_product(T::one(), left, right, output.view_mut());
    output
}

/// Adds a matrix to another.
pub(super) fn add<T: Real>(sum: &mut Array2<T>, addend: &Array2<T>) {
    each_row([sum], |index, [sum]| {
        for (sum, &addend) in sum.iter_mut().zip(row(addend, index)) {
            *sum += addend;
        }
    });
}

//! Products of matrices in `f32`: in which of two ways, and how the threads share the work.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use pulp::Arch;

use super::dots::{self, Dots};
use super::matrix::Matrix;
use super::panels::{self, Panels};
use super::scratch::with_scratch;
use super::threads::for_each;

/// The largest part of a result that a task computes in one go. What it reads of the right matrix fits into the second cache; and so
/// many rows outweigh what is spent to prepare it.
const PART: (usize, usize) = (192, 96);

/// With up to so many rows, reading the right matrix takes longer than the arithmetic.
const ROWS_PER_READ: usize = 8;

/// Adds `alpha · left · right` to `out`.
pub(super) fn add_product(alpha: f32, left: ArrayView2<'_, f32>, right: Matrix<'_>, mut out: ArrayViewMut2<'_, f32>) {
    let (rows, columns, steps) = (out.nrows(), out.ncols(), left.ncols());
    if rows * columns * steps == 0 {
        return;
    }
    if columns > 1 && out.stride_of(Axis(1)) != 1 {
        let mut product = Array2::zeros(out.dim());
        add_product(alpha, left, right, product.view_mut());
        out += &product;
        return;
    }
    let left_has_whole_rows = left.stride_of(Axis(1)) == 1 || steps == 1;
    if let (Matrix::Full(right), false, true) = (right, left_has_whole_rows, rows > columns) {
        // The transposed product reads only the smaller matrix across its rows.
        let mut product = Array2::zeros((columns, rows));
        add_product(alpha, right.reversed_axes(), Matrix::Full(left.reversed_axes()), product.view_mut());
        out += &product.t();
        return;
    }
    let left = if left_has_whole_rows { left.into() } else { left.as_standard_layout() };
    let left: Vec<&[f32]> = left.outer_iter().filter_map(|row| row.to_slice()).collect();
    let transposed = right.transposed();
    let is_dots = transposed.has_whole_rows();

    // All rows are one task where there are columns enough for many, because each task prepares its part of the right matrix.
    let height = if columns > 4 * PART.1 { rows } else { PART.0 }.max(1);
    let mut stripes: Vec<_> = out.axis_chunks_iter_mut(Axis(0), height).collect();
    let mut tasks = Vec::new();
    for (left, stripe) in left.chunks(height).zip(&mut stripes) {
        for (index, out) in stripe.axis_chunks_iter_mut(Axis(1), PART.1).enumerate() {
            tasks.push((left, index * PART.1..index * PART.1 + out.ncols(), out));
        }
    }
    for_each(rows.max(ROWS_PER_READ) * columns * steps, tasks, |(left, columns, mut out)| {
        let mut out: Vec<&mut [f32]> = out.rows_mut().into_iter().filter_map(|row| row.into_slice()).collect();
        let out = &mut out;
        if is_dots {
            with_scratch(dots::scratch_length(transposed, columns.len()), |scratch| {
                Arch::new().dispatch(Dots { alpha, left, right: transposed, columns, out, scratch });
            });
        } else {
            with_scratch(panels::scratch_length(right, columns.len()), |scratch| {
                Arch::new().dispatch(Panels { alpha, left, right, columns, out, scratch });
            });
        }
    });
}

//! Parts of matrices. (ndarray's `s!` is unsafe code.)

use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, Axis};

/// Consecutive rows.
pub(super) fn rows<'a, T>(matrix: ArrayView2<'a, T>, range: Range<usize>) -> ArrayView2<'a, T> {
    matrix.split_at(Axis(0), range.end).0.split_at(Axis(0), range.start).1
}

/// Consecutive rows, mutably.
pub(super) fn rows_mut<'a, T>(matrix: ArrayViewMut2<'a, T>, range: Range<usize>) -> ArrayViewMut2<'a, T> {
    matrix.split_at(Axis(0), range.end).0.split_at(Axis(0), range.start).1
}

/// Consecutive columns of consecutive rows.
pub(super) fn block<'a, T>(
    matrix: ArrayView2<'a, T>,
    row_range: Range<usize>,
    columns: Range<usize>,
) -> ArrayView2<'a, T> {
    rows(matrix, row_range).split_at(Axis(1), columns.end).0.split_at(Axis(1), columns.start).1
}

/// Consecutive columns of consecutive rows, mutably.
pub(super) fn block_mut<'a, T>(
    matrix: ArrayViewMut2<'a, T>,
    row_range: Range<usize>,
    columns: Range<usize>,
) -> ArrayViewMut2<'a, T> {
    rows_mut(matrix, row_range).split_at(Axis(1), columns.end).0.split_at(Axis(1), columns.start).1
}

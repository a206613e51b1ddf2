//! What the products in `f32` read: a view of numbers in either precision.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2, Axis};

use super::half::finite_f16_to_f32;

/// A view of a matrix.
#[derive(Clone, Copy, Debug)]
pub(super) enum Matrix<'a> {
    Full(ArrayView2<'a, f32>),
    /// IEEE half precision, finite.
    Half(ArrayView2<'a, u16>),
}

impl<'a> Matrix<'a> {
    pub(super) fn dim(self) -> (usize, usize) {
        match self {
            Matrix::Full(view) => view.dim(),
            Matrix::Half(view) => view.dim(),
        }
    }

    pub(super) fn transposed(self) -> Matrix<'a> {
        match self {
            Matrix::Full(view) => Matrix::Full(view.reversed_axes()),
            Matrix::Half(view) => Matrix::Half(view.reversed_axes()),
        }
    }

    /// Whether the numbers of each row are side by side.
    pub(super) fn has_whole_rows(self) -> bool {
        let (_, columns) = self.dim();
        let stride = match self {
            Matrix::Full(view) => view.stride_of(Axis(1)),
            Matrix::Half(view) => view.stride_of(Axis(1)),
        };
        stride == 1 || columns <= 1
    }

    /// A row of `f32` whose numbers are side by side.
    pub(super) fn row(self, row: usize) -> Option<&'a [f32]> {
        match self {
            Matrix::Full(view) => view.index_axis_move(Axis(0), row).to_slice(),
            Matrix::Half(_) => None,
        }
    }

    /// Copies some columns of a row. Inlined, so that it uses the vectors of the caller.
    #[inline(always)]
    pub(super) fn copy(self, row: usize, columns: Range<usize>, to: &mut [f32]) {
        match self {
            Matrix::Full(view) => copy(view.row(row), columns, to, |number| number),
            Matrix::Half(view) => copy(view.row(row), columns, to, finite_f16_to_f32),
        }
    }
}

#[inline(always)]
fn copy<N: Copy>(row: ArrayView1<'_, N>, columns: Range<usize>, to: &mut [f32], value: impl Fn(N) -> f32) {
    if let Some(row) = row.to_slice() {
        for (to, from) in to.iter_mut().zip(&row[columns]) {
            *to = value(*from);
        }
    } else {
        for (to, column) in to.iter_mut().zip(columns) {
            *to = value(row[column]);
        }
    }
}

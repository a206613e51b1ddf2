//! Frozen matrices, and products with them.

use ndarray::{Array2, ArrayView2, ArrayViewMut1, ArrayViewMut2};

use super::real::Real;

/// A matrix that no training changes: outputs × inputs.
#[derive(Clone, Debug)]
pub(crate) enum Weight<T> {
    Full(Array2<T>),
    /// IEEE half precision: half the memory.
    #[cfg_attr(not(any(test, feature = "pretrained")), allow(dead_code, reason = "only real models are loaded"))]
    Half(Array2<u16>),
}

impl<T: Real> Weight<T> {
    /// Outputs and inputs.
    pub(crate) fn dim(&self) -> (usize, usize) {
        match self {
            Weight::Full(matrix) => matrix.dim(),
            Weight::Half(matrix) => matrix.dim(),
        }
    }

    /// Copies a row, as of an embedding.
    pub(crate) fn copy_row(&self, index: usize, mut row: ArrayViewMut1<'_, T>) {
        match self {
            Weight::Full(matrix) => row.assign(&matrix.row(index)),
            Weight::Half(matrix) => row.zip_mut_with(&matrix.row(index), |to, &from| *to = T::from_half(from)),
        }
    }
}

/// `x · weightᵀ`: rows × inputs to rows × outputs.
pub(crate) fn linear<T: Real>(x: ArrayView2<'_, T>, weight: &Weight<T>) -> Array2<T> {
    let mut y = Array2::zeros((x.nrows(), weight.dim().0));
    match weight {
        Weight::Full(matrix) => T::add_product(T::one(), x, matrix.t(), y.view_mut()),
        Weight::Half(matrix) => T::add_half_product(x, matrix.t(), y.view_mut()),
    }
    y
}

/// `dy · weight`, the gradient of [`linear`] with respect to `x`: rows × outputs to rows × inputs.
pub(crate) fn linear_backward<T: Real>(dy: ArrayView2<'_, T>, weight: &Weight<T>) -> Array2<T> {
    let mut dx = Array2::zeros((dy.nrows(), weight.dim().1));
    match weight {
        Weight::Full(matrix) => T::add_product(T::one(), dy, matrix.view(), dx.view_mut()),
        Weight::Half(matrix) => T::add_half_product(dy, matrix.view(), dx.view_mut()),
    }
    dx
}

/// Adds `alpha · left · right` to `out`.
pub(crate) fn add_product<T: Real>(
    alpha: T,
    left: ArrayView2<'_, T>,
    right: ArrayView2<'_, T>,
    out: ArrayViewMut2<'_, T>,
) {
    T::add_product(alpha, left, right, out);
}

//! The precisions that a model computes in.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, NdFloat};

use super::exponential::exponential;
use super::half::f16_to_f32;
use super::matrix::Matrix;
use super::product;

/// Whether this crate is not optimized: its own products are then hundreds of times slower, and those of ndarray, which is always
/// optimized, take their place. They keep the same promises.
const IS_SLOW: bool = cfg!(debug_assertions);

/// `f32`; and `f64`, in which tests check gradients.
pub(crate) trait Real: NdFloat {
    /// The value of an IEEE half-precision number.
    fn from_half(bits: u16) -> Self;

    /// eˣ, in loops that become vector instructions.
    fn exponential(self) -> Self;

    /// Adds `alpha · left · right` to `out`.
    fn add_product(alpha: Self, left: ArrayView2<'_, Self>, right: ArrayView2<'_, Self>, out: ArrayViewMut2<'_, Self>);

    /// The same with a matrix of half precision.
    fn add_half_product(left: ArrayView2<'_, Self>, right: ArrayView2<'_, u16>, out: ArrayViewMut2<'_, Self>);
}

impl Real for f32 {
    fn from_half(bits: u16) -> f32 {
        f16_to_f32(bits)
    }

    #[inline(always)]
    fn exponential(self) -> f32 {
        exponential(self)
    }

    fn add_product(alpha: f32, left: ArrayView2<'_, f32>, right: ArrayView2<'_, f32>, mut out: ArrayViewMut2<'_, f32>) {
        if IS_SLOW {
            general_mat_mul(alpha, &left, &right, 1.0, &mut out);
        } else {
            product::add_product(alpha, left, Matrix::Full(right), out);
        }
    }

    fn add_half_product(left: ArrayView2<'_, f32>, right: ArrayView2<'_, u16>, mut out: ArrayViewMut2<'_, f32>) {
        if IS_SLOW {
            general_mat_mul(1.0, &left, &right.mapv(f16_to_f32), 1.0, &mut out);
        } else {
            product::add_product(1.0, left, Matrix::Half(right), out);
        }
    }
}

impl Real for f64 {
    fn from_half(bits: u16) -> f64 {
        f16_to_f32(bits).into()
    }

    fn exponential(self) -> f64 {
        self.exp()
    }

    fn add_product(alpha: f64, left: ArrayView2<'_, f64>, right: ArrayView2<'_, f64>, mut out: ArrayViewMut2<'_, f64>) {
        general_mat_mul(alpha, &left, &right, 1.0, &mut out);
    }

    fn add_half_product(left: ArrayView2<'_, f64>, right: ArrayView2<'_, u16>, mut out: ArrayViewMut2<'_, f64>) {
        general_mat_mul(1.0, &left, &right.mapv(f64::from_half), 1.0, &mut out);
    }
}

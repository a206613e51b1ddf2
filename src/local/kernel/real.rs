//! The precisions that a model computes in.

use ndarray::NdFloat;

use super::half::f16_to_f32;

/// `f32`; and `f64`, in which tests check gradients.
pub(crate) trait Real: NdFloat {
    /// The value of an IEEE half-precision number.
    fn from_half(bits: u16) -> Self;
}

impl Real for f32 {
    fn from_half(bits: u16) -> f32 {
        f16_to_f32(bits)
    }
}

impl Real for f64 {
    fn from_half(bits: u16) -> f64 {
        f16_to_f32(bits).into()
    }
}

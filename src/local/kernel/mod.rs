//! Products with the frozen matrices of a model, on several threads.
//!
//! A product has one path for every number of rows, and each number of its result is summed in an order that depends on the matrix
//! alone: neither the number of threads nor the other rows change a bit of a row. Another processor may have other vectors, and so
//! other last bits.

mod dots;
mod exponential;
mod half;
mod matrix;
mod panels;
mod product;
mod real;
mod rows;
mod scratch;
mod threads;
mod weight;

#[cfg(test)]
mod product_tests;

#[cfg(any(test, feature = "pretrained"))]
pub(crate) use self::half::{f16_to_f32, f32_to_f16};
pub(crate) use self::real::Real;
pub(crate) use self::rows::{
    log_softmax, rms_norm, rms_norm_backward, silu_gate, silu_gate_backward, softmax, softmax_backward,
};
pub(crate) use self::threads::Threads;
pub(crate) use self::weight::{Weight, add_product, linear, linear_backward};

//! Products with the frozen matrices of a model, on several threads.
//!
//! Every number of a result is summed in an order that depends on the matrix alone: neither the number of threads nor the other rows
//! change a bit of a row.

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

pub(crate) use self::half::{f16_to_f32, f32_to_f16};
pub(crate) use self::real::Real;
pub(crate) use self::rows::{
    log_softmax, rms_norm, rms_norm_backward, silu_gate, silu_gate_backward, softmax, softmax_backward,
};
pub(crate) use self::threads::Threads;
pub(crate) use self::weight::{Weight, add_linear, add_product, linear, linear_backward};

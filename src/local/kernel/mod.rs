//! Products with the frozen matrices of a model, on several threads.
//!
//! Every number of a result is summed in an order that depends on the matrix alone: neither the number of threads nor the other rows
//! change a bit of a row.

mod half;
mod real;
mod threads;
mod weight;

pub(crate) use self::half::{f16_to_f32, f32_to_f16};
pub(crate) use self::real::Real;
pub(crate) use self::threads::Threads;
pub(crate) use self::weight::{Weight, linear, linear_backward};

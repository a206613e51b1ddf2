//! What all custom losses check.

use ndarray::Array1;

use crate::error::{Error, Result};
use crate::types::Datum;

/// Checks that each datum has one array of the same length as its log-probabilities.
pub(super) fn check(data: &[Datum], logprobs: &[Array1<f32>], others: &[Array1<f32>], what: &str) -> Result<()> {
    let lengths = |arrays: &[Array1<f32>]| arrays.iter().map(Array1::len).collect::<Vec<_>>();
    if data.len() == logprobs.len() && lengths(logprobs) == lengths(others) {
        return Ok(());
    }
    Err(Error::invalid_input(format!(
        "the {what} must have one array for each datum, as long as its log-probabilities"
    )))
}

/// The weight of each target of a datum.
pub(super) fn weights(datum: &Datum, targets: usize) -> Result<Array1<f32>> {
    let Some(weights) = datum.loss_fn_inputs.get("weights") else { return Ok(Array1::ones(targets)) };
    match weights.as_f32() {
        Some(weights) if weights.len() == targets => Ok(weights.to_vec().into()),
        _ => Err(Error::invalid_input(format!("the weights of a datum are not {targets} float32 numbers"))),
    }
}

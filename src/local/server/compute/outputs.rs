//! From a model's results to the types of the protocol.

use std::collections::BTreeMap;

use crate::local::model::Example;
use crate::local::server::state::TaskError;
use crate::types::{ForwardBackwardOutput, LossFnOutput, TensorData};

/// The losses of a batch in nats: one value for each target, in the shape of the targets, and the sum over the batch.
///
/// # Errors
///
/// A model that has not computed a log-probability for each target.
pub(super) fn batch_output(batch: &[Example], logprobs: Vec<Vec<f32>>) -> Result<ForwardBackwardOutput, TaskError> {
    let loss: f64 = batch.iter().zip(&logprobs).map(|(example, logprobs)| example.objective.loss(logprobs)).sum();
    let tokens: usize = batch.iter().map(|example| example.tokens.len()).sum();
    let outputs = batch.iter().zip(logprobs).map(|(example, logprobs)| {
        let shaped = |values: Vec<f32>| {
            let mut shape = vec![example.tokens.len()];
            shape.extend(example.targets_per_token);
            let failed = |error| TaskError::server(format!("the model computed no logprob for each target: {error}"));
            TensorData::from(values).with_shape(shape).map_err(failed)
        };
        let token_losses = shaped(example.objective.token_losses(&logprobs))?;
        Ok(LossFnOutput::from_iter([("logprobs", shaped(logprobs)?), ("elementwise_loss", token_losses)]))
    });
    Ok(ForwardBackwardOutput {
        loss_fn_output_type: "ArrayRecord".to_owned(),
        loss_fn_outputs: outputs.collect::<Result<_, TaskError>>()?,
        metrics: BTreeMap::from([("loss:sum".to_owned(), loss), ("tokens:sum".to_owned(), tokens as f64)]),
    })
}

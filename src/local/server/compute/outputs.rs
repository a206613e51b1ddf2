//! From a model's results to the types of the protocol.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::local::model::Example;
use crate::types::{ForwardBackwardOutput, LossFnOutput, OptimStepResponse, TensorData};

/// The result of a training task.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum TaskOutput {
    Losses(ForwardBackwardOutput),
    OptimStep(OptimStepResponse),
    Other(Tagged<Value>),
}

/// A response with its type: `{"type": …, …}`.
#[derive(Debug, Serialize)]
pub(crate) struct Tagged<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    fields: T,
}

pub(crate) fn tagged<T: Serialize>(kind: &'static str, fields: T) -> Tagged<T> {
    Tagged { kind, fields }
}

/// The losses of a batch in nats: one value per token, and the sum over the batch.
pub(super) fn batch_output(batch: &[Example], logprobs: Vec<Vec<f32>>) -> ForwardBackwardOutput {
    let loss: f64 = batch.iter().zip(&logprobs).map(|(example, logprobs)| example.objective.loss(logprobs)).sum();
    let tokens: usize = logprobs.iter().map(Vec::len).sum();
    let outputs = batch.iter().zip(logprobs).map(|(example, logprobs)| {
        let token_losses = TensorData::from(example.objective.token_losses(&logprobs));
        let logprobs = TensorData::from(logprobs);
        LossFnOutput::from_iter([("logprobs", logprobs), ("elementwise_loss", token_losses)])
    });
    ForwardBackwardOutput {
        loss_fn_output_type: "ArrayRecord".to_owned(),
        loss_fn_outputs: outputs.collect(),
        metrics: BTreeMap::from([("loss:sum".to_owned(), loss), ("tokens:sum".to_owned(), tokens as f64)]),
    }
}

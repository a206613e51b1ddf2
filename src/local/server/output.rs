//! From what a model gives to answers on the wire.

use std::collections::BTreeMap;

use serde::Serialize;

use super::input::SampleTask;
use crate::local::model::{self, Example, PromptLogprobs, Sample};
use crate::types::{
    ForwardBackwardOutput, LossFnOutput, SampleResponse, SampledSequence, StopReason, TensorData, TokenLogprob,
};

/// An answer that says what it is: `{"type": kind, …}`.
#[derive(Debug, Serialize)]
pub(super) struct Typed<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    answer: T,
}

pub(super) fn typed<T: Serialize>(kind: &'static str, answer: T) -> Typed<T> {
    Typed { kind, answer }
}

/// The losses of a batch, with the sums over it. A loss is in nats.
pub(super) fn losses(batch: &[Example], logprobs: Vec<Vec<f32>>) -> ForwardBackwardOutput {
    let loss: f64 = batch.iter().zip(&logprobs).map(|(example, logprobs)| example.loss.value(logprobs)).sum();
    let tokens: usize = logprobs.iter().map(Vec::len).sum();
    let outputs = batch.iter().zip(logprobs).map(|(example, logprobs)| {
        let elementwise = TensorData::from(example.loss.elementwise(&logprobs));
        let logprobs = TensorData::from(logprobs);
        LossFnOutput::from_iter([("logprobs", logprobs), ("elementwise_loss", elementwise)])
    });
    ForwardBackwardOutput {
        loss_fn_output_type: "ArrayRecord".to_owned(),
        loss_fn_outputs: outputs.collect(),
        metrics: BTreeMap::from([("loss:sum".to_owned(), loss), ("tokens:sum".to_owned(), tokens as f64)]),
    }
}

/// What was sampled, with what was asked for about the prompt.
pub(super) fn samples(task: &SampleTask, about: Option<PromptLogprobs>, samples: Vec<Sample>) -> Typed<SampleResponse> {
    let sequence = |sample: Sample| SampledSequence {
        stop_reason: match sample.stop_reason {
            model::StopReason::Stop => StopReason::Stop,
            model::StopReason::Length => StopReason::Length,
        },
        tokens: sample.tokens,
        logprobs: Some(sample.logprobs),
    };
    let (logprobs, topk) = about.map(|about| (about.logprobs, about.top_k)).unzip();
    let token_logprobs = |top: Vec<(u32, f32)>| top.into_iter().map(TokenLogprob::from).collect();
    let topk = topk.map(|topk: Vec<_>| topk.into_iter().map(|top| top.map(token_logprobs)).collect());
    let answer = SampleResponse {
        sequences: samples.into_iter().map(sequence).collect(),
        prompt_logprobs: logprobs.filter(|_| task.prompt_logprobs),
        topk_prompt_logprobs: topk.filter(|_| task.topk_prompt_logprobs > 0),
    };
    typed("sample", answer)
}

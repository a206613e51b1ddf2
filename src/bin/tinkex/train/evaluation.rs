//! The loss of a pass, and of an evaluation in several passes.

use std::collections::VecDeque;

use tinkex::types::{Batch, ForwardBackwardOutput, LossFn};
use tinkex::{Pending, TrainingClient};

use crate::failure::Failure;

/// Maximum number of passes in flight: held-out examples need not fit into memory.
const MAX_IN_FLIGHT: usize = 2;

/// A weighted sum over tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loss {
    nats: f64,
    weight: f64,
}

impl Loss {
    /// The negative log-probabilities of the trained tokens. If the service returns none per token, the sum comes from its own
    /// loss metric.
    pub(crate) fn of(batch: &Batch, output: &ForwardBackwardOutput) -> Result<Loss, Failure> {
        let weights: Vec<&[f32]> = batch
            .iter()
            .map(|datum| datum.loss_fn_inputs.get("weights").and_then(|weights| weights.as_f32()).unwrap_or_default())
            .collect();
        let logprobs: Vec<&[f32]> =
            output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap_or_default()).collect();
        let lengths = |lists: &[&[f32]]| lists.iter().map(|list| list.len()).collect::<Vec<_>>();
        let nats = match lengths(&weights) == lengths(&logprobs) {
            true => {
                let pairs = weights.iter().copied().flatten().zip(logprobs.iter().copied().flatten());
                -pairs.map(|(weight, logprob)| f64::from(weight * logprob)).sum::<f64>()
            }
            false => *output
                .metrics
                .get("loss:sum")
                .ok_or_else(|| Failure::failed("the response has neither log-probabilities nor the metric loss:sum"))?,
        };
        Ok(Loss { nats, weight: weights.iter().copied().flatten().map(|weight| f64::from(*weight)).sum() })
    }

    /// In nats per trained token.
    pub(crate) fn per_token(self) -> f64 {
        self.nats / self.weight
    }
}

/// An evaluation in flight: passes over parts of the held-out examples.
#[derive(Default)]
pub(crate) struct Evaluation {
    waiting: VecDeque<(Batch, Pending<ForwardBackwardOutput>)>,
    total: Option<Loss>,
}

impl Evaluation {
    /// Submits the pass over a part, after waiting for earlier ones if there are too many.
    pub(crate) fn submit(&mut self, trainer: &TrainingClient, part: Batch) -> Result<(), Failure> {
        if self.waiting.len() >= MAX_IN_FLIGHT {
            self.collect()?;
        }
        let pending = trainer.submit_forward(&part, LossFn::CrossEntropy)?;
        self.waiting.push_back((part, pending));
        Ok(())
    }

    fn collect(&mut self) -> Result<(), Failure> {
        if let Some((part, pending)) = self.waiting.pop_front() {
            let loss = Loss::of(&part, &pending.wait()?)?;
            let total = self.total.get_or_insert_default();
            (total.nats, total.weight) = (total.nats + loss.nats, total.weight + loss.weight);
        }
        Ok(())
    }

    /// Waits for all passes. Returns the loss per token, if there was any pass.
    pub(crate) fn finish(&mut self) -> Result<Option<f64>, Failure> {
        while !self.waiting.is_empty() {
            self.collect()?;
        }
        Ok(self.total.map(Loss::per_token))
    }
}

//! The loss of an evaluation in several passes.

use std::collections::VecDeque;

use tinkex::toolkit::TokenLoss;
use tinkex::types::{Batch, ForwardBackwardOutput, LossFn};
use tinkex::{Pending, TrainingClient};

use crate::failure::Failure;

/// Maximum number of passes in flight: held-out examples need not fit into memory.
const MAX_IN_FLIGHT: usize = 2;

/// An evaluation in flight: passes over parts of the held-out examples.
#[derive(Default)]
pub(crate) struct Evaluation {
    waiting: VecDeque<(Batch, Pending<ForwardBackwardOutput>)>,
    total: Option<TokenLoss>,
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

    /// Withdraws the passes that have no result yet.
    pub(crate) fn withdraw(&self) {
        self.waiting.iter().for_each(|(_, pending)| pending.cancel());
    }

    fn collect(&mut self) -> Result<(), Failure> {
        if let Some((part, pending)) = self.waiting.pop_front() {
            *self.total.get_or_insert_default() += TokenLoss::of(&part, &pending.wait()?)?;
        }
        Ok(())
    }

    /// Waits for all passes. Returns the loss per token, if there was any pass.
    pub(crate) fn finish(&mut self) -> Result<Option<f64>, Failure> {
        while !self.waiting.is_empty() {
            self.collect()?;
        }
        Ok(self.total.map(TokenLoss::per_token))
    }
}

//! A step in flight.

use std::time::{Duration, Instant};

use tinkex::clock::Clock;
use tinkex::toolkit::nats_per_token;
use tinkex::types::{Batch, ForwardBackwardOutput, OptimStepResponse, SaveWeightsResponse};
use tinkex::{Pending, Result};

use super::evaluation::Evaluation;
use super::examples::ExampleId;
use super::step_metrics::Metrics;

/// A step whose requests were submitted. Results are taken one by one, so that it is known how far the step got.
pub(crate) struct SubmittedStep {
    pub(crate) metrics: Metrics,
    /// The examples, in the order of the batch.
    pub(crate) examples: Vec<ExampleId>,
    pub(crate) batch: Batch,
    pub(crate) forward_backward: Stage<ForwardBackwardOutput>,
    pub(crate) optim_step: Stage<OptimStepResponse>,
    pub(crate) evaluation: Evaluation,
    pub(crate) checkpoint: Option<Stage<SaveWeightsResponse>>,
}

impl SubmittedStep {
    /// Whether the weights of the model have the update from this step's batch.
    pub(crate) fn is_learned(&self) -> bool {
        self.forward_backward.succeeded && self.optim_step.succeeded
    }

    /// Whether the optimizer changed the weights, with this step's gradient or without.
    pub(crate) fn is_updated(&self) -> bool {
        self.optim_step.succeeded
    }

    /// Waits for the update until the deadline, whatever comes of it.
    pub(crate) fn settle(&mut self, clock: &Clock, deadline: Instant, last_finished: &mut Instant) {
        if let Some(output) = self.forward_backward.settle(clock, deadline) {
            self.metrics.loss = nats_per_token(&self.batch, &output).unwrap_or(f64::NAN);
        }
        if self.optim_step.settle(clock, deadline).is_some() {
            self.metrics.finish(last_finished, clock.now());
        }
    }

    /// Withdraws what has no result yet, so that it is not retried before later requests.
    pub(crate) fn withdraw(&self) {
        self.forward_backward.withdraw();
        self.optim_step.withdraw();
        self.evaluation.withdraw();
        self.checkpoint.iter().for_each(Stage::withdraw);
    }
}

/// The result of a request, if it comes within this time. Otherwise the request is withdrawn.
pub(crate) fn within<T>(pending: &Pending<T>, limit: Duration) -> Option<Result<T>> {
    let result = pending.wait_timeout(limit);
    if result.is_none() {
        pending.cancel();
    }
    result
}

/// A request in flight.
pub(crate) struct Stage<T> {
    pending: Option<Pending<T>>,
    succeeded: bool,
}

impl<T> Stage<T> {
    pub(crate) fn new(pending: Pending<T>) -> Self {
        Stage { pending: Some(pending), succeeded: false }
    }

    /// The result, for the first call. None if it was taken before.
    pub(crate) fn wait(&mut self) -> Result<Option<T>> {
        let result = self.pending.take().map(Pending::wait).transpose()?;
        self.succeeded |= result.is_some();
        Ok(result)
    }

    fn withdraw(&self) {
        self.pending.iter().for_each(Pending::cancel);
    }

    /// Waits until the deadline. A request without a result by then is withdrawn.
    pub(crate) fn settle(&mut self, clock: &Clock, deadline: Instant) -> Option<T> {
        let pending = self.pending.take()?;
        let result = within(&pending, deadline.saturating_duration_since(clock.now()))?.ok();
        self.succeeded |= result.is_some();
        result
    }
}

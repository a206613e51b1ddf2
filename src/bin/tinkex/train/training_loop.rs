//! The training loop. It submits one step ahead, so that the service never waits for the client, and awaits steps in order.

use std::collections::VecDeque;
use std::time::Instant;

use tinkex::clock::Clock;
use tinkex::types::{AdamParams, Batch, Datum, ForwardBackwardOutput, LossFn, OptimStepResponse, SaveWeightsResponse};
use tinkex::{Pending, TrainingClient};

use super::plan::{BatchOrder, Schedule};
use super::progress::Progress;
use super::record::{Checkpoint, RunRecord, checkpoint_name};
use super::step_metrics::Metrics;
use crate::failure::Failure;
use crate::interrupt::Interrupt;

/// Maximum number of steps in flight: the one that is awaited, and the next.
const MAX_IN_FLIGHT: usize = 2;

pub(crate) struct TokenizedExample {
    pub(crate) datum: Datum,
    pub(crate) tokens: usize,
    pub(crate) trained_tokens: usize,
}

pub(crate) struct TrainingLoop<'a> {
    pub(crate) trainer: &'a TrainingClient,
    pub(crate) examples: Vec<&'a TokenizedExample>,
    pub(crate) order: BatchOrder,
    /// Examples for evaluation; may be empty.
    pub(crate) held_out: Vec<&'a TokenizedExample>,
    /// The name of the run, and prefix of its checkpoints' names.
    pub(crate) name: &'a str,
    pub(crate) steps: u64,
    pub(crate) learning_rate: f64,
    pub(crate) schedule: Schedule,
    pub(crate) warmup_steps: u64,
    /// Evaluate every N steps; 0 for the last step only.
    pub(crate) eval_every: u64,
    /// Save every N steps; 0 for the last step only.
    pub(crate) save_every: u64,
}

/// A step in flight.
struct SubmittedStep {
    metrics: Metrics,
    batch: Batch,
    forward_backward: Pending<ForwardBackwardOutput>,
    optim_step: Pending<OptimStepResponse>,
    evaluation: Option<Pending<ForwardBackwardOutput>>,
    checkpoint: Option<Pending<SaveWeightsResponse>>,
}

impl TrainingLoop<'_> {
    /// Makes the steps after `completed`, until all are made or the program is asked to stop. Submitted steps are always
    /// completed, and the last one gets a checkpoint. Returns the last completed step.
    pub(crate) fn run(
        &self,
        completed: u64,
        record: &mut RunRecord,
        progress: &Progress,
        interrupt: &Interrupt,
    ) -> Result<u64, Failure> {
        let clock = Clock::system();
        let held_out: Batch = self.held_out.iter().map(|example| example.datum.clone()).collect::<Vec<_>>().into();
        let (mut in_flight, mut next, mut last) = (VecDeque::new(), completed + 1, completed);
        let mut last_finished = clock.now();
        loop {
            while in_flight.len() < MAX_IN_FLIGHT && next <= self.steps && !interrupt.is_requested() {
                in_flight.push_back(self.submit(next, &held_out)?);
                next += 1;
            }
            let Some(step) = in_flight.pop_front() else { break };
            last = step.metrics.step;
            self.finish(step, &held_out, &clock, &mut last_finished, record, progress)?;
        }
        if last > completed && record.last_checkpoint().is_none_or(|checkpoint| checkpoint.step != last) {
            let saved = self.trainer.save_state(checkpoint_name(self.name, last))?;
            record.add_checkpoint(Checkpoint { step: last, path: saved.path })?;
        }
        Ok(last)
    }

    fn submit(&self, step: u64, held_out: &Batch) -> Result<SubmittedStep, Failure> {
        let examples: Vec<&TokenizedExample> =
            self.order.batch(step).into_iter().filter_map(|index| self.examples.get(index).copied()).collect();
        let batch: Batch = examples.iter().map(|example| example.datum.clone()).collect::<Vec<_>>().into();
        let learning_rate = self.schedule.rate(self.learning_rate, step, self.steps, self.warmup_steps);
        let is_last = step == self.steps;
        let is_due = |every: u64| is_last || (every > 0 && step % every == 0);

        let forward_backward = self.trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
        let optim_step = self.trainer.submit_optim_step(AdamParams::default().learning_rate(learning_rate))?;
        let evaluation = (is_due(self.eval_every) && !held_out.is_empty())
            .then(|| self.trainer.submit_forward(held_out, LossFn::CrossEntropy))
            .transpose()?;
        let name = checkpoint_name(self.name, step);
        let checkpoint = is_due(self.save_every).then(|| self.trainer.submit_save_state(&name)).transpose()?;
        let metrics = Metrics {
            step,
            learning_rate,
            tokens: examples.iter().map(|example| example.tokens as u64).sum(),
            trained_tokens: examples.iter().map(|example| example.trained_tokens as u64).sum(),
            ..Metrics::default()
        };
        Ok(SubmittedStep { metrics, batch, forward_backward, optim_step, evaluation, checkpoint })
    }

    fn finish(
        &self,
        step: SubmittedStep,
        held_out: &Batch,
        clock: &Clock,
        last_finished: &mut Instant,
        record: &mut RunRecord,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut metrics = step.metrics;
        metrics.loss = loss_per_token(&step.batch, &step.forward_backward.wait()?)?;
        step.optim_step.wait()?;
        let now = clock.now();
        metrics.tokens_per_second = metrics.tokens as f64 / (now - *last_finished).as_secs_f64().max(f64::EPSILON);
        *last_finished = now;
        if let Some(evaluation) = step.evaluation {
            metrics.eval_loss = Some(loss_per_token(held_out, &evaluation.wait()?)?);
        }
        if !metrics.loss.is_finite() {
            return Err(Failure::failed(format!("the loss of step {} is {}", metrics.step, metrics.loss))
                .hint("lower --learning-rate"));
        }
        progress.step(&metrics);
        let number = metrics.step;
        record.add_metrics(metrics)?;
        if let Some(checkpoint) = step.checkpoint {
            let path = checkpoint.wait()?.path;
            progress.line(format_args!("saved {path}"));
            record.add_checkpoint(Checkpoint { step: number, path })?;
            record.draw(self.name)?;
        }
        Ok(())
    }
}

/// The mean negative log-probability of the trained tokens, weighted, in nats. If the service returns no log-probabilities per
/// token, the sum comes from its own loss metric.
fn loss_per_token(batch: &Batch, output: &ForwardBackwardOutput) -> Result<f64, Failure> {
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
    Ok(nats / weights.iter().copied().flatten().map(|weight| f64::from(*weight)).sum::<f64>())
}

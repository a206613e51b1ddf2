//! The steps of a training: submitted one ahead, so that the service never waits for us, and finished in their order.

use std::collections::VecDeque;
use std::time::Instant;

use tinkex::clock::Clock;
use tinkex::types::{AdamParams, Batch, Datum, ForwardBackwardOutput, LossFn, OptimStepResponse, SaveWeightsResponse};
use tinkex::{Pending, TrainingClient};

use super::plan::{Order, Schedule};
use super::progress::Progress;
use super::record::{Checkpoint, Metrics, Record, checkpoint_name};
use crate::errors::Failure;
use crate::interrupt::Interrupt;

/// Steps under way at once: the one that is waited for, and the next.
const IN_FLIGHT: usize = 2;

/// An example that is ready to be trained on.
pub(crate) struct Lesson {
    pub(crate) datum: Datum,
    pub(crate) tokens: usize,
    pub(crate) learned: usize,
}

/// What is done in which step.
pub(crate) struct Course<'a> {
    pub(crate) trainer: &'a TrainingClient,
    pub(crate) lessons: Vec<&'a Lesson>,
    pub(crate) order: Order,
    /// Empty when nothing is evaluated.
    pub(crate) evaluation: Vec<&'a Lesson>,
    /// The name of the run, with which those of its checkpoints begin.
    pub(crate) name: &'a str,
    pub(crate) steps: u64,
    pub(crate) learning_rate: f64,
    pub(crate) schedule: Schedule,
    pub(crate) warmup: u64,
    /// After each of so many steps; none but at the end for 0.
    pub(crate) eval_every: u64,
    /// After each of so many steps; none but at the end for 0.
    pub(crate) save_every: u64,
}

/// A step that was submitted.
struct Submitted {
    metrics: Metrics,
    batch: Batch,
    pass: Pending<ForwardBackwardOutput>,
    update: Pending<OptimStepResponse>,
    evaluation: Option<Pending<ForwardBackwardOutput>>,
    checkpoint: Option<Pending<SaveWeightsResponse>>,
}

impl Course<'_> {
    /// Makes the steps after `done` until all are made or the program is asked to end; then those that were submitted are
    /// finished. Where there was one, there is a checkpoint of the last one afterwards. Returns its step.
    pub(crate) fn run(
        &self,
        done: u64,
        record: &mut Record,
        progress: &Progress,
        interrupt: &Interrupt,
    ) -> Result<u64, Failure> {
        let clock = Clock::system();
        let evaluation: Batch = self.evaluation.iter().map(|lesson| lesson.datum.clone()).collect::<Vec<_>>().into();
        let (mut submitted, mut next, mut last) = (VecDeque::new(), done + 1, done);
        let mut since = clock.now();
        loop {
            while submitted.len() < IN_FLIGHT && next <= self.steps && !interrupt.is_requested() {
                submitted.push_back(self.submit(next, &evaluation)?);
                next += 1;
            }
            let Some(step) = submitted.pop_front() else { break };
            last = step.metrics.step;
            self.finish(step, &evaluation, &clock, &mut since, record, progress)?;
        }
        if last > done && record.checkpoint().is_none_or(|checkpoint| checkpoint.step != last) {
            let saved = self.trainer.save_state(&checkpoint_name(self.name, last))?;
            record.add_checkpoint(Checkpoint { step: last, path: saved.path })?;
        }
        Ok(last)
    }

    fn submit(&self, step: u64, evaluation: &Batch) -> Result<Submitted, Failure> {
        let lessons: Vec<&Lesson> =
            self.order.batch(step).into_iter().filter_map(|at| self.lessons.get(at).copied()).collect();
        let batch: Batch = lessons.iter().map(|lesson| lesson.datum.clone()).collect::<Vec<_>>().into();
        let learning_rate = self.schedule.rate(self.learning_rate, step, self.steps, self.warmup);
        let is_last = step == self.steps;
        let is_due = |every: u64| is_last || (every > 0 && step % every == 0);

        let pass = self.trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
        let update = self.trainer.submit_optim_step(AdamParams::new().learning_rate(learning_rate))?;
        let evaluates = is_due(self.eval_every) && !self.evaluation.is_empty();
        let evaluation =
            evaluates.then(|| self.trainer.submit_forward(evaluation, LossFn::CrossEntropy)).transpose()?;
        let name = checkpoint_name(self.name, step);
        let checkpoint = is_due(self.save_every).then(|| self.trainer.submit_save_state(&name)).transpose()?;
        let metrics = Metrics {
            step,
            learning_rate,
            tokens: lessons.iter().map(|lesson| lesson.tokens as u64).sum(),
            learned_tokens: lessons.iter().map(|lesson| lesson.learned as u64).sum(),
            ..Metrics::default()
        };
        Ok(Submitted { metrics, batch, pass, update, evaluation, checkpoint })
    }

    fn finish(
        &self,
        step: Submitted,
        evaluation: &Batch,
        clock: &Clock,
        since: &mut Instant,
        record: &mut Record,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut metrics = step.metrics;
        metrics.loss = loss_per_token(&step.batch, &step.pass.wait()?)?;
        step.update.wait()?;
        let now = clock.now();
        metrics.tokens_per_second = metrics.tokens as f64 / (now - *since).as_secs_f64().max(f64::EPSILON);
        *since = now;
        if let Some(pending) = step.evaluation {
            metrics.eval_loss = Some(loss_per_token(evaluation, &pending.wait()?)?);
        }
        if !metrics.loss.is_finite() {
            return Err(Failure::failed(format!("the loss of step {} is not a number", metrics.step))
                .hint("try again with a smaller --learning-rate"));
        }
        progress.step(&metrics);
        let number = metrics.step;
        record.add_metrics(metrics)?;
        if let Some(checkpoint) = step.checkpoint {
            let path = checkpoint.wait()?.path;
            progress.say(format_args!("saved {path}"));
            record.add_checkpoint(Checkpoint { step: number, path })?;
            record.draw(self.name)?;
        }
        Ok(())
    }
}

/// The mean negative log-probability of what is learned: their sum by the weights, divided by the sum of the weights. Where a
/// service does not give each token's, the loss is the sum that it gives.
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
        false => *output.metrics.get("loss:sum").ok_or_else(|| {
            Failure::failed("the service gives neither the log-probability of each token nor the loss")
        })?,
    };
    Ok(nats / weights.iter().copied().flatten().map(|weight| f64::from(*weight)).sum::<f64>())
}

//! The training loop. It submits one step ahead, so that the service never waits for the client, and awaits steps in order.

use std::collections::VecDeque;
use std::time::Instant;

use tinkex::TrainingClient;
use tinkex::clock::Clock;
use tinkex::hyperparams::Schedule;
use tinkex::toolkit::{SavedCheckpoint, nats_per_token};
use tinkex::types::{AdamParams, LossFn};

use super::evaluation::Evaluation;
use super::examples::{ExampleId, Examples};
use super::plan::{BatchOrder, Epoch};
use super::progress::Progress;
use super::record::{RunRecord, checkpoint_name};
use super::rescue::{self, Outcome, Stop};
use super::step_metrics::Metrics;
use super::submitted_step::{Stage, SubmittedStep};
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::screen;

/// Maximum number of steps in flight: the one that is awaited, and the next.
const MAX_IN_FLIGHT: usize = 2;
/// The held-out examples whose lines have this many bytes together are evaluated in one pass.
const EVALUATED_BYTES: usize = 1 << 20;

pub(crate) struct TrainingLoop<'a> {
    pub(crate) trainer: &'a TrainingClient,
    pub(crate) examples: &'a Examples,
    /// The examples to train on, which the order counts.
    pub(crate) trained: Vec<ExampleId>,
    pub(crate) order: BatchOrder,
    /// Examples for evaluation; may be empty.
    pub(crate) held_out: Vec<ExampleId>,
    /// The name of the run, and prefix of its checkpoints' names.
    pub(crate) name: &'a str,
    pub(crate) steps: u64,
    /// The learning rate is that of the schedule.
    pub(crate) optimizer: AdamParams,
    pub(crate) schedule: Schedule,
    /// Evaluate every N steps; 0 for the last step only.
    pub(crate) eval_every: u64,
    /// Save every N steps; 0 for the last step only.
    pub(crate) save_every: u64,
}

/// What changes from step to step.
struct State<'a> {
    in_flight: VecDeque<SubmittedStep>,
    epoch: Epoch,
    /// The last step that was learned.
    last: u64,
    last_finished: Instant,
    record: &'a mut RunRecord,
    progress: &'a mut Progress,
    interrupt: &'a Interrupt,
    clock: Clock,
}

impl TrainingLoop<'_> {
    /// Makes the steps after `completed`, until all are made or the program is asked to stop. Submitted steps are always
    /// completed, and the last one gets a checkpoint, also after a failure.
    pub(crate) fn run(
        &self,
        completed: u64,
        record: &mut RunRecord,
        progress: &mut Progress,
        interrupt: &Interrupt,
    ) -> Outcome {
        let clock = Clock::system();
        let (in_flight, epoch, last_finished) = (VecDeque::new(), Epoch::default(), clock.now());
        let mut state = State { in_flight, epoch, last: completed, last_finished, record, progress, interrupt, clock };
        let stop = match self.make_steps(completed, &mut state) {
            Ok(()) => return self.save_last(completed, &mut state),
            Err(stop) => stop,
        };
        let State { in_flight, last, last_finished, record, clock, .. } = state;
        let in_flight = in_flight.into();
        rescue::Rescue { trainer: self.trainer, name: self.name, record, clock, last_finished }
            .run(stop, completed, last, in_flight)
    }

    fn make_steps(&self, completed: u64, state: &mut State<'_>) -> Result<(), Stop> {
        let mut next = completed + 1;
        loop {
            while state.in_flight.len() < MAX_IN_FLIGHT && next <= self.steps && !state.interrupt.is_requested() {
                self.submit(next, state)?;
                next += 1;
            }
            if state.in_flight.is_empty() {
                return Ok(());
            }
            self.finish_first(state)?;
            state.in_flight.pop_front();
        }
    }

    fn submit(&self, step: u64, state: &mut State<'_>) -> Result<(), Failure> {
        let positions = self.order.batch(step, &mut state.epoch);
        let examples: Vec<ExampleId> =
            positions.into_iter().filter_map(|position| self.trained.get(position as usize).copied()).collect();
        let built = self.examples.batch(&examples)?;
        let learning_rate = self.schedule.rate(step);
        let is_last = step == self.steps;
        let is_due = |every: u64| is_last || (every > 0 && step % every == 0);

        let forward_backward = self.trainer.submit_forward_backward(&built.batch, LossFn::CrossEntropy)?;
        let optim_step = self.trainer.submit_optim_step(self.optimizer.clone().learning_rate(learning_rate))?;
        let (tokens, trained_tokens) = (built.tokens, built.trained_tokens);
        // In flight from here on: an error below does not lose it.
        state.in_flight.push_back(SubmittedStep {
            metrics: Metrics { step, learning_rate, tokens, trained_tokens, ..Metrics::default() },
            examples,
            batch: built.batch,
            forward_backward: Stage::new(forward_backward),
            optim_step: Stage::new(optim_step),
            evaluation: Evaluation::default(),
            checkpoint: None,
        });
        let Some(submitted) = state.in_flight.back_mut() else { return Ok(()) };
        if is_due(self.eval_every) {
            for part in self.examples.parts(&self.held_out, EVALUATED_BYTES) {
                submitted.evaluation.submit(self.trainer, self.examples.batch(part)?.batch)?;
            }
        }
        if is_due(self.save_every) {
            let checkpoint = self.trainer.submit_save_state(checkpoint_name(self.name, step))?;
            submitted.checkpoint = Some(Stage::new(checkpoint));
        }
        Ok(())
    }

    /// Waits for the results of the first step in flight, which stays there.
    fn finish_first(&self, state: &mut State<'_>) -> Result<(), Stop> {
        let Some(step) = state.in_flight.front_mut() else { return Ok(()) };
        let number = step.metrics.step;
        let output = step.forward_backward.wait().map_err(|error| {
            let is_about_data = error.is_user_error();
            // The service counts the datums of the batch, and knows nothing of lines.
            let places = || format!("datums 0, 1, … are {}", self.examples.places(&step.examples));
            Failure::from(error).add_hints(is_about_data.then(places))
        })?;
        if let Some(output) = output {
            step.metrics.loss = nats_per_token(&step.batch, &output).map_err(Failure::from)?;
        }
        step.optim_step.wait().map_err(Failure::from)?;
        state.last = number;
        step.metrics.finish(&mut state.last_finished, state.clock.now());
        let loss = step.metrics.loss;
        if !loss.is_finite() {
            return Err(Stop::diverged(number, &format!("loss of step {number}"), loss));
        }
        // Should the evaluation fail, the step is recorded without it.
        step.metrics.eval_loss = step.evaluation.finish()?;
        if let Some(loss) = step.metrics.eval_loss.filter(|loss| !loss.is_finite()) {
            return Err(Stop::diverged(number + 1, &format!("eval loss of step {number}"), loss));
        }
        state.progress.step(&step.metrics);
        state.record.add_metrics(step.metrics.clone())?;
        if let Some(checkpoint) = &mut step.checkpoint {
            if let Some(saved) = checkpoint.wait().map_err(Failure::from)? {
                screen::line(format_args!("saved {}", saved.path));
                state.record.add_checkpoint(SavedCheckpoint::new(number, saved.path))?;
                state.record.draw(self.name)?;
            }
        }
        Ok(())
    }

    /// Saves the last step, unless that is done.
    fn save_last(&self, completed: u64, state: &mut State<'_>) -> Outcome {
        let last = state.last;
        if last == completed || state.record.has_checkpoint(last) {
            return Outcome::completed(last);
        }
        match self.trainer.save_state(checkpoint_name(self.name, last)) {
            Ok(saved) => match state.record.add_checkpoint(SavedCheckpoint::new(last, saved.path)) {
                Ok(()) => Outcome::completed(last),
                Err(failure) => Outcome::failed(last, failure),
            },
            Err(error) => Outcome { unsaved: true, ..Outcome::failed(last, error.into()) },
        }
    }
}

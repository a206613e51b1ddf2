//! What happens to the work of a run that fails: it is saved if it can be.

use std::time::{Duration, Instant};

use tinkex::TrainingClient;
use tinkex::clock::Clock;
use tinkex::toolkit::SavedCheckpoint;

use super::record::{RunRecord, checkpoint_name};
use super::submitted_step::{SubmittedStep, within};
use crate::failure::Failure;
use crate::screen;

/// How long the steps in flight may take to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// How long the checkpoint may take. It waits for its turn behind requests that are still retried.
const SAVE_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Why the loop stopped.
pub(crate) enum Stop {
    Failed(Failure),
    /// The weights before this step are the first that gave a loss that is no number.
    Diverged(u64, Failure),
}

impl Stop {
    /// The weights before `step` gave this loss, which is no number; `name` says which.
    pub(crate) fn diverged(step: u64, name: &str, loss: f64) -> Stop {
        Stop::Diverged(step, Failure::failed(format!("the {name} is {loss}; lower --learning-rate")))
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failed(failure)
    }
}

/// How far a run got.
pub(crate) struct Outcome {
    /// The last step that was learned.
    pub(crate) last: u64,
    pub(crate) failure: Option<Failure>,
    /// Whether steps were learned that no checkpoint has, although they are worth saving.
    pub(crate) unsaved: bool,
    /// The run can be resumed from checkpoints up to this step; later ones have diverged.
    pub(crate) sound_until: u64,
    /// Steps that failed although requests after them were carried out, which changed the weights: the checkpoint of the last step
    /// is not that of an undisturbed run. Earlier checkpoints are.
    pub(crate) missing: Vec<u64>,
}

impl Outcome {
    pub(crate) fn completed(last: u64) -> Self {
        Outcome { last, failure: None, unsaved: false, sound_until: u64::MAX, missing: Vec::new() }
    }

    pub(crate) fn failed(last: u64, failure: Failure) -> Self {
        Outcome { failure: Some(failure), ..Outcome::completed(last) }
    }
}

pub(crate) struct Rescue<'a> {
    pub(crate) trainer: &'a TrainingClient,
    pub(crate) name: &'a str,
    pub(crate) record: &'a mut RunRecord,
    pub(crate) clock: Clock,
    /// When the last step was finished.
    pub(crate) last_finished: Instant,
}

/// What became of the steps in flight.
struct Settled {
    /// The last step that was learned.
    last: u64,
    /// Its checkpoint, if one was in flight.
    saved: Option<String>,
    /// Steps that are missing from the weights that are saved.
    missing: Vec<u64>,
}

impl Rescue<'_> {
    /// Settles the steps in flight, the first of which failed, and saves a checkpoint of the last step that was learned, unless
    /// there is one. `before` is the step at which the run was started, `learned` the last one before the failure.
    pub(crate) fn run(mut self, stop: Stop, before: u64, learned: u64, in_flight: Vec<SubmittedStep>) -> Outcome {
        let failure = match stop {
            Stop::Failed(failure) => failure,
            Stop::Diverged(step, failure) => {
                // The loss of a step comes from the weights before it, and its checkpoint has those after it.
                let sound_until = step.saturating_sub(2);
                in_flight.iter().for_each(SubmittedStep::withdraw);
                let failure =
                    failure.add_hint("no checkpoint was saved, since these weights cannot be trained further");
                return Outcome { sound_until, ..Outcome::failed(learned, failure) };
            }
        };
        if learned == before || self.record.has_checkpoint(learned) {
            in_flight.iter().for_each(SubmittedStep::withdraw);
            return Outcome::failed(learned, failure);
        }
        screen::line(format_args!(
            "a step failed; saving a checkpoint, which may take {} minutes if the service does not respond",
            SAVE_LIMIT.as_secs() / 60
        ));
        let Settled { last, saved, missing } = self.settle(learned, in_flight);
        match saved.map_or_else(|| self.save(last), Ok) {
            Ok(path) => {
                screen::line(format_args!("saved {path}"));
                // The failure may be that of the disk; the path is known all the same.
                self.record.add_checkpoint(SavedCheckpoint::new(last, path)).ok();
                Outcome { missing, ..Outcome::failed(last, failure) }
            }
            Err(why) => {
                let failure = failure.add_hint(format!("saving a checkpoint of step {last} failed as well: {why}"));
                Outcome { unsaved: true, ..Outcome::failed(last, failure) }
            }
        }
    }

    /// Waits for the steps in flight, and records those that were learned.
    fn settle(&mut self, learned: u64, in_flight: Vec<SubmittedStep>) -> Settled {
        let deadline = self.clock.now() + SETTLE_LIMIT;
        let (mut last, mut saved) = (learned, None);
        let (mut failed, mut missing) = (Vec::new(), Vec::new());
        for mut step in in_flight {
            step.settle(&self.clock, deadline, &mut self.last_finished);
            let number = step.metrics.step;
            if !step.is_learned() {
                failed.push(number);
            }
            if step.is_updated() {
                missing.append(&mut failed);
            }
            if !step.is_learned() {
                step.withdraw();
                continue;
            }
            step.evaluation.withdraw();
            let is_new = self.record.last_metrics().is_none_or(|metrics| metrics.step < number);
            if is_new && step.metrics.loss.is_finite() {
                // The failure may be that of the disk.
                self.record.add_metrics(step.metrics).ok();
            }
            let checkpoint = step.checkpoint.and_then(|mut checkpoint| checkpoint.settle(&self.clock, deadline));
            (last, saved) = (number, checkpoint.map(|checkpoint| (checkpoint.path, missing.clone())));
        }
        match saved {
            Some((path, missing)) => Settled { last, saved: Some(path), missing },
            None => Settled { last, saved: None, missing },
        }
    }

    fn save(&self, step: u64) -> Result<String, String> {
        let submitted = self.trainer.submit_save_state(checkpoint_name(self.name, step));
        let pending = submitted.map_err(|error| error.to_string())?;
        let saved = within(&pending, SAVE_LIMIT);
        let saved = saved.ok_or_else(|| format!("no result within {} minutes", SAVE_LIMIT.as_secs() / 60))?;
        saved.map(|saved| saved.path).map_err(|error| error.to_string())
    }
}

//! Progress of a training run on stderr: a progress bar at a terminal, else a line every few steps.

use tinkex::clock::Clock;

use super::step_metrics::Metrics;
use crate::screen::{self, Pace, Status};

pub(crate) struct Progress {
    steps: u64,
    /// Without a terminal, a line is printed every N steps.
    log_every: u64,
    /// At a terminal.
    bar: Option<screen::Progress>,
    pace: Pace,
}

impl Progress {
    /// Begins at the last completed step.
    pub(crate) fn new(completed: u64, steps: u64, log_every: u64) -> Self {
        let (done, total) = (Some(completed), Some(steps));
        let start = || screen::start(Status { done, total, ..Status::default() }).keep();
        Progress { steps, log_every, bar: screen::is_terminal().then(start), pace: Pace::default() }
    }

    pub(crate) fn step(&mut self, metrics: &Metrics) {
        let Metrics { step, eval_loss, .. } = metrics;
        match &self.bar {
            Some(bar) => {
                self.pace.step(Clock::system().now());
                let left = self.pace.left(self.steps.saturating_sub(*step));
                bar.update(|status| {
                    (status.done, status.note, status.left) = (Some(*step), metrics.to_string(), left);
                });
            }
            None if step % self.log_every == 0 || *step == self.steps || eval_loss.is_some() => {
                screen::line(format_args!("step {step}/{}: {metrics}", self.steps));
            }
            None => {}
        }
    }
}

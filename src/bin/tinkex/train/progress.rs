//! Progress of a training run on stderr: a progress bar at a terminal, else a line every few steps.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::step_metrics::Metrics;
use crate::text::one_line;

pub(crate) struct Progress {
    steps: u64,
    /// Without a terminal, a line is printed every N steps.
    log_every: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins at the last completed step.
    pub(crate) fn new(completed: u64, steps: u64, log_every: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr()).with_position(completed);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ETA {eta}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress { steps, log_every, bar }
    }

    pub(crate) fn step(&self, metrics: &Metrics) {
        let Metrics { step, eval_loss, .. } = metrics;
        match &self.bar {
            Some(bar) => {
                bar.set_message(metrics.to_string());
                bar.set_position(*step);
            }
            None if step % self.log_every == 0 || *step == self.steps || eval_loss.is_some() => {
                self.line(format_args!("step {step}/{}: {metrics}", self.steps));
            }
            None => {}
        }
    }

    /// Prints a line, above the bar if there is one.
    pub(crate) fn line(&self, text: fmt::Arguments<'_>) {
        let text = one_line(&text.to_string());
        match &self.bar {
            Some(bar) => bar.println(text),
            None => writeln!(io::stderr(), "{text}").unwrap_or_default(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

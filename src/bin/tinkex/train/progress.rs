//! What a person sees of the training, on stderr: a bar on a terminal, else a line now and then.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::record::Metrics;
use crate::output::one_line;

pub(crate) struct Progress {
    steps: u64,
    /// Without a terminal, a line for each of so many steps.
    every: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// From the step that was made last.
    pub(crate) fn new(done: u64, steps: u64, every: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr()).with_position(done);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} {eta} left");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress { steps, every, bar }
    }

    pub(crate) fn step(&self, metrics: &Metrics) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(Shown(metrics).to_string());
                bar.set_position(metrics.step);
            }
            None if metrics.step % self.every == 0 || metrics.step == self.steps || metrics.eval_loss.is_some() => {
                self.say(format_args!("step {}/{}: {}", metrics.step, self.steps, Shown(metrics)));
            }
            None => {}
        }
    }

    /// A line beside the bar.
    pub(crate) fn say(&self, what: fmt::Arguments<'_>) {
        let what = one_line(&what.to_string());
        match &self.bar {
            Some(bar) => bar.println(what),
            None => writeln!(io::stderr(), "{what}").unwrap_or_default(),
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

struct Shown<'a>(&'a Metrics);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}", self.0.loss)?;
        if let Some(loss) = self.0.eval_loss {
            write!(f, ", evaluation {loss:.4}")?;
        }
        write!(f, ", {:.0} tokens/s", self.0.tokens_per_second)
    }
}

//! Progress of an evaluation on stderr: a progress bar at a terminal, else a line after each tenth of the answers.

use tinkex::eval::EvaluationProgress;

use crate::screen::{self, Status};

/// How many lines there are at most.
const LINES: usize = 10;

pub(super) struct Progress {
    model: String,
    /// At a terminal.
    bar: Option<screen::Progress>,
    /// The number of lines that are printed, of [`LINES`].
    printed: usize,
}

impl Progress {
    pub(super) fn new(model: &str) -> Self {
        let start = || screen::start(Status { done: Some(0), ..Status::default() }).keep();
        Progress { model: model.to_owned(), bar: screen::is_terminal().then(start), printed: 0 }
    }

    pub(super) fn show(&mut self, now: EvaluationProgress) {
        let note = note(&self.model, now);
        match &self.bar {
            Some(bar) => bar.update(|status| {
                (status.done, status.total) = (Some(now.done as u64), Some(now.total as u64));
                status.note = note;
            }),
            None => {
                let tenths = now.done * LINES / now.total.max(1);
                if tenths > self.printed {
                    self.printed = tenths;
                    screen::line(format_args!("{}/{} {note}", now.done, now.total));
                }
            }
        }
    }
}

fn note(model: &str, EvaluationProgress { passed, ungraded, .. }: EvaluationProgress) -> String {
    let without = if ungraded > 0 { format!(", {ungraded} without a grade") } else { String::new() };
    format!("{model}: {passed} passed{without}")
}

//! What a completed run prints.

use std::path::PathBuf;

use serde::Serialize;

use crate::output::Table;

/// The result of a completed run.
#[derive(Serialize)]
pub(super) struct TrainingReport {
    pub(super) name: String,
    pub(super) steps: u64,
    /// Of the last step.
    pub(super) loss: Option<f64>,
    pub(super) eval_loss: Option<f64>,
    /// To resume from.
    pub(super) checkpoint: Option<String>,
    /// To sample from.
    pub(super) sampler: String,
    pub(super) metrics: PathBuf,
    pub(super) chart: PathBuf,
}

impl TrainingReport {
    pub(super) fn table(&self) -> Table {
        let number = |loss: Option<f64>| loss.map(|loss| format!("{loss:.4}"));
        let mut table = Table::properties(format!("Trained {}", self.name));
        for (name, value) in [
            ("Steps", Some(self.steps.to_string())),
            ("Loss per token", number(self.loss)),
            ("Eval loss per token", number(self.eval_loss)),
            ("Checkpoint", self.checkpoint.clone()),
            ("Sampler weights", Some(self.sampler.clone())),
            ("Metrics", Some(self.metrics.display().to_string())),
            ("Loss curve", Some(self.chart.display().to_string())),
        ] {
            if let Some(value) = value {
                table.row([name, &value]);
            }
        }
        table
    }
}

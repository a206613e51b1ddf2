//! What is measured in a step.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// A step, as a line of `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metrics {
    /// From 1.
    pub(crate) step: u64,
    /// Nats per trained token, before the step's update.
    pub(crate) loss: f64,
    /// The same over all held-out examples, after the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) eval_loss: Option<f64>,
    pub(crate) learning_rate: f64,
    /// Number of tokens in the batch.
    pub(crate) tokens: u64,
    /// Number of trained tokens in the batch.
    pub(crate) trained_tokens: u64,
    pub(crate) tokens_per_second: f64,
}

impl Metrics {
    /// The step was finished now, and the one before it at `last_finished`, which becomes now.
    pub(crate) fn finish(&mut self, last_finished: &mut Instant, now: Instant) {
        let seconds = (now - *last_finished).as_secs_f64();
        self.tokens_per_second = self.tokens as f64 / seconds.max(f64::EPSILON);
        *last_finished = now;
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}", self.loss)?;
        if let Some(loss) = self.eval_loss {
            write!(f, ", eval loss {loss:.4}")?;
        }
        write!(f, ", {:.0} tokens/s", self.tokens_per_second)
    }
}

//! A prompt, and what was sampled after it.

use crate::types::{ModelInput, SampledSequence};

/// One turn of a trajectory: a prompt, and what was sampled after it. [`Trajectory`](super::Trajectory) has an example.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Turn {
    /// What the policy read: all of it, also what it read and sampled in earlier turns.
    pub prompt: ModelInput,
    /// What it sampled.
    pub sequence: SampledSequence,
}

impl Turn {
    /// A turn.
    #[must_use]
    pub fn new(prompt: impl Into<ModelInput>, sequence: SampledSequence) -> Self {
        Turn { prompt: prompt.into(), sequence }
    }
}

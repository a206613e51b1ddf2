//! What is recorded of a checkpoint.

use serde::{Deserialize, Serialize};

/// A checkpoint that a run has saved, as a line of a [`JsonLines`](super::JsonLines) file. `tinkex train` records its own so, in
/// `checkpoints.jsonl`.
///
/// ```
/// use tinkex::toolkit::{JsonLines, SavedCheckpoint};
///
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("checkpoints.jsonl");
/// let mut checkpoints = JsonLines::open(&file)?;
/// checkpoints.push(&SavedCheckpoint::new(50, "tinker://run-1/weights/0050"))?;
/// checkpoints.push(&SavedCheckpoint::new(100, "tinker://run-1/weights/0100"))?;
///
/// // Later, in another process:
/// let checkpoints = JsonLines::<SavedCheckpoint>::open(&file)?;
/// let last = checkpoints.last()?.ok_or("nothing to resume from")?;
/// assert_eq!((last.step, last.path.as_str()), (100, "tinker://run-1/weights/0100"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SavedCheckpoint {
    /// The number of completed steps.
    pub step: u64,
    /// The path that the service gave: `tinker://RUN/weights/NAME`.
    pub path: String,
}

impl SavedCheckpoint {
    /// A checkpoint after this many steps, at this path.
    #[must_use]
    pub fn new(step: u64, path: impl Into<String>) -> Self {
        SavedCheckpoint { step, path: path.into() }
    }
}

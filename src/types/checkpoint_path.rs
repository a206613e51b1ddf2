//! Paths of checkpoints.

use std::fmt;
use std::str::FromStr;

use super::CheckpointType;
use crate::{Error, Result};

const SCHEME: &str = "tinker://";

/// The path of a checkpoint, taken apart: `tinker://RUN/weights/NAME` or `tinker://RUN/sampler_weights/NAME`.
///
/// ```
/// use tinkex::types::{CheckpointPath, CheckpointType};
///
/// let path = CheckpointPath::parse("tinker://run-1/weights/0001")?;
/// assert_eq!(path.training_run_id(), "run-1");
/// assert_eq!(path.checkpoint_type(), CheckpointType::Training);
/// assert_eq!(path.checkpoint_id(), "weights/0001");
/// assert_eq!(path.name(), "0001");
/// assert_eq!(path.to_string().parse::<CheckpointPath>()?, path);
/// assert!(CheckpointPath::parse("tinker://run-1/0001").is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointPath {
    path: String,
    /// Where the run ends.
    run_end: usize,
    /// Where the name begins.
    name_start: usize,
}

impl CheckpointPath {
    /// Takes a tinker path apart: exactly three segments after the scheme, the second one `weights` or
    /// `sampler_weights`.
    ///
    /// # Errors
    ///
    /// Anything else ([`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)).
    pub fn parse(path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        let bounds = path.strip_prefix(SCHEME).and_then(|rest| {
            let mut segments = rest.split('/');
            let (run, kind, _name, end) = (segments.next()?, segments.next()?, segments.next()?, segments.next());
            let run_end = SCHEME.len() + run.len();
            (end.is_none() && matches!(kind, "weights" | "sampler_weights"))
                .then(|| (run_end, run_end + kind.len() + 2))
        });
        match bounds {
            Some((run_end, name_start)) => Ok(CheckpointPath { path, run_end, name_start }),
            None => Err(Error::invalid_input(format!("{path:?} is not the path of a checkpoint"))
                .with_hint("it looks like tinker://RUN/weights/NAME or tinker://RUN/sampler_weights/NAME")),
        }
    }

    /// The same for a path that goes into a URL: its run and its name are not empty, since without them it would be the URL
    /// of something else.
    pub(crate) fn named(path: &str) -> Result<Self> {
        let path = CheckpointPath::parse(path)?;
        if path.training_run_id().is_empty() || path.name().is_empty() {
            let message = format!("the path {:?} names no training run or no checkpoint", path.as_str());
            return Err(Error::invalid_input(message));
        }
        Ok(path)
    }

    /// The whole path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// The training run.
    #[must_use]
    pub fn training_run_id(&self) -> &str {
        &self.path[SCHEME.len()..self.run_end]
    }

    /// What the checkpoint is for.
    #[must_use]
    pub fn checkpoint_type(&self) -> CheckpointType {
        if self.checkpoint_id().starts_with("weights/") { CheckpointType::Training } else { CheckpointType::Sampler }
    }

    /// What follows the run: `weights/NAME` or `sampler_weights/NAME`.
    #[must_use]
    pub fn checkpoint_id(&self) -> &str {
        &self.path[self.run_end + 1..]
    }

    /// The name of the checkpoint.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.path[self.name_start..]
    }
}

impl FromStr for CheckpointPath {
    type Err = Error;

    fn from_str(path: &str) -> Result<Self> {
        CheckpointPath::parse(path)
    }
}

impl fmt::Display for CheckpointPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Checks that a path to load or to sample from begins with `tinker://`. Servers hand out more forms than
/// [`CheckpointPath`] knows, so no more than that is asked of it.
///
/// # Errors
///
/// A path with another scheme, or with none.
///
/// ```
/// use tinkex::types::check_tinker_scheme;
///
/// assert!(check_tinker_scheme("tinker://model-1/0001").is_ok());
/// assert!(check_tinker_scheme("/home/me/weights").is_err());
/// ```
pub fn check_tinker_scheme(path: &str) -> Result<()> {
    if path.starts_with(SCHEME) {
        Ok(())
    } else {
        Err(Error::invalid_input(format!("the path {path:?} does not begin with {SCHEME}"))
            .with_hint("use the path that the service gave when it saved"))
    }
}

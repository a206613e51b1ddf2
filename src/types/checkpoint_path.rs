//! Paths of checkpoints.

use std::fmt;
use std::str::FromStr;

use super::CheckpointType;
use crate::error::{Error, Result};

const SCHEME: &str = "tinker://";

/// The path of a checkpoint: `tinker://RUN/weights/NAME` or `tinker://RUN/sampler_weights/NAME`.
///
/// ```
/// use tinkex::types::{CheckpointPath, CheckpointType};
///
/// let path: CheckpointPath = "tinker://run-1/weights/0001".parse()?;
/// assert_eq!(path.training_run_id(), "run-1");
/// assert_eq!(path.checkpoint_type(), CheckpointType::Training);
/// assert_eq!(path.checkpoint_id(), "weights/0001");
/// assert_eq!(path.name(), "0001");
/// assert!("tinker://run-1/0001".parse::<CheckpointPath>().is_err());
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointPath {
    path: String,
    /// The byte index after the run.
    run_end: usize,
    /// The byte index of the name.
    name_start: usize,
}

impl CheckpointPath {
    /// Parses a path that becomes part of a URL. Refuses an empty run or name: the URL would then address another resource.
    pub(crate) fn for_url(path: &str) -> Result<Self> {
        let path: CheckpointPath = path.parse()?;
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

    /// The id of the training run.
    #[must_use]
    pub fn training_run_id(&self) -> &str {
        &self.path[SCHEME.len()..self.run_end]
    }

    /// The purpose of the checkpoint.
    #[must_use]
    pub fn checkpoint_type(&self) -> CheckpointType {
        if self.checkpoint_id().starts_with("weights/") { CheckpointType::Training } else { CheckpointType::Sampler }
    }

    /// The part after the run: `weights/NAME` or `sampler_weights/NAME`.
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

    /// Reads a tinker path with exactly three segments after the scheme, the second one `weights` or `sampler_weights`.
    ///
    /// # Errors
    ///
    /// Anything else ([`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput)).
    fn from_str(path: &str) -> Result<Self> {
        path.to_owned().try_into()
    }
}

impl TryFrom<String> for CheckpointPath {
    type Error = Error;

    /// As [`from_str`](CheckpointPath::from_str), without a copy.
    fn try_from(path: String) -> Result<Self> {
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
                .with_hint("use tinker://RUN/weights/NAME or tinker://RUN/sampler_weights/NAME")),
        }
    }
}

impl fmt::Display for CheckpointPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Checks that a path to load or to sample from starts with `tinker://`. Servers use more forms than [`CheckpointPath`]
/// knows, so nothing else is checked.
pub(crate) fn check_tinker_scheme(path: &str) -> Result<()> {
    if path.starts_with(SCHEME) {
        Ok(())
    } else {
        Err(Error::invalid_input(format!("the path {path:?} does not start with {SCHEME}"))
            .with_hint("use the path that the service gave when it saved"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_with_the_scheme_is_loaded() {
        for (path, is_ok) in
            [("tinker://model-1/0001", true), ("tinker://", true), ("/home/me/weights", false), ("", false)]
        {
            assert_eq!(check_tinker_scheme(path).is_ok(), is_ok, "{path}");
        }
    }

    #[test]
    fn url_paths_have_no_empty_part() {
        assert!(CheckpointPath::for_url("tinker://run/weights/1").is_ok());
        for path in ["tinker:///weights/1", "tinker://run/weights/", "tinker://run/1"] {
            assert!(CheckpointPath::for_url(path).is_err(), "{path}");
        }
    }
}

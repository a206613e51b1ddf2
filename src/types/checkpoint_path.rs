//! Paths of checkpoints.

use std::fmt;
use std::str::FromStr;

use super::CheckpointType;
use crate::error::{Error, Result};

const SCHEME: &str = "tinker://";

const KNOWN_FORMS: &str =
    "use tinker://RUN/weights/NAME, tinker://RUN/sampler_weights/NAME or tinker://RUN/external_weights/NAME";

/// The path of a checkpoint, taken apart: `tinker://RUN/weights/NAME`, `tinker://RUN/sampler_weights/NAME` or
/// `tinker://RUN/external_weights/NAME`.
///
/// Only calls whose URL has the run and the name need it. Servers also give out paths of other forms, and all other calls
/// accept those as they are.
///
/// ```
/// use tinkex::types::{CheckpointPath, CheckpointType};
///
/// let path: CheckpointPath = "tinker://run-1/weights/0001".parse()?;
/// assert_eq!(path.training_run_id(), "run-1");
/// assert_eq!(path.checkpoint_type(), CheckpointType::Training);
/// assert_eq!(path.checkpoint_id(), "weights/0001");
/// assert_eq!(path.name(), "0001");
/// let external: CheckpointPath = "tinker://run-1/external_weights/adapter".parse()?;
/// assert_eq!(external.checkpoint_type(), CheckpointType::External);
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
            return Err(Error::invalid_input(message).with_hint(KNOWN_FORMS));
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
        match self.checkpoint_id().split_once('/') {
            Some(("sampler_weights", _)) => CheckpointType::Sampler,
            Some(("external_weights", _)) => CheckpointType::External,
            _ => CheckpointType::Training,
        }
    }

    /// The part after the run: `weights/NAME`, `sampler_weights/NAME` or `external_weights/NAME`.
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

    /// Reads a tinker path with exactly three segments after the scheme, the second one `weights`, `sampler_weights` or
    /// `external_weights`.
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
            (end.is_none() && matches!(kind, "weights" | "sampler_weights" | "external_weights"))
                .then(|| (run_end, run_end + kind.len() + 2))
        });
        match bounds {
            Some((run_end, name_start)) => Ok(CheckpointPath { path, run_end, name_start }),
            None => Err(Error::invalid_input(format!("{path:?} does not name a training run and a checkpoint of it"))
                .with_hint(KNOWN_FORMS)),
        }
    }
}

impl fmt::Display for CheckpointPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

/// Checks that a path to load or to sample from is one: a scheme, `://` and more. What follows is the server's: servers use
/// more forms and schemes than [`CheckpointPath`] knows. A web page or download is not weights.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    let is_web = |scheme: &str| ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    match path.split_once("://").filter(|_| !path.contains(['\r', '\n', '\0'])) {
        Some((scheme, rest)) if is_scheme(scheme) && !is_web(scheme) && !rest.is_empty() => Ok(()),
        _ => Err(Error::invalid_input(format!(
            "{path:?} is not the path of saved weights, such as {SCHEME}RUN/weights/NAME"
        ))
        .with_hint("use the path that the service gave when it saved")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_any_scheme_are_loaded() {
        for path in [
            "tinker://run/weights/1",
            "tinker://model-1/0001",
            "tinker://run/checkpoints/1",
            "tinker://run/external_weights/1",
            "twinkle://run/weights/1/2",
            "s3+tls://bucket/a b",
            "x://y",
        ] {
            assert!(check_path(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "tinker://",
            "://run",
            "/home/me/weights",
            "run/weights/1",
            "tinker:/run",
            " tinker://run",
            "7://a",
            "HTTPS://host/run",
        ] {
            let error = check_path(path).unwrap_err();
            assert!(error.hint().is_some_and(|hint| hint.contains("the service gave")), "{path}");
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

//! Where things are: ids and tinker paths as paths of the service, and where an archive is.

use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Answer, pointed_at, segment};
use crate::types::{CheckpointArchiveUrlResponse, CheckpointPath};

/// How long an archive's URL is taken to hold when the service does not say it (Python client).
const URL_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// A checkpoint, by the path of the service that is below all requests about it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// What is to be done with it, for errors.
    pub(super) operation: &'static str,
    pub(super) path: String,
}

impl Place {
    pub(super) fn by_ids(operation: &'static str, training_run_id: &str, checkpoint_id: &str) -> Result<Self> {
        let run = run(operation, training_run_id)?;
        match checkpoint_id.split_once('/') {
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => {
                Ok(Place { operation, path: format!("{run}/checkpoints/{}/{}", segment(kind), segment(name)) })
            }
            _ => Err(Error::invalid_input(format!("{checkpoint_id:?} is not the id of a checkpoint"))
                .with_operation(operation)
                .with_hint("it looks like weights/NAME or sampler_weights/NAME")),
        }
    }

    pub(super) fn by_path(operation: &'static str, tinker_path: &str) -> Result<Self> {
        let path = named(operation, tinker_path)?;
        Place::by_ids(operation, path.training_run_id(), path.checkpoint_id())
    }
}

/// The path of a training run.
pub(super) fn run(operation: &'static str, training_run_id: &str) -> Result<String> {
    item(operation, "training_runs", training_run_id)
}

/// The path of the training run that a checkpoint was saved from.
pub(super) fn run_of(operation: &'static str, tinker_path: &str) -> Result<String> {
    run(operation, named(operation, tinker_path)?.training_run_id())
}

/// The path of one of these.
pub(super) fn item(operation: &'static str, these: &str, id: &str) -> Result<String> {
    if id.is_empty() {
        let what = these.trim_end_matches('s').replace('_', " ");
        return Err(Error::invalid_input(format!("the id of the {what} is empty")).with_operation(operation));
    }
    Ok(format!("{these}/{}", segment(id)))
}

fn named(operation: &'static str, tinker_path: &str) -> Result<CheckpointPath> {
    CheckpointPath::for_url(tinker_path).map_err(|error| error.with_operation(operation))
}

/// What the answer to a request for an archive says: where it is, and until when.
pub(super) fn archive_url(
    operation: &'static str,
    config: &Config,
    answer: Answer,
) -> Result<CheckpointArchiveUrlResponse> {
    let now = config.clock().wall();
    if answer.is_success() {
        return Err(answer.not_understood("the answer is not a redirect to the archive").with_operation(operation));
    }
    let location = answer.headers.get("location").map(|location| String::from_utf8_lossy(location.as_bytes()));
    let Some(location) = location.filter(|_| answer.is_redirect()) else {
        return Err(answer.into_error(operation, now));
    };
    // Without the answer's headers and without the location, which is as good as a key.
    let unusable = || Error::new(ErrorKind::Decode, "the service redirects to something that is not an http URL");
    let url = pointed_at(config.base_url(), &location).ok_or_else(|| unusable().with_operation(operation))?;
    let expires = answer.header("expires").and_then(|expires| httpdate::parse_http_date(expires).ok());
    Ok(CheckpointArchiveUrlResponse { url, expires: expires.unwrap_or(now + URL_LIFETIME).into() })
}

//! The endpoints of runs and checkpoints, by id or tinker path, and the URL of an archive.

use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Redirects, Request, Response, encode_segment, external_url};
use crate::rules::single_line;
use crate::types::{CheckpointArchiveUrlResponse, CheckpointPath, ExternalWeightsUrlsResponse};

/// The assumed lifetime of an archive's URL if the service gives none (Python client).
const URL_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// The `accept` header of the Python client.
const ACCEPT_ARCHIVE: &str = "application/json, application/gzip";

/// The endpoint of a checkpoint, which all requests about it share.
#[derive(Clone, Debug)]
pub(super) struct CheckpointEndpoint {
    /// The client's method, for errors.
    pub(super) operation: &'static str,
    pub(super) path: String,
    /// Whether it is external weights.
    pub(super) is_external: bool,
}

/// The hint if a service does not find an archive.
pub(super) const NO_ARCHIVE: &str = "check the name; if the checkpoint exists, this service has no archives any more, and only \
                                     external weights can be downloaded";

/// The first part of the id of external weights.
const EXTERNAL: &str = "external_weights";

impl CheckpointEndpoint {
    pub(super) fn by_ids(operation: &'static str, training_run_id: &str, checkpoint_id: &str) -> Result<Self> {
        let run = run(operation, training_run_id)?;
        single_line::check("the id of the checkpoint", checkpoint_id)
            .map_err(|error| error.with_operation(operation))?;
        match checkpoint_id.split_once('/') {
            Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(CheckpointEndpoint {
                operation,
                path: format!("{run}/checkpoints/{}/{}", encode_segment(kind), encode_segment(name)),
                is_external: kind == EXTERNAL,
            }),
            _ => Err(Error::invalid_input(format!("{checkpoint_id:?} is not a checkpoint id"))
                .with_operation(operation)
                .with_hint("use weights/NAME, sampler_weights/NAME or external_weights/NAME")),
        }
    }

    pub(super) fn by_path(operation: &'static str, tinker_path: &str) -> Result<Self> {
        let path = parsed(operation, tinker_path)?;
        CheckpointEndpoint::by_ids(operation, path.training_run_id(), path.checkpoint_id())
    }

    /// Asks for the URLs of external weights.
    pub(super) fn external_weights_request(&self) -> Request<'static> {
        Request { gives_secret: true, ..Request::get(format!("{}/external_weights_urls", self.path)) }
    }

    /// Asks for the URL of the checkpoint's archive, to which the service redirects.
    pub(super) fn archive_request(&self) -> Request<'static> {
        Request {
            headers: vec![("accept", ACCEPT_ARCHIVE.into())],
            redirects: Redirects::Return,
            gives_secret: true,
            ..Request::get(format!("{}/archive", self.path))
        }
    }
}

/// The path of a training run.
pub(super) fn run(operation: &'static str, training_run_id: &str) -> Result<String> {
    item(operation, "training_runs", training_run_id)
}

/// The path of the training run that a checkpoint was saved from.
pub(super) fn run_of(operation: &'static str, tinker_path: &str) -> Result<String> {
    run(operation, parsed(operation, tinker_path)?.training_run_id())
}

/// The path of one item of a collection.
pub(super) fn item(operation: &'static str, collection: &str, id: &str) -> Result<String> {
    require_id(operation, &collection.trim_end_matches('s').replace('_', " "), id)?;
    Ok(format!("{collection}/{}", encode_segment(id)))
}

/// Refuses an empty id, and one with a line break.
pub(super) fn require_id(operation: &'static str, what: &str, id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::invalid_input(format!("the id of the {what} is empty")).with_operation(operation));
    }
    single_line::check(&format!("the id of the {what}"), id).map_err(|error| error.with_operation(operation))
}

fn parsed(operation: &'static str, tinker_path: &str) -> Result<CheckpointPath> {
    CheckpointPath::for_url(tinker_path).map_err(|error| error.with_operation(operation))
}

/// Reads the URL of an archive, and when it expires, from the response to an archive request.
pub(super) fn archive_url(
    operation: &'static str,
    config: &Config,
    response: Response,
) -> Result<CheckpointArchiveUrlResponse> {
    let now = config.clock().wall();
    if response.is_success() {
        return Err(response.decode_error("the response is not a redirect to the archive").with_operation(operation));
    }
    let location = response.headers.get("location").map(|location| String::from_utf8_lossy(location.as_bytes()));
    let Some(location) = location.filter(|_| response.is_redirect()) else {
        return Err(response.into_error(operation, now));
    };
    // Without the response's headers and location: a signed URL gives access like a key.
    let unusable = || Error::new(ErrorKind::Decode, "the service redirects to something that is not an http URL");
    let url = external_url(config.base_url(), &location).ok_or_else(|| unusable().with_operation(operation))?;
    let expires = response.header("expires").and_then(|expires| httpdate::parse_http_date(expires).ok());
    Ok(CheckpointArchiveUrlResponse { url, expires: expires.unwrap_or(now + URL_LIFETIME).into() })
}

/// Reads the URLs of external weights. Neither the body nor its values are in the error: they give access like a key.
pub(super) fn external_urls(operation: &'static str, response: &Response) -> Result<ExternalWeightsUrlsResponse> {
    serde_json::from_slice(&response.body).map_err(|_| {
        Error::new(ErrorKind::Decode, "the response is not a list of URLs with an expiry date")
            .with_operation(operation)
            .with_hint("check that the base URL names a Tinker service")
    })
}

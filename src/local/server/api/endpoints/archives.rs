//! The files of checkpoints: signed links, and the downloads behind them.

use std::collections::BTreeMap;
use std::slice::from_ref;

use crate::local::checkpoint_files::{CheckpointFiles, archive};
use crate::local::server::api::body::bad_request;
use crate::local::server::api::call::{ApiContext, Call, HandlerOutcome, HandlerResult, ok};
use crate::local::server::http1::Response;
use crate::local::server::path_segment::encode;
use crate::local::server::state::{CHECKPOINT_RECORD, timestamp_of};
use crate::types::{CheckpointPath, CheckpointType, ExternalWeightsUrlsResponse};

/// The first segment of the path of an archive.
pub(super) const ARCHIVES: &str = "archives";
/// The first segment of the path of one file of external weights.
pub(super) const FILES: &str = "files";
const SUFFIX: &str = ".tar.gz";

/// Redirects to a signed link. The header `Expires` says until when it is valid.
pub(super) fn link(call: &Call<'_>) -> HandlerResult {
    let path = call.checkpoint_path()?;
    call.audit_download(&path)?;
    let [run, kind, name] = call.captures::<3>()?.map(encode);
    let (location, expires_at) = call.signed_url(&format!("/{ARCHIVES}/{run}/{kind}/{name}{SUFFIX}"));
    let expires = httpdate::fmt_http_date(expires_at);
    Ok(HandlerOutcome::Respond(Response::new(302, "").header("location", location).header("expires", expires)))
}

/// The signed URL of each file of external weights.
pub(super) fn external_urls(call: &Call<'_>) -> HandlerResult {
    let path = call.checkpoint_path()?;
    call.state.lock().readable_checkpoint(path.as_str(), from_ref(&call.owner))?;
    if path.checkpoint_type() != CheckpointType::External {
        return Err(bad_request(format!("{path} is not the path of external weights: use save_weights_external")));
    }
    call.audit_download(&path)?;
    let files = load(call.context, &call.captures::<3>()?)?;
    let [run, kind, name] = call.captures::<3>()?.map(encode);
    let (mut urls, mut expires) = (BTreeMap::new(), None);
    for file in files.into_keys() {
        let (url, expires_at) = call.signed_url(&format!("/{FILES}/{run}/{kind}/{name}/{}", encode(&file)));
        expires.get_or_insert(expires_at);
        urls.insert(file, url);
    }
    let expires = timestamp_of(expires.ok_or_else(gone)?);
    ok(&ExternalWeightsUrlsResponse { urls, expires })
}

impl Call<'_> {
    /// Checks that the key may read a checkpoint, and writes to the audit log that it gets a link to it.
    fn audit_download(&self, path: &CheckpointPath) -> Result<(), Response> {
        let tables = self.state.lock();
        let checkpoint = tables.readable_checkpoint(path.as_str(), from_ref(&self.owner))?;
        let owner = &checkpoint.owner;
        self.state.audit_checkpoint("checkpoint_read", path.as_str(), owner, &self.owner, Some("download"));
        Ok(())
    }
}

/// The archive behind a signed link.
pub(super) fn download_archive(context: &ApiContext, path: &[&str]) -> HandlerResult {
    let &[run, kind, name] = path else { return Err(gone()) };
    let name = name.strip_suffix(SUFFIX).ok_or_else(gone)?;
    let bytes = archive(&load(context, &[run, kind, name])?)
        .map_err(|error| Response::temporary(500, &format!("failed to build the archive: {error}")))?;
    let disposition = format!("attachment; filename=\"{}{SUFFIX}\"", encode(name));
    let response = Response::new(200, bytes).header("content-type", "application/gzip");
    Ok(HandlerOutcome::Respond(response.header("content-disposition", disposition)))
}

/// The file behind a signed link.
pub(super) fn download_file(context: &ApiContext, path: &[&str]) -> HandlerResult {
    let &[run, kind, name, file] = path else { return Err(gone()) };
    let bytes = load(context, &[run, kind, name])?.remove(file).ok_or_else(gone)?;
    Ok(HandlerOutcome::Respond(Response::new(200, bytes).header("content-type", "application/octet-stream")))
}

/// The files of a checkpoint: of this run, kind and name.
fn load(context: &ApiContext, &[run, kind, name]: &[&str; 3]) -> Result<CheckpointFiles, Response> {
    context.state.store.load_files(&["runs", run, kind, name], CHECKPOINT_RECORD).map_err(|_| gone())
}

fn gone() -> Response {
    Response::error(404, "the checkpoint no longer exists")
}

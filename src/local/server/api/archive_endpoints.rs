//! Archives of checkpoints: signed links, and the downloads behind them.

use std::slice::from_ref;

use super::call::{ApiContext, Call, HandlerOutcome, HandlerResult};
use crate::local::checkpoint_files::archive;
use crate::local::server::http1::{Request, Response};
use crate::local::server::path_segment::{decode, encode};
use crate::local::server::state::CHECKPOINT_RECORD;
use crate::local::server::time::wall_clock;

/// The prefix of every path of an archive.
pub(super) const ARCHIVES: &str = "/archives/";
const SUFFIX: &str = ".tar.gz";

/// Redirects to a signed link. The header `Expires` says until when it is valid.
pub(super) fn link(call: &Call<'_>) -> HandlerResult {
    let path = call.checkpoint_path()?;
    call.state.lock().readable_checkpoint(path.as_str(), from_ref(&call.owner))?;
    let [run, kind, name] = call.captures::<3>()?.map(encode);
    let path = format!("{ARCHIVES}{run}/{kind}/{name}{SUFFIX}");
    let expires_at = wall_clock() + call.context.link_time;
    let query = call.context.signer.sign(&path, expires_at);
    // The host that the client used: it may know the server by another name than the server itself.
    let host = call.request.header("host").map_or_else(|| call.context.address.to_string(), str::to_owned);
    let location = format!("http://{host}{path}?{query}");
    let expires = httpdate::fmt_http_date(expires_at);
    Ok(HandlerOutcome::Respond(Response::new(302, "").header("location", location).header("expires", expires)))
}

/// The archive behind a signed link.
pub(super) fn download(context: &ApiContext, request: &Request) -> HandlerResult {
    if request.method != "GET" {
        return Err(Response::error(405, "Method Not Allowed"));
    }
    let verified = context.signer.verify(&request.path, &request.query, wall_clock());
    verified.map_err(|reason| Response::error(403, reason))?;
    let not_found = || Response::error(404, "the checkpoint no longer exists");
    let path = request.path.strip_prefix(ARCHIVES).and_then(|path| path.strip_suffix(SUFFIX)).ok_or_else(not_found)?;
    let segments: Option<Vec<String>> = path.split('/').map(decode).collect();
    let [run, kind, name] = &segments.unwrap_or_default()[..] else { return Err(not_found()) };
    let files = context.state.store.load_files(&["runs", run, kind, name], CHECKPOINT_RECORD);
    let archive = archive(&files.map_err(|_| not_found())?);
    let bytes = archive.map_err(|error| Response::error(500, &format!("failed to build the archive: {error}")))?;
    let disposition = format!("attachment; filename=\"{}{SUFFIX}\"", encode(name));
    let response = Response::new(200, bytes).header("content-type", "application/gzip");
    Ok(HandlerOutcome::Respond(response.header("content-disposition", disposition)))
}

//! Traces of sessions: exports, and the downloads behind their signed links.

use crate::local::server::api::call::{ApiContext, Call, HandlerOutcome, HandlerResult, ok};
use crate::local::server::http1::Response;
use crate::local::server::path_segment::encode;
use crate::local::server::state::{ExportState, check_owner, not_found};
use crate::types::wire::TraceExportResponse;

/// The first segment of the path of a trace.
pub(super) const TRACES: &str = "traces";
const SUFFIX: &str = ".pftrace";

/// Exports the trace of a session: the first request for it gets `pending`, the next one a link.
pub(super) fn export(call: &Call<'_>) -> HandlerResult {
    let [id] = call.captures()?;
    let tables = call.state.lock();
    let session = tables.sessions.get(id).ok_or_else(|| not_found("session", id))?;
    check_owner(&session.record.owner, &call.owner, id)?;
    drop(tables);
    let mut export = TraceExportResponse::default();
    match call.state.timeline.export(id) {
        ExportState::Pending => export.status = "pending".to_owned(),
        ExportState::Ready(number) => {
            let (url, _) = call.signed_url(&format!("/{TRACES}/{}/{number}{SUFFIX}", encode(id)));
            (export.status, export.url) = ("ready".to_owned(), Some(url));
        }
    }
    ok(&export)
}

/// The trace behind a signed link.
pub(super) fn download(context: &ApiContext, path: &[&str]) -> HandlerResult {
    let gone = || Response::error(404, "the trace is no longer kept: export it again");
    let &[session, file] = path else { return Err(gone()) };
    let number = file.strip_suffix(SUFFIX).and_then(|number| number.parse().ok()).ok_or_else(gone)?;
    let trace = context.state.timeline.trace(session, number).ok_or_else(gone)?;
    let disposition = format!("attachment; filename=\"{}{SUFFIX}\"", encode(session));
    let response = Response::new(200, trace).header("content-type", "application/octet-stream");
    Ok(HandlerOutcome::Respond(response.header("content-disposition", disposition)))
}

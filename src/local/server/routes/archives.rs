//! Archives of checkpoints: a link that holds for a while, and what is behind it.

use super::{Answer, Call, Service};
use crate::local::checkpoint::archive;
use crate::local::server::http::{Request, Response};
use crate::local::server::percent::{decode, encode};
use crate::local::server::state::CHECKPOINT;
use crate::local::server::wall;

/// Where archives are fetched, by whoever has a link: no key is asked for here.
pub(super) const PREFIX: &str = "/archives/";
const SUFFIX: &str = ".tar.gz";

/// Redirects to a signed link, which the header `Expires` tells the end of.
pub(super) fn link(call: &Call<'_>) -> Result<Answer, Response> {
    let path = call.checkpoint_path()?;
    call.state.lock().checkpoint(path.as_str(), &call.owner, true)?;
    let [run, kind, name] = call.named::<3>()?.map(encode);
    let path = format!("{PREFIX}{run}/{kind}/{name}{SUFFIX}");
    let end = wall() + call.service.link_time;
    let query = call.service.signer.sign(&path, end);
    // As the client calls the server: it may be behind another name.
    let host = call.request.header("host").map_or_else(|| call.service.address.to_string(), str::to_owned);
    let link = format!("http://{host}{path}?{query}");
    let response = Response::new(302, "").header("location", link).header("expires", httpdate::fmt_http_date(end));
    Ok(Answer::Now(response))
}

impl Service {
    /// The archive behind a link.
    pub(super) fn archive(&self, request: &Request) -> Result<Answer, Response> {
        if request.method != "GET" {
            return Err(Response::detail(405, "Method Not Allowed"));
        }
        self.signer.check(&request.path, &request.query, wall()).map_err(|why| Response::detail(403, why))?;
        let missing = || Response::detail(404, "the checkpoint is no longer there");
        let path = request.path.strip_prefix(PREFIX).and_then(|path| path.strip_suffix(SUFFIX)).ok_or_else(missing)?;
        let segments: Option<Vec<String>> = path.split('/').map(decode).collect();
        let [run, kind, name] = &segments.unwrap_or_default()[..] else { return Err(missing()) };
        let files = self.state.store.load(&["runs", run, kind, name], CHECKPOINT).map_err(|_| missing())?;
        let unreadable = |error| Response::detail(500, &format!("the archive could not be made: {error}"));
        let bytes = archive(&files).map_err(unreadable)?;
        let response = Response::new(200, bytes).header("content-type", "application/gzip");
        let file = format!("attachment; filename=\"{}{SUFFIX}\"", encode(name));
        Ok(Answer::Now(response.header("content-disposition", file)))
    }
}

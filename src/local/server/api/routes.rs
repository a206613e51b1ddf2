//! Routing: from method and path to a handler.

use super::call::{ApiContext, Call, Download, HandlerOutcome, HandlerResult};
use super::endpoints::{DOWNLOADS, ROUTES};
#[cfg(feature = "pretrained")]
use super::openai;
use super::{hub, unsupported};
use crate::local::server::http1::{Request, Response};
use crate::local::server::net::Responder;
use crate::local::server::path_segment;
use crate::local::server::state::Fingerprint;
use crate::local::server::time::wall_clock;

/// The prefix of every path of the API.
pub(crate) const PREFIX: &str = "/api/v1/";

/// The names by which fault rules refer to endpoints: the first and the last segment of each path.
pub(crate) fn endpoint_names() -> impl Iterator<Item = &'static str> {
    let ends = |(_, route, _): &(_, &'static str, _)| [route.split('/').next(), route.rsplit('/').next()];
    let downloads = DOWNLOADS.iter().map(|(first, _)| *first);
    let openai = ["completions", "models"].into_iter().filter(|_| cfg!(feature = "pretrained"));
    ROUTES.iter().flat_map(ends).flatten().filter(|segment| *segment != "{}").chain(downloads).chain(openai)
}

/// Executes a request and responds to it, at once or later.
pub(crate) fn handle(context: &ApiContext, request: &Request, responder: &Responder) {
    #[cfg(feature = "pretrained")]
    if request.path.starts_with(openai::PREFIX) {
        return openai::handle(context, request, responder);
    }
    match route(context, request, responder) {
        Ok(HandlerOutcome::Respond(response)) | Err(response) => responder.respond(response),
        Ok(HandlerOutcome::Defer) => {}
    }
}

fn route(context: &ApiContext, request: &Request, responder: &Responder) -> HandlerResult {
    if let Some((download, rest)) = download(&request.path) {
        return follow_link(context, request, download, rest);
    }
    let key = request.header("x-api-key").unwrap_or_default();
    let Some(path) = request.path.strip_prefix(PREFIX) else {
        let unknown = || context.authenticate(key).and_then(|_| Err(not_found()));
        return hub::handle(context, request).unwrap_or_else(unknown);
    };
    let owner = context.authenticate(key)?;
    let mut routes = ROUTES.iter().filter_map(|route| Some((route, captures(route.1, path)?))).peekable();
    routes.peek().ok_or_else(not_found)?;
    let route = routes.find(|((method, ..), _)| *method == request.method);
    let ((_, endpoint, handler), captures) = route.ok_or_else(|| Response::error(405, "Method Not Allowed"))?;
    unsupported::check(endpoint, request)?;
    let fingerprint = Fingerprint::of(request);
    handler(&Call { context, state: &context.state, request, captures, owner, fingerprint, responder })
}

/// The download that a path leads to, and the rest of the path.
fn download(path: &str) -> Option<(Download, &str)> {
    let (first, rest) = path.strip_prefix('/')?.split_once('/')?;
    DOWNLOADS.iter().find(|(name, _)| *name == first).map(|(_, download)| (*download, rest))
}

/// Follows a link without an API key: its signature is the permission.
fn follow_link(context: &ApiContext, request: &Request, download: Download, rest: &str) -> HandlerResult {
    if request.method != "GET" {
        return Err(Response::error(405, "Method Not Allowed"));
    }
    let verified = context.signer.verify(&request.path, &request.query, wall_clock());
    verified.map_err(|reason| Response::error(403, reason))?;
    let segments: Option<Vec<String>> = rest.split('/').map(path_segment::decode).collect();
    let segments = segments.ok_or_else(not_found)?;
    download(context, &segments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn not_found() -> Response {
    Response::error(404, "Not Found")
}

/// The decoded segments of a path that match the `{}` of a route; `None` if the path does not match.
fn captures(route: &str, path: &str) -> Option<Vec<String>> {
    let (mut route, mut path, mut captures) = (route.split('/'), path.split('/'), Vec::new());
    loop {
        match (route.next(), path.next()) {
            (None, None) => return Some(captures),
            (Some("{}"), Some(segment)) if !segment.is_empty() => captures.push(path_segment::decode(segment)?),
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_after_matching() {
        let route = "training_runs/{}/checkpoints/{}/{}";
        let found = captures(route, "training_runs/session-1%3Atrain:0/checkpoints/weights/a%2Fb");
        assert_eq!(found.unwrap(), ["session-1:train:0", "weights", "a/b"]);
        for path in
            ["training_runs/a/checkpoints/weights", "training_runs//checkpoints/weights/b", "x/a/checkpoints/b/c"]
        {
            assert_eq!(captures(route, path), None, "{path}");
        }
        assert_eq!(captures("healthz", "healthz").unwrap(), [""; 0]);
        assert_eq!(captures(route, "training_runs/%zz/checkpoints/weights/b"), None);
    }
}

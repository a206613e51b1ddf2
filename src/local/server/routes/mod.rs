//! From a request to what is done about it: the endpoints of the service.
//!
//! One table of routes; one file for each kind of endpoint. A handler reads the body ([`input`]), does what it asks for
//! under the lock of the tables ([`State`]), and answers at once or with a promise.

mod archives;
mod rest;
mod sampling;
mod session;
mod training;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::http::{Request, Response};
use super::keys::{Owner, Signer};
use super::percent;
use super::reply::Reply;
use super::state::{Fingerprint, State};

/// Where every path of the API begins.
pub(super) const PREFIX: &str = "/api/v1/";

/// Decides whether a key may use the server.
pub(in crate::local) type KeyCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What the endpoints work with.
pub(super) struct Service {
    pub(super) state: Arc<State>,
    /// How long a poll for a result is held.
    pub(super) hold_time: Duration,
    /// How long a link to an archive holds.
    pub(super) link_time: Duration,
    pub(super) key_check: KeyCheck,
    pub(super) signer: Signer,
    pub(super) address: SocketAddr,
}

/// One request to an endpoint.
struct Call<'a> {
    service: &'a Service,
    state: &'a Arc<State>,
    request: &'a Request,
    /// What the path has in place of each `{}` of the route.
    segments: Vec<String>,
    owner: Owner,
    print: Fingerprint,
    reply: &'a Reply,
}

/// What came of a request.
enum Answer {
    Now(Response),
    /// The answer comes through the reply.
    Later,
}

type Handler = fn(&Call<'_>) -> Result<Answer, Response>;

const ROUTES: &[(&str, &str, Handler)] = &[
    ("POST", "create_session", session::create),
    ("POST", "session_heartbeat", session::heartbeat),
    ("GET", "get_server_capabilities", session::capabilities),
    ("GET", "healthz", session::health),
    ("GET", "client/config", session::client_config),
    ("POST", "client/config", session::client_config),
    ("POST", "telemetry", session::telemetry),
    ("POST", "create_model", training::create_model),
    ("POST", "get_info", training::get_info),
    ("POST", "unload_model", training::unload_model),
    ("POST", "forward", training::forward),
    ("POST", "forward_backward", training::forward_backward),
    ("POST", "optim_step", training::optim_step),
    ("POST", "save_weights", training::save_weights),
    ("POST", "load_weights", training::load_weights),
    ("POST", "save_weights_for_sampler", training::save_weights_for_sampler),
    ("POST", "create_sampling_session", sampling::create),
    ("POST", "asample", sampling::sample),
    ("POST", "retrieve_future", sampling::retrieve_future),
    ("GET", "training_runs", rest::training_runs),
    ("GET", "training_runs/{}", rest::training_run),
    ("GET", "training_runs/{}/checkpoints", rest::checkpoints_of_run),
    ("DELETE", "training_runs/{}/checkpoints/{}/{}", rest::delete_checkpoint),
    ("POST", "training_runs/{}/checkpoints/{}/{}/publish", rest::publish),
    ("DELETE", "training_runs/{}/checkpoints/{}/{}/publish", rest::unpublish),
    ("PUT", "training_runs/{}/checkpoints/{}/{}/ttl", rest::set_time_to_live),
    ("GET", "training_runs/{}/checkpoints/{}/{}/archive", archives::link),
    ("GET", "checkpoints", rest::checkpoints),
    ("GET", "sessions", rest::sessions),
    ("GET", "sessions/{}", rest::session),
    ("GET", "samplers/{}", rest::sampler),
    ("POST", "weights_info", rest::weights_info),
];

/// What the path of a request may begin or end with, by which failures on request are for an endpoint.
pub(super) fn endpoints() -> impl Iterator<Item = &'static str> {
    let ends = |(_, route, _): &(_, &'static str, _)| [route.split('/').next(), route.rsplit('/').next()];
    let archives = archives::PREFIX.trim_matches('/');
    ROUTES.iter().flat_map(ends).flatten().filter(|segment| *segment != "{}").chain([archives])
}

impl Service {
    /// Carries out a request and sees to it that it is answered.
    pub(super) fn answer(&self, request: &Request, reply: &Reply) {
        match self.route(request, reply) {
            Ok(Answer::Now(response)) | Err(response) => reply.answer(response),
            Ok(Answer::Later) => {}
        }
    }

    fn route(&self, request: &Request, reply: &Reply) -> Result<Answer, Response> {
        if request.path.starts_with(archives::PREFIX) {
            return self.archive(request);
        }
        let key = request.header("x-api-key").unwrap_or_default();
        if key.is_empty() {
            return Err(Response::detail(401, "the header x-api-key is missing or empty"));
        }
        if !(self.key_check)(key) {
            return Err(Response::detail(401, "the API key is not known"));
        }
        let path = request.path.strip_prefix(PREFIX).ok_or_else(unknown)?;
        let mut routes = ROUTES.iter().filter_map(|route| Some((route, captured(route.1, path)?))).peekable();
        routes.peek().ok_or_else(unknown)?;
        let route = routes.find(|((method, ..), _)| *method == request.method);
        let ((.., handler), segments) = route.ok_or_else(|| Response::detail(405, "Method Not Allowed"))?;
        let (owner, print) = (Owner::of(key), Fingerprint::of(request));
        handler(&Call { service: self, state: &self.state, request, segments, owner, print, reply })
    }
}

fn unknown() -> Response {
    Response::detail(404, "Not Found")
}

/// What a path has in place of each `{}` of a route; none if it is another route's.
fn captured(route: &str, path: &str) -> Option<Vec<String>> {
    let (mut route, mut path, mut found) = (route.split('/'), path.split('/'), Vec::new());
    loop {
        match (route.next(), path.next()) {
            (None, None) => return Some(found),
            (Some("{}"), Some(segment)) if !segment.is_empty() => found.push(percent::decode(segment)?),
            (Some(literal), Some(segment)) if literal == segment => {}
            _ => return None,
        }
    }
}

fn respond<T: Serialize>(body: &T) -> Result<Answer, Response> {
    Ok(Answer::Now(Response::json(200, body)))
}

/// Done, and nothing to tell.
fn done() -> Result<Answer, Response> {
    Ok(Answer::Now(Response::new(204, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_captured_and_decoded_one_by_one() {
        let route = "training_runs/{}/checkpoints/{}/{}";
        let found = captured(route, "training_runs/session-1%3Atrain:0/checkpoints/weights/a%2Fb");
        assert_eq!(found.unwrap(), ["session-1:train:0", "weights", "a/b"]);
        for path in
            ["training_runs/a/checkpoints/weights", "training_runs//checkpoints/weights/b", "x/a/checkpoints/b/c"]
        {
            assert_eq!(captured(route, path), None, "{path}");
        }
        assert_eq!(captured("healthz", "healthz").unwrap(), [""; 0]);
        assert_eq!(captured(route, "training_runs/%zz/checkpoints/weights/b"), None);
    }
}

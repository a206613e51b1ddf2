//! The input and output of every handler.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::signed_link::LinkSigner;
use super::tokens::TokenSigner;
use crate::local::server::http1::{Request, Response};
use crate::local::server::net::Responder;
use crate::local::server::state::{Fingerprint, Owner, PromiseId, ServerState, Span, time_in};
use crate::local::server::wire_formats::WireFormats;

/// Decides whether an API key may use the server.
pub(crate) type KeyCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What the endpoints share.
pub(crate) struct ApiContext {
    pub(crate) state: Arc<ServerState>,
    /// How long a poll is held while its result is not ready.
    pub(crate) hold_time: Duration,
    /// How long a signed link is valid.
    pub(crate) link_time: Duration,
    /// The shortest time to live of a checkpoint.
    pub(crate) min_ttl: Duration,
    /// `None` accepts every key.
    pub(crate) key_check: Option<KeyCheck>,
    pub(crate) tokens: TokenSigner,
    /// How long a token is valid.
    pub(crate) token_time: Duration,
    pub(crate) wire: WireFormats,
    pub(crate) signer: LinkSigner,
    pub(crate) address: SocketAddr,
    #[cfg(feature = "pretrained")]
    pub(crate) openai: super::openai::shared::OpenAi,
}

/// One request to an endpoint.
pub(super) struct Call<'a> {
    pub(super) context: &'a ApiContext,
    pub(super) state: &'a Arc<ServerState>,
    pub(super) request: &'a Request,
    /// The decoded path segments that match the `{}` of the route.
    pub(super) captures: Vec<String>,
    pub(super) owner: Owner,
    pub(super) fingerprint: Fingerprint,
    pub(super) responder: &'a Responder,
}

impl Call<'_> {
    /// The URL of a path that can be fetched without an API key, and when it expires.
    pub(super) fn signed_url(&self, path: &str) -> (String, SystemTime) {
        let expires_at = time_in(self.context.link_time);
        let query = self.context.signer.sign(path, expires_at);
        // The host that the client used: it may know the server by another name than the server itself.
        let host = self.request.header("host").map_or_else(|| self.context.address.to_string(), str::to_owned);
        (format!("http://{host}{path}?{query}"), expires_at)
    }

    /// A promise of the result of this request. `subject` is the training run or sampling session that it is for.
    pub(super) fn new_promise(&self, session_id: &str, subject: &str, seq: Option<u64>) -> PromiseId {
        let id = self.state.promises.create(&self.owner);
        self.submitted(id, session_id, subject, seq);
        id
    }

    /// Notes when a promise was given.
    pub(super) fn submitted(&self, id: PromiseId, session_id: &str, subject: &str, seq: Option<u64>) {
        let name = self.request.path.rsplit('/').next().unwrap_or_default().to_owned();
        let (session_id, subject) = (session_id.to_owned(), subject.to_owned());
        self.state.timeline.submitted(id, Span { session_id, subject, name, seq });
    }

    /// The captured path segments, for a route with `N` of them.
    pub(super) fn captures<const N: usize>(&self) -> Result<[&str; N], Response> {
        let captures: Vec<&str> = self.captures.iter().map(String::as_str).collect();
        captures.try_into().map_err(|_| Response::error(404, "Not Found"))
    }
}

/// What remains to be done after a handler has run.
pub(super) enum HandlerOutcome {
    /// Send this response.
    Respond(Response),
    /// Nothing: the handler has passed on the call's responder, which sends the response later.
    Defer,
}

/// The outcome of a handler, or an error response.
pub(super) type HandlerResult = Result<HandlerOutcome, Response>;

pub(super) type Handler = fn(&Call<'_>) -> HandlerResult;

/// Responds with what a signed link gives access to. Gets the decoded segments of the path after the first.
pub(super) type Download = fn(&ApiContext, &[&str]) -> HandlerResult;

/// Status 200 with a JSON body.
pub(super) fn ok<T: Serialize>(body: &T) -> HandlerResult {
    Ok(HandlerOutcome::Respond(Response::json(200, body)))
}

/// Status 204.
pub(super) fn no_content() -> HandlerResult {
    Ok(HandlerOutcome::Respond(Response::new(204, "")))
}

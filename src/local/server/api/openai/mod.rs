//! OpenAI's API in this server; [`openai`] has what is the same in front of any service.

mod local_model;
mod models;
mod refusal;
pub(super) mod shared;

use std::sync::Arc;

use self::refusal::refused;
use super::call::ApiContext;
use crate::local::openai::{self, ApiError, Endpoint, Request as AnswerRequest};
use crate::local::server::http1::{Request, Response};
use crate::local::server::net::Responder;
use crate::local::server::path_segment;
use crate::local::server::state::Owner;
use crate::local::server::time::unix_seconds;

pub(super) use crate::local::openai::PREFIX;

/// Executes a request and responds to it, at once or later.
pub(super) fn handle(context: &ApiContext, request: &Request, responder: &Responder) {
    let Some(responder) = context.openai.origins.admit(request, responder) else { return };
    match route(context, request, &responder) {
        Ok(Some(body)) => responder.respond(Response::new(200, body)),
        Ok(None) => {}
        Err(error) => responder.respond(Response::new(error.status, error.body())),
    }
}

/// The body of the response; `None` if it comes later.
fn route(context: &ApiContext, request: &Request, responder: &Responder) -> Result<Option<Vec<u8>>, ApiError> {
    let owner = authenticate(context, request)?;
    let models = &context.openai.models;
    let asked = match Endpoint::of(&request.method, &request.path)? {
        Endpoint::Models => return Ok(Some(openai::list(&models.list(&context.state, &owner)))),
        Endpoint::Model(name) => {
            let name = path_segment::decode(&name).unwrap_or(name);
            return Ok(Some(models.entry(&context.state, &owner, &name)?.to_json().to_string().into_bytes()));
        }
        Endpoint::Chat => AnswerRequest::chat(&request.body)?,
        Endpoint::Completion => AnswerRequest::completion(&request.body)?,
    };
    let (models, state) = (Arc::clone(models), Arc::clone(&context.state));
    let answer = move |exchange: &Arc<dyn openai::Exchange>| match models.open(&state, &owner, &asked.model) {
        Ok(model) => openai::answer(&model, &asked, exchange, unix_seconds()),
        Err(error) => exchange.respond(error.status, error.body()),
    };
    context.openai.pool.submit(responder, answer).map(|()| None)
}

/// The owner of the key, which OpenAI's programs send as a bearer token.
fn authenticate(context: &ApiContext, request: &Request) -> Result<Owner, ApiError> {
    let bearer = request.header("authorization").and_then(openai::bearer_key);
    let Some(key) = bearer.or_else(|| request.header("x-api-key")).filter(|key| !key.is_empty()) else {
        return Err(ApiError::new(401, "there is no API key: send the header authorization with Bearer and the key"));
    };
    context.authenticate(key).map_err(|refusal| refused(&refusal))
}

//! Who a request comes from: API keys, and the tokens that clients exchange them for.

use serde_json::json;

use super::body::bad_request;
use super::call::{ApiContext, Call, HandlerResult, no_content, ok};
use super::tokens::Claims;
use crate::local::server::http1::Response;
use crate::local::server::state::Owner;
use crate::local::server::time::wall_clock;

/// How a token begins, and no API key of the service.
const TOKEN: &str = "eyJ";

/// Exchanges the credential of the request for a new token. One that is got with a token ends with that token: the key alone
/// gives more time.
pub(super) fn token(call: &Call<'_>) -> HandlerResult {
    let now = wall_clock();
    let credential = call.request.header("x-api-key").unwrap_or_default();
    let ceiling = match credential.starts_with(TOKEN) {
        true => Some(call.context.tokens.verify(credential, now).map_err(invalid_token)?.end()),
        false => None,
    };
    let claims = Claims::new(call.owner.clone(), now, call.context.token_time, ceiling);
    let jwt = call.context.tokens.issue(&claims).map_err(|error| Response::error(500, &error.to_string()))?;
    ok(&json!({ "jwt": jwt }))
}

/// Describes the key of the request.
pub(super) fn own_key(call: &Call<'_>) -> HandlerResult {
    let details = json!({ "org_details": { "name": "local" }, "user_details": { "email": call.owner.email() } });
    ok(&json!({ "key_id": call.owner.number(), "name": call.owner.as_str(), "note": "", "details": details }))
}

/// Revokes the key of the request, and with it its tokens.
pub(super) fn revoke_own_key(call: &Call<'_>) -> HandlerResult {
    let revoked = call.state.revoked_keys.add(&call.state.store, &call.owner);
    match revoked.map_err(|error| Response::error(500, &format!("failed to store the revocation: {error}")))? {
        true => no_content(),
        false => Err(bad_request("too many keys are revoked: delete revoked_keys.json in the data directory")),
    }
}

impl ApiContext {
    /// The owner of an API key or a token; 401 if it is not valid.
    pub(super) fn authenticate(&self, credential: &str) -> Result<Owner, Response> {
        let owner = if credential.is_empty() {
            return Err(Response::error(401, "the header x-api-key is missing or empty"));
        } else if credential.starts_with(TOKEN) {
            self.tokens.verify(credential, wall_clock()).map_err(invalid_token)?.sub
        } else if (self.key_check)(credential) {
            Owner::of_key(credential)
        } else {
            return Err(Response::error(401, "unknown API key"));
        };
        if self.state.revoked_keys.contains(&owner) {
            return Err(Response::error(401, "the API key was revoked: use another one"));
        }
        Ok(owner)
    }
}

/// The refusal of a token, on which clients get a new one and send the request again.
fn invalid_token(reason: &str) -> Response {
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{reason}\"");
    let detail = format!("{reason}: exchange the API key for a new one at auth/token");
    Response::error(401, &detail).header("www-authenticate", challenge)
}

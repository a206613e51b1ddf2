//! API keys, and the tokens that clients exchange them for.

use serde_json::json;

use crate::local::server::api::authentication::{TOKEN, invalid_token};
use crate::local::server::api::body::bad_request;
use crate::local::server::api::call::{Call, HandlerResult, no_content, ok};
use crate::local::server::api::tokens::Claims;
use crate::local::server::http1::Response;
use crate::local::server::time::wall_clock;

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
    let jwt = call.context.tokens.issue(&claims).map_err(|error| Response::temporary(500, &error.to_string()))?;
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
    match revoked.map_err(|error| Response::temporary(500, &format!("failed to store the revocation: {error}")))? {
        true => no_content(),
        false => Err(bad_request("too many keys are revoked: delete revoked_keys.json in the data directory")),
    }
}

//! Who a request comes from.

use super::call::ApiContext;
use crate::local::server::http1::Response;
use crate::local::server::state::Owner;
use crate::local::server::time::wall_clock;

/// How a token begins, and no API key of the service.
pub(super) const TOKEN: &str = "eyJ";

impl ApiContext {
    /// The owner of an API key or a token; 401 if it is not valid.
    pub(super) fn authenticate(&self, credential: &str) -> Result<Owner, Response> {
        let owner = if credential.is_empty() {
            return Err(Response::error(401, "the header x-api-key is missing or empty"));
        } else if credential.starts_with(TOKEN) {
            self.tokens.verify(credential, wall_clock()).map_err(invalid_token)?.sub
        } else if self.key_check.as_ref().is_none_or(|check| check(credential)) {
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
pub(super) fn invalid_token(reason: &str) -> Response {
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{reason}\"");
    let detail = format!("{reason}: exchange the API key for a new one at auth/token");
    Response::error(401, &detail).header("www-authenticate", challenge)
}

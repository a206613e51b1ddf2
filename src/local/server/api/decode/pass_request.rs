//! Passes in protobuf.

use serde_json::json;

use crate::local::server::api::body::{bad_request, unprocessable};
use crate::local::server::http1::Response;
use crate::types::wire::protobuf::{ForwardBackwardRequest, PassRequest, check_request, prost::Message};

/// The pass that a body in protobuf requests: 422 if the body is malformed, 400 if a number is not finite or provenance spans do not
/// cover the tokens.
///
/// The provenance of the tokens is checked, and has no effect on a pass.
pub(in crate::local::server::api) fn pass_request(body: &[u8]) -> Result<PassRequest, Response> {
    let malformed = |why: String| unprocessable(vec![json!("body")], &why, "value_error");
    check_request(body).map_err(malformed)?;
    let message = ForwardBackwardRequest::decode(body).map_err(|error| malformed(error.to_string()))?;
    let pass = PassRequest::try_from(message).map_err(|error| malformed(error.to_string()))?;
    for (index, datum) in pass.data.iter().enumerate() {
        datum.check_numbers(&"").map_err(|error| bad_request(format!("datum {index}: {error}")))?;
    }
    Ok(pass)
}

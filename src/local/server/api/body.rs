//! Bodies and their formats, and the errors for malformed requests.
//!
//! The server rejects requests like FastAPI, which the service uses: 422 with the location in the request for a wrong
//! format, 400 with a sentence for an invalid value.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use serde_path_to_error::Segment;

use crate::local::server::http1::{Request, Response};
use crate::rules::wire_format::WireFormat;

/// Parses a body in JSON. A field that may be absent may also be null.
pub(super) fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, Response> {
    if request.format() != WireFormat::Json {
        return Err(Response::error(415, "this endpoint takes JSON only: send content-type application/json"));
    }
    serde_json::from_slice(&request.body).or_else(|error| {
        // Slower, so only after the fast way failed: first without the nulls, then for the location of the error.
        let without_nulls = error.is_data().then(|| serde_json::from_slice(&request.body).ok().map(without_nulls));
        if let Some(body) = without_nulls.flatten().and_then(|body| serde_json::from_value(body).ok()) {
            return Ok(body);
        }
        let mut json = serde_json::Deserializer::from_slice(&request.body);
        Err(match serde_path_to_error::deserialize::<_, T>(&mut json) {
            Err(located) if error.is_data() => invalid_field(&error, located.path()),
            _ => unprocessable(vec![json!("body"), json!(error.column())], &error.to_string(), "json_invalid"),
        })
    })
}

/// Removes the null fields of all objects in a value.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// The error for a body with an invalid field, in FastAPI's words.
fn invalid_field(error: &serde_json::Error, path: &serde_path_to_error::Path) -> Response {
    let mut location = vec![json!("body")];
    location.extend(path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(json!(index)),
        Segment::Map { key } => Some(json!(key)),
        Segment::Enum { variant } => Some(json!(variant)),
        Segment::Unknown => None,
    }));
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    match text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(field) => {
            location.push(json!(field));
            unprocessable(location, "Field required", "missing")
        }
        None => unprocessable(location, text, "value_error"),
    }
}

/// The error for a malformed part of a request, in FastAPI's words.
pub(super) fn unprocessable(location: Vec<Value>, message: &str, kind: &str) -> Response {
    Response::json(422, &json!({ "detail": [{ "type": kind, "loc": location, "msg": message }] }))
}

/// The error for a well-formed body with an invalid value.
pub(super) fn bad_request(detail: impl AsRef<str>) -> Response {
    Response::error(400, detail.as_ref())
}

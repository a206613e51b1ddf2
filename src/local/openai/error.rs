//! Errors in OpenAI's shape.

use serde_json::{Value, json};

use crate::error::{Error, ErrorKind};

/// Why a request is refused or failed: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(in crate::local) status: u16,
    message: String,
    /// The parameter that is wrong, such as `messages[0].content`.
    param: Option<String>,
    code: Option<&'static str>,
}

impl ApiError {
    /// An error with the type and code that belong to a status.
    pub(in crate::local) fn new(status: u16, message: impl Into<String>) -> Self {
        let code = match status {
            401 => Some("invalid_api_key"),
            429 => Some("rate_limit_exceeded"),
            _ => None,
        };
        ApiError { status, message: message.into(), param: None, code }
    }

    /// A parameter has a wrong value.
    pub(super) fn invalid(param: impl Into<String>, problem: impl AsRef<str>) -> Self {
        let param = param.into();
        let message = format!("{param}: {}", problem.as_ref());
        ApiError { param: Some(param), ..ApiError::new(400, message) }
    }

    /// A parameter is not supported.
    pub(super) fn unsupported(param: impl Into<String>, problem: impl AsRef<str>) -> Self {
        ApiError { code: Some("unsupported_parameter"), ..ApiError::invalid(param, problem) }
    }

    /// There is no such model, or none for this key.
    pub(in crate::local) fn model_not_found(message: impl Into<String>) -> Self {
        ApiError { param: Some("model".to_owned()), code: Some("model_not_found"), ..ApiError::new(404, message) }
    }

    /// The same with the code for a prompt that does not fit the context, if that is what the message says.
    pub(in crate::local) fn or_context(self) -> Self {
        let is_context = self.status == 400 && self.message.contains("exceed the context");
        ApiError { code: if is_context { Some("context_length_exceeded") } else { self.code }, ..self }
    }

    pub(crate) fn to_json(&self) -> Value {
        let ApiError { message, param, code, .. } = self;
        json!({ "error": { "message": message, "type": self.kind(), "param": param, "code": code } })
    }

    pub(in crate::local) fn body(&self) -> Vec<u8> {
        self.to_json().to_string().into_bytes()
    }

    fn kind(&self) -> &'static str {
        match self.status {
            402 => "insufficient_quota",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// An error of the library: of a conversation that a template refuses, or of a request to a service, whose status it has.
impl From<&Error> for ApiError {
    fn from(error: &Error) -> Self {
        let status = match (error.status(), error.kind()) {
            (Some(status), _) if status >= 400 => status,
            (_, ErrorKind::InvalidInput) => 400,
            (_, ErrorKind::Billing) => 402,
            (_, ErrorKind::QueueFull) => 429,
            (_, ErrorKind::RequestFailed) if error.is_user_error() => 400,
            (_, ErrorKind::Connect | ErrorKind::Decode) => 502,
            (_, ErrorKind::Closed | ErrorKind::Cancelled) => 503,
            (_, ErrorKind::Timeout(_)) => 504,
            _ => 500,
        };
        ApiError::new(status, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_openais_shape() {
        let error = ApiError::invalid("temperature", "must be a number");
        assert_eq!(
            error.to_json().to_string(),
            r#"{"error":{"message":"temperature: must be a number","type":"invalid_request_error","param":"temperature","code":null}}"#
        );
        for (error, kind, code) in [
            (ApiError::new(401, "no"), "invalid_request_error", json!("invalid_api_key")),
            (ApiError::new(402, "no"), "insufficient_quota", Value::Null),
            (ApiError::new(403, "no"), "permission_error", Value::Null),
            (ApiError::new(429, "no"), "rate_limit_error", json!("rate_limit_exceeded")),
            (ApiError::new(500, "no"), "server_error", Value::Null),
            (ApiError::unsupported("n", "no"), "invalid_request_error", json!("unsupported_parameter")),
            (ApiError::model_not_found("no"), "invalid_request_error", json!("model_not_found")),
            (
                ApiError::new(400, "9 tokens exceed the context of 8").or_context(),
                "invalid_request_error",
                json!("context_length_exceeded"),
            ),
        ] {
            let json = error.to_json();
            assert_eq!((&json["error"]["type"], &json["error"]["code"]), (&json!(kind), &code), "{error:?}");
        }
    }

    #[test]
    fn errors_of_the_library_keep_their_reason() {
        let error = ApiError::from(&Error::invalid_input("a file is missing").with_hint("add it"));
        assert_eq!((error.status, error.message.as_str()), (400, "a file is missing; add it"));
        for (kind, status) in [
            (ErrorKind::Connect, 502),
            (ErrorKind::Timeout(crate::error::Limit::Operation), 504),
            (ErrorKind::Closed, 503),
        ] {
            assert_eq!(ApiError::from(&Error::new(kind, "it failed")).status, status);
        }
    }
}

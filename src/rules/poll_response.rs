//! What the response to a poll says about its promise.
//!
//! `retrieve_future` reports "done", "failed" and "not yet" in several ways, some by status, some by the shape of the body.
//! [`classify`] tries them in the protocol's order. A result can take many megabytes: only the top-level keys are read, and
//! the result stays a slice of the body until it is decoded straight into the caller's type.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error_message::{error_message, json_message, one_line};
use crate::error::Error;
use crate::types::wire::protobuf;
use crate::types::{QueueState, RequestErrorCategory};

/// The outcome of one poll. `T` is the result: a slice of the body at first, then the decoded value. `E` is why there is
/// none: a [`PollFailure`] at first, then the error that the caller gets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PollOutcome<T, E = Error> {
    /// The result.
    Ready(T),
    /// There will be no result.
    Failed(E),
    /// The server no longer knows the promise (410). Unlike [`Failed`](Self::Failed) it carries no error: a promise with a
    /// resubmission is submitted again, and only one without ends with an error, which the poller builds from the message.
    Gone {
        /// The server's message.
        detail: String,
    },
    /// No result yet: the promise is polled again.
    NotReady(NotReady),
}

/// Why a poll brought no result yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NotReady {
    /// The server says that the request is not finished.
    Pending {
        /// The state of the queue that the request waits in.
        queue_state: Option<QueueState>,
        /// The server's reason for this state.
        reason: Option<String>,
    },
    /// The request was written, and no response header came within the poll timeout: the server holds polls for longer.
    Silent,
    /// The server asks for fewer requests (429).
    RateLimited {
        /// The wait that it asks for.
        retry_after: Option<Duration>,
    },
    /// The server has a problem (5xx).
    ServerError {
        /// The HTTP status.
        status: u16,
    },
    /// The server refuses the poll because of the account's billing (402), and may accept it later.
    Unpaid {
        /// The wait before the next poll.
        wait: Duration,
    },
    /// The result is there and has this size: it is fetched when there is room for it.
    Measured {
        /// In bytes.
        size: u64,
    },
    /// A 400 that may be a proxy's.
    BadRequest,
    /// There was no connection, or it was lost before the response was complete.
    Unreachable,
}

/// Why there will be no result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PollFailure {
    /// The server accepted the request, and the request failed.
    Request {
        /// The server's message.
        message: String,
        /// Who caused it.
        category: RequestErrorCategory,
    },
    /// The server answers with another status, which is final.
    HttpStatus {
        /// The HTTP status.
        status: u16,
        /// The server's message.
        detail: String,
    },
    /// A 2xx response that cannot be decoded.
    Undecodable {
        /// What is wrong with it.
        why: String,
    },
}

/// Whether this content type is that of a result in protobuf. All else that a poll may bring is JSON.
pub(crate) fn is_protobuf(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|content_type| content_type.to_ascii_lowercase().contains(protobuf::CONTENT_TYPE))
}

/// Classifies a response to a poll by the first rule of the protocol that matches. `retry_after` is the wait that its headers
/// ask for.
pub(crate) fn classify(status: u16, body: &[u8], retry_after: Option<Duration>) -> PollOutcome<&[u8], PollFailure> {
    match status {
        // The body may be empty, or anything that a proxy writes.
        202 | 408 => Envelope::read(body).unwrap_or_default().pending(),
        200..=299 => classify_success(body),
        410 => PollOutcome::Gone { detail: error_message(status, body) },
        429 => PollOutcome::NotReady(NotReady::RateLimited { retry_after }),
        500..=599 => PollOutcome::NotReady(NotReady::ServerError { status }),
        _ => PollOutcome::Failed(PollFailure::HttpStatus { status, detail: error_message(status, body) }),
    }
}

impl<T> PollOutcome<T, PollFailure> {
    /// Decodes a result and turns a failure into the caller's error. A result that cannot be decoded is a failure, too.
    pub(crate) fn resolve<U, E>(
        self,
        decode: impl FnOnce(T) -> Result<U, String>,
        into_error: impl FnOnce(PollFailure) -> E,
    ) -> PollOutcome<U, E> {
        match self {
            PollOutcome::Ready(result) => match decode(result) {
                Ok(value) => PollOutcome::Ready(value),
                Err(why) => PollOutcome::Failed(into_error(PollFailure::Undecodable { why })),
            },
            PollOutcome::Failed(failure) => PollOutcome::Failed(into_error(failure)),
            PollOutcome::Gone { detail } => PollOutcome::Gone { detail },
            PollOutcome::NotReady(not_ready) => PollOutcome::NotReady(not_ready),
        }
    }
}

/// Classifies a 2xx response.
fn classify_success(body: &[u8]) -> PollOutcome<&[u8], PollFailure> {
    let undecodable = |why: String| PollOutcome::Failed(PollFailure::Undecodable { why });
    if body.trim_ascii().is_empty() {
        return undecodable("the response is empty".to_owned());
    }
    let envelope = match Envelope::read(body) {
        Ok(envelope) => envelope,
        Err(error) if error.is_data() => return undecodable("the response is not a JSON object".to_owned()),
        Err(error) => return undecodable(format!("the response is not JSON: {error}")),
    };
    let status = text(envelope.status);
    match (status.as_deref(), envelope.result) {
        _ if envelope.error.is_some() => envelope.failed(body),
        (Some("failed"), _) => envelope.failed(body),
        _ if text(envelope.kind).as_deref() == Some("try_again") => envelope.pending(),
        (Some("pending"), None) => envelope.pending(),
        (Some("complete_metadata"), None) => match envelope.payload_size() {
            Some(size) => PollOutcome::NotReady(NotReady::Measured { size }),
            None => undecodable("the response has no response_payload_size".to_owned()),
        },
        (Some("completed"), Some(result)) => PollOutcome::Ready(result.get().as_bytes()),
        _ => PollOutcome::Ready(body),
    }
}

/// The state of a queue of which the server gives only a reason (Python client: `QueueState.UNKNOWN`).
const UNKNOWN_STATE: &str = "unknown";

/// The top-level keys that say what a response is, each with its raw value.
#[derive(Default)]
struct Envelope<'a> {
    kind: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    category: Option<&'a RawValue>,
    queue_state: Option<&'a RawValue>,
    queue_state_reason: Option<&'a RawValue>,
    response_payload_size: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads the body once and allocates nothing for the values that it skips.
    fn read(body: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(body)
    }

    fn failed<T>(&self, body: &[u8]) -> PollOutcome<T, PollFailure> {
        let message = text(self.error)
            .and_then(|error| one_line(&error))
            .or_else(|| json_message(body))
            .or_else(|| {
                self.error
                    .filter(|error| !matches!(error.get(), "null" | "\"\""))
                    .and_then(|error| one_line(error.get()))
            })
            .unwrap_or_else(|| "the server gave no reason".to_owned());
        let category =
            text(self.category).map_or(RequestErrorCategory::Unknown, |word| RequestErrorCategory::from(&*word));
        PollOutcome::Failed(PollFailure::Request { message, category })
    }

    /// In bytes.
    fn payload_size(&self) -> Option<u64> {
        serde_json::from_str(self.response_payload_size?.get()).ok()
    }

    fn pending<T, E>(&self) -> PollOutcome<T, E> {
        let (queue_state, reason) = (text(self.queue_state), text(self.queue_state_reason));
        // Some servers give the reason alone.
        let queue_state = queue_state.or_else(|| reason.as_ref().map(|_| UNKNOWN_STATE.to_owned()));
        PollOutcome::NotReady(NotReady::Pending {
            queue_state: queue_state.map(|word| QueueState::from(&*word)),
            reason,
        })
    }
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

/// The names of the keys.
#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Type,
    Status,
    Result,
    Error,
    Category,
    QueueState,
    QueueStateReason,
    ResponsePayloadSize,
    #[serde(other)]
    Other,
}

struct EnvelopeVisitor;

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(key) = map.next_key()? {
            let value = match key {
                Key::Type => &mut envelope.kind,
                Key::Status => &mut envelope.status,
                Key::Result => &mut envelope.result,
                Key::Error => &mut envelope.error,
                Key::Category => &mut envelope.category,
                Key::QueueState => &mut envelope.queue_state,
                Key::QueueStateReason => &mut envelope.queue_state_reason,
                Key::ResponsePayloadSize => &mut envelope.response_payload_size,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *value = Some(map.next_value()?);
        }
        Ok(envelope)
    }
}

/// A value that is a string.
fn text(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::{Value, json};

    use super::super::testing::{golden, list};
    use super::*;

    fn read(status: u16, body: &str) -> PollOutcome<&[u8], PollFailure> {
        classify(status, body.as_bytes(), None)
    }

    fn pending<T, E>(queue_state: Option<&str>, reason: Option<&str>) -> PollOutcome<T, E> {
        let (queue_state, reason) = (queue_state.map(Into::into), reason.map(Into::into));
        PollOutcome::NotReady(NotReady::Pending { queue_state, reason })
    }

    fn ready(result: &str) -> PollOutcome<&[u8], PollFailure> {
        PollOutcome::Ready(result.as_bytes())
    }

    fn failed<T>(message: &str, category: RequestErrorCategory) -> PollOutcome<T, PollFailure> {
        PollOutcome::Failed(PollFailure::Request { message: message.into(), category })
    }

    fn undecodable<T>(why: &str) -> PollOutcome<T, PollFailure> {
        PollOutcome::Failed(PollFailure::Undecodable { why: why.into() })
    }

    fn http_status<T>(status: u16, detail: &str) -> PollOutcome<T, PollFailure> {
        PollOutcome::Failed(PollFailure::HttpStatus { status, detail: detail.into() })
    }

    fn gone<T>(detail: &str) -> PollOutcome<T, PollFailure> {
        PollOutcome::Gone { detail: detail.into() }
    }

    #[test]
    fn responses_follow_the_protocols_table_in_order() {
        use RequestErrorCategory::{Server, Unknown, User};
        for (status, body, expected) in [
            (200, r#"{"error":"no","category":"user","status":"completed","result":{}}"#, failed("no", User)),
            (200, r#"{"type":"try_again","error":"no"}"#, failed("no", Unknown)),
            (200, r#"{"status":"failed","category":"SERVER"}"#, failed("the server gave no reason", Server)),
            (200, r#"{"status":"failed","message":"oom"}"#, failed("oom", Unknown)),
            (200, r#"{"error":""}"#, failed("the server gave no reason", Unknown)),
            (200, r#"{"error":null,"model_id":"m"}"#, failed("the server gave no reason", Unknown)),
            (200, r#"{"error":{"code":7},"category":3}"#, failed(r#"{"code":7}"#, Unknown)),
            (200, r#"{"type":"try_again","status":"completed","result":{}}"#, pending(None, None)),
            (
                200,
                r#"{"type":"try_again","queue_state":"bogus","queue_state_reason":"é"}"#,
                pending(Some("bogus"), Some("é")),
            ),
            (200, r#"{"status":"pending"}"#, pending(None, None)),
            (200, r#"{"status":"completed","result":{"value":42}}"#, ready(r#"{"value":42}"#)),
            (200, r#"{"result": [1] ,"status":"completed"}"#, ready("[1]")),
            (200, r#"{"model_id":"m","status":"unloaded"}"#, ready(r#"{"model_id":"m","status":"unloaded"}"#)),
            (
                200,
                r#"{"status":"complete_metadata","response_payload_size":123}"#,
                PollOutcome::NotReady(NotReady::Measured { size: 123 }),
            ),
            (
                200,
                r#"{"status":"complete_metadata","response_payload_size":-1}"#,
                undecodable("the response has no response_payload_size"),
            ),
            (200, r#"{"status":"completed"}"#, ready(r#"{"status":"completed"}"#)),
            (200, r#"{"path":"p","result":1}"#, ready(r#"{"path":"p","result":1}"#)),
            (200, "{}", ready("{}")),
            (200, " \n", undecodable("the response is empty")),
            (200, "[1]", undecodable("the response is not a JSON object")),
            (200, "null", undecodable("the response is not a JSON object")),
            (200, r#"{"type":"try_again","queue_state_reason":"full"}"#, pending(Some("unknown"), Some("full"))),
            (202, r#"{"status":"pending"}"#, pending(None, None)),
            (202, r#"{"queue_state":"active"}"#, pending(Some("active"), None)),
            (202, r#"{"metrics":{}}"#, pending(None, None)),
            (202, "", pending(None, None)),
            (408, r#"{"queue_state_reason":"full"}"#, pending(Some("unknown"), Some("full"))),
            (408, "", pending(None, None)),
            (408, "<html>", pending(None, None)),
            (408, r#"{"detail":"still going"}"#, pending(None, None)),
            (
                408,
                r#"{"queue_state":"paused_capacity","queue_state_reason":null}"#,
                pending(Some("paused_capacity"), None),
            ),
            (408, r#"{"queue_state":3,"error":"x"}"#, pending(None, None)),
            (410, r#"{"detail":"gone"}"#, gone("gone")),
            (410, "", gone("HTTP status 410 Gone")),
            (429, "slow down", PollOutcome::NotReady(NotReady::RateLimited { retry_after: None })),
            (500, "", PollOutcome::NotReady(NotReady::ServerError { status: 500 })),
            (529, "overloaded", PollOutcome::NotReady(NotReady::ServerError { status: 529 })),
            (400, r#"{"detail":"bad rank"}"#, http_status(400, "bad rank")),
            (409, "", http_status(409, "HTTP status 409 Conflict")),
            (302, "", http_status(302, "HTTP status 302")),
        ] {
            assert_eq!(read(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn protobuf_is_told_by_the_content_type() {
        for (content_type, expected) in [
            (Some("application/x-protobuf"), true),
            (Some("Application/X-Protobuf; messageType=a.B"), true),
            (Some("application/json"), false),
            (None, false),
        ] {
            assert_eq!(is_protobuf(content_type), expected, "{content_type:?}");
        }
    }

    #[test]
    fn a_429_carries_its_retry_after() {
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(classify(429, b"", retry_after), PollOutcome::NotReady(NotReady::RateLimited { retry_after }));
    }

    #[test]
    fn a_truncated_response_is_undecodable() {
        for body in [r#"{"metrics":{"#, r#"{"a":1} x"#, "{bad}"] {
            let PollOutcome::Failed(PollFailure::Undecodable { why }) = read(200, body) else { panic!("{body}") };
            assert!(why.starts_with("the response is not JSON: "), "{why}");
        }
    }

    #[test]
    fn a_result_of_the_wrong_shape_is_undecodable() {
        let wrong = read(200, "{}").resolve(|_| Err::<(), _>("no logprobs".to_owned()), |failure| failure);
        assert_eq!(wrong, undecodable("no logprobs"));
        assert_eq!(read(200, "{}").resolve(|bytes| Ok(bytes.len()), |failure| failure), PollOutcome::Ready(2));
        assert_eq!(read(408, "").resolve(|_| Ok(()), |failure| failure), pending(None, None));
    }

    #[test]
    fn failures_of_the_fixture_keep_message_and_category() {
        // The Python client takes these spellings of the category for unknown; here the case does not matter.
        let spellings = [("User", RequestErrorCategory::User), ("SERVER", RequestErrorCategory::Server)];
        let fixture = golden("82_future_request_failed");
        let failures: Vec<&Value> = list(&fixture["exchanges"])
            .iter()
            .map(|exchange| &exchange["response"]["json"])
            .filter(|json| json.get("error").is_some())
            .collect();
        let results = list(&fixture["results"])
            .iter()
            .map(|result| &result["exception"])
            .filter(|exception| !exception.is_null());
        assert_eq!(failures.len(), 11);
        for (json, exception) in failures.into_iter().zip(results) {
            let PollOutcome::Failed(PollFailure::Request { message, category: found }) = read(200, &json.to_string())
            else {
                panic!("{json}")
            };
            let word = json.get("category").and_then(Value::as_str);
            let known = spellings.iter().find(|(name, _)| Some(*name) == word).map(|(_, category)| *category == found);
            assert!(known.unwrap_or_else(|| found.as_str() == exception["category"]), "{json}");
            if json["error"] != "" {
                assert!(exception["message"].as_str().unwrap().starts_with(&format!("Request failed: {message} for ")));
            }
        }
    }

    #[test]
    fn nested_keys_are_ignored_at_any_depth() {
        let deep =
            format!(r#"{{"a":{}1{},"b":{{"error":"x","status":"failed"}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(200, &deep), ready(&deep));
    }

    quickcheck! {
        fn any_bytes_can_be_classified(status: u16, body: Vec<u8>) -> bool {
            let _ = classify(status, &body, None);
            let inside = json!({"status": "completed", "result": String::from_utf8_lossy(&body)}).to_string();
            read(200, &inside) == ready(&json!(String::from_utf8_lossy(&body)).to_string())
        }
    }
}

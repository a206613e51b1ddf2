//! What the response to a poll says about its promise.
//!
//! `retrieve_future` reports "done", "failed" and "not yet" in several ways, some by status, some by the shape of the body.
//! [`classify`] tries them in the protocol's order. A result can take many megabytes: only the top-level keys are read, those of a
//! large one without reading the rest, and the result stays a slice of the body until it is decoded straight into the caller's type.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error_message::{error_message, is_gateways_refusal, is_services_own, json_message, one_line};
use crate::error::{Error, ErrorKind};
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
    /// The server has a problem (5xx), or something in front of it refuses the poll in its own name or redirects it.
    Failing {
        /// The HTTP status.
        status: u16,
    },
    /// A success that is cut or replaced on the way. The server still has what it said.
    Damaged,
    /// The time of the poll ran out (408), and nothing says that the service knows the promise.
    TimedOut,
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
    /// The process lacked what a connection needs, such as a descriptor.
    Shortage,
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
    /// The server responds with another status, which is final.
    HttpStatus {
        /// The HTTP status.
        status: u16,
        /// The server's message.
        detail: String,
    },
    /// A 2xx response that cannot be decoded. See [`PollOutcome::unless_damaged`].
    Undecodable {
        /// What is wrong with it.
        why: String,
    },
}

/// Classifies a response to a poll by the first rule of the protocol that matches. `retry_after` is the wait that its headers
/// ask for.
pub(crate) fn classify(status: u16, body: &[u8], retry_after: Option<Duration>) -> PollOutcome<&[u8], PollFailure> {
    match status {
        // The body may be empty, or anything that a proxy writes.
        202 => Envelope::read(body).unwrap_or_default().pending(),
        200..=299 => classify_success(body),
        408 => match Envelope::read(body) {
            Ok(envelope) if envelope.is_word() || is_services_own(status, body) => envelope.pending(),
            _ => PollOutcome::NotReady(NotReady::TimedOut),
        },
        _ if is_gateways_refusal(status, body) => PollOutcome::NotReady(NotReady::Failing { status }),
        410 => PollOutcome::Gone { detail: error_message(status, body) },
        429 => PollOutcome::NotReady(NotReady::RateLimited { retry_after }),
        500..=599 => PollOutcome::NotReady(NotReady::Failing { status }),
        _ => PollOutcome::Failed(PollFailure::HttpStatus { status, detail: error_message(status, body) }),
    }
}

impl<T> PollOutcome<T> {
    /// Whether the service took the poll, and said something about the promise.
    pub(crate) fn is_taken(&self) -> bool {
        match self {
            PollOutcome::Ready(_) | PollOutcome::Gone { .. } => true,
            PollOutcome::NotReady(not_ready) => {
                matches!(not_ready, NotReady::Pending { .. } | NotReady::Measured { .. })
            }
            // A response that is too large, or no result, is a success all the same.
            PollOutcome::Failed(error) => matches!(error.kind(), ErrorKind::RequestFailed | ErrorKind::Decode),
        }
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

    /// Takes a success that cannot be decoded for a damaged one unless it is whole: what is whole, the service means, and it would
    /// come again.
    pub(crate) fn unless_damaged(self, is_whole: impl FnOnce() -> bool) -> Self {
        match self {
            PollOutcome::Failed(PollFailure::Undecodable { .. }) if !is_whole() => {
                PollOutcome::NotReady(NotReady::Damaged)
            }
            outcome => outcome,
        }
    }
}

/// From this number of bytes on, a response that has none of the words that say something else is taken for a result.
const LARGE: usize = 1 << 16;

/// The words, as keys or as the value of `type`.
const WORDS: [&[u8]; 3] = [b"error", b"status", b"try_again"];

/// Classifies a 2xx response.
fn classify_success(body: &[u8]) -> PollOutcome<&[u8], PollFailure> {
    if body.len() >= LARGE && super::json_structure::is_object_without(&WORDS, body) {
        return PollOutcome::Ready(body);
    }
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
            .or_else(|| self.error.filter(|error| error.get() != "\"\"").and_then(|error| one_line(error.get())))
            .unwrap_or_else(|| "the server gave no reason".to_owned());
        let category =
            text(self.category).map_or(RequestErrorCategory::Unknown, |word| RequestErrorCategory::from(&*word));
        PollOutcome::Failed(PollFailure::Request { message, category })
    }

    /// Whether it says something about the promise.
    fn is_word(&self) -> bool {
        [self.kind, self.status, self.queue_state, self.queue_state_reason].into_iter().any(|word| text(word).is_some())
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
        // Some servers write every key of their type, and null is no error.
        envelope.error = envelope.error.filter(|error| error.get() != "null");
        Ok(envelope)
    }
}

/// A value that is a string.
fn text(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

#[cfg(test)]
mod tests;

//! What a poll's answer means.
//!
//! `retrieve_future` says "done", "failed" and "not yet" in several ways, some by status, some by shape.
//! [`PollReply::read`] goes through them in the protocol's order. A result can be many megabytes: only the keys at the top
//! are looked at, and the result stays the bytes that came, to be decoded straight into the caller's type.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error_message::{error_message, json_message, one_line};
use crate::types::{QueueState, RequestErrorCategory};

/// What came of one poll.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PollReply<'a> {
    /// The server answered.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The whole body.
        body: &'a [u8],
        /// How long the server asks to wait, from the headers.
        retry_after: Option<Duration>,
    },
    /// The request was sent, and no header came within the poll timeout.
    HeaderTimeout,
    /// There was no connection, or it was lost before the whole answer was there.
    ConnectionFailed,
}

/// What a poll's answer means. `T` is the result: its bytes at first, later what they were decoded into.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning<T> {
    /// The request was carried out.
    Done(T),
    /// The server gave up on the request for good.
    Failed {
        /// What went wrong, in the server's words.
        message: String,
        /// Whose fault it was.
        category: RequestErrorCategory,
    },
    /// The server says that it is not done.
    NotYet {
        /// The state of the queue that it waits in.
        queue_state: Option<QueueState>,
        /// Why the queue is in this state, in the server's words.
        reason: Option<String>,
    },
    /// The server holds the poll for longer than we wait: not done, but nothing was heard.
    Silent,
    /// The server no longer knows the promise.
    Expired {
        /// What the server says about it.
        detail: String,
    },
    /// The server wants to be asked less often.
    RateLimited {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The server is in trouble.
    Transient {
        /// The HTTP status.
        status: u16,
    },
    /// The server was not reached.
    Disconnected,
    /// The server refuses to answer for this promise.
    Fatal {
        /// The HTTP status.
        status: u16,
        /// What the server says about it.
        detail: String,
    },
    /// The server says that all is well, in a way that cannot be understood.
    Undecodable {
        /// What is wrong with the answer.
        why: String,
    },
}

impl<'a> PollReply<'a> {
    /// What this means, by the first rule of the protocol that fits.
    pub(crate) fn read(self) -> Meaning<&'a [u8]> {
        let (status, body, retry_after) = match self {
            PollReply::Answer { status, body, retry_after } => (status, body, retry_after),
            PollReply::HeaderTimeout => return Meaning::Silent,
            PollReply::ConnectionFailed => return Meaning::Disconnected,
        };
        match status {
            200..=299 => read_success(body),
            // The body may be empty, or be anything that a proxy writes.
            408 => Head::read(body).unwrap_or_default().not_yet(),
            410 => Meaning::Expired { detail: error_message(status, body) },
            429 => Meaning::RateLimited { retry_after },
            500..=599 => Meaning::Transient { status },
            _ => Meaning::Fatal { status, detail: error_message(status, body) },
        }
    }
}

impl<T> Meaning<T> {
    /// Decodes the result; one that does not decode is an answer that cannot be understood.
    pub(crate) fn decode<U>(self, decode: impl FnOnce(T) -> Result<U, String>) -> Meaning<U> {
        match self {
            Meaning::Done(result) => match decode(result) {
                Ok(value) => Meaning::Done(value),
                Err(why) => Meaning::Undecodable { why },
            },
            Meaning::Failed { message, category } => Meaning::Failed { message, category },
            Meaning::NotYet { queue_state, reason } => Meaning::NotYet { queue_state, reason },
            Meaning::Silent => Meaning::Silent,
            Meaning::Expired { detail } => Meaning::Expired { detail },
            Meaning::RateLimited { retry_after } => Meaning::RateLimited { retry_after },
            Meaning::Transient { status } => Meaning::Transient { status },
            Meaning::Disconnected => Meaning::Disconnected,
            Meaning::Fatal { status, detail } => Meaning::Fatal { status, detail },
            Meaning::Undecodable { why } => Meaning::Undecodable { why },
        }
    }
}

/// The meaning of an answer with a status of success.
fn read_success(body: &[u8]) -> Meaning<&[u8]> {
    if body.trim_ascii().is_empty() {
        return Meaning::Undecodable { why: "the answer is empty".to_owned() };
    }
    let head = match Head::read(body) {
        Ok(head) => head,
        Err(error) if error.is_data() => {
            return Meaning::Undecodable { why: "the answer is not a JSON object".to_owned() };
        }
        Err(error) => return Meaning::Undecodable { why: format!("the answer is not JSON: {error}") },
    };
    let status = text(head.status);
    match (status.as_deref(), head.result) {
        _ if head.error.is_some() => head.failed(body),
        (Some("failed"), _) => head.failed(body),
        _ if text(head.kind).as_deref() == Some("try_again") => head.not_yet(),
        (Some("pending"), None) => head.not_yet(),
        (Some("completed"), Some(result)) => Meaning::Done(result.get().as_bytes()),
        _ => Meaning::Done(body),
    }
}

/// The keys at the top of an answer that tell what it means, as they stand there.
#[derive(Default)]
struct Head<'a> {
    kind: Option<&'a RawValue>,
    status: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    category: Option<&'a RawValue>,
    queue_state: Option<&'a RawValue>,
    queue_state_reason: Option<&'a RawValue>,
}

impl<'a> Head<'a> {
    /// Reads over the body once, without building anything of what it skips.
    fn read(body: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(body)
    }

    fn failed<T>(&self, body: &[u8]) -> Meaning<T> {
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
        Meaning::Failed { message, category }
    }

    fn not_yet<T>(&self) -> Meaning<T> {
        let queue_state = text(self.queue_state).map(|word| QueueState::from(&*word));
        Meaning::NotYet { queue_state, reason: text(self.queue_state_reason) }
    }
}

impl<'de> Deserialize<'de> for Head<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadVisitor)
    }
}

/// The names of the telling keys.
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
    #[serde(other)]
    Other,
}

struct HeadVisitor;

impl<'de> Visitor<'de> for HeadVisitor {
    type Value = Head<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut head = Head::default();
        while let Some(key) = map.next_key()? {
            let place = match key {
                Key::Type => &mut head.kind,
                Key::Status => &mut head.status,
                Key::Result => &mut head.result,
                Key::Error => &mut head.error,
                Key::Category => &mut head.category,
                Key::QueueState => &mut head.queue_state,
                Key::QueueStateReason => &mut head.queue_state_reason,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *place = Some(map.next_value()?);
        }
        Ok(head)
    }
}

/// The text of a key, when it is a text.
fn text(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::{Value, json};

    use super::super::testing::{golden, list};
    use super::*;

    fn read(status: u16, body: &str) -> Meaning<&[u8]> {
        PollReply::Answer { status, body: body.as_bytes(), retry_after: None }.read()
    }

    fn not_yet<T>(queue_state: Option<&str>, reason: Option<&str>) -> Meaning<T> {
        Meaning::NotYet { queue_state: queue_state.map(Into::into), reason: reason.map(Into::into) }
    }

    fn done(result: &str) -> Meaning<&[u8]> {
        Meaning::Done(result.as_bytes())
    }

    fn failed<T>(message: &str, category: RequestErrorCategory) -> Meaning<T> {
        Meaning::Failed { message: message.into(), category }
    }

    #[test]
    fn answers_are_read_in_the_order_of_the_protocols_table() {
        use RequestErrorCategory::{Server, Unknown, User};
        for (status, body, meaning) in [
            (200, r#"{"error":"no","category":"user","status":"completed","result":{}}"#, failed("no", User)),
            (200, r#"{"type":"try_again","error":"no"}"#, failed("no", Unknown)),
            (200, r#"{"status":"failed","category":"SERVER"}"#, failed("the server gave no reason", Server)),
            (200, r#"{"status":"failed","message":"oom"}"#, failed("oom", Unknown)),
            (200, r#"{"error":""}"#, failed("the server gave no reason", Unknown)),
            (200, r#"{"error":null,"model_id":"m"}"#, failed("the server gave no reason", Unknown)),
            (200, r#"{"error":{"code":7},"category":3}"#, failed(r#"{"code":7}"#, Unknown)),
            (200, r#"{"type":"try_again","status":"completed","result":{}}"#, not_yet(None, None)),
            (
                200,
                r#"{"type":"try_again","queue_state":"bogus","queue_state_reason":"é"}"#,
                not_yet(Some("bogus"), Some("é")),
            ),
            (200, r#"{"status":"pending"}"#, not_yet(None, None)),
            (200, r#"{"status":"completed","result":{"value":42}}"#, done(r#"{"value":42}"#)),
            (200, r#"{"result": [1] ,"status":"completed"}"#, done("[1]")),
            (200, r#"{"model_id":"m","status":"unloaded"}"#, done(r#"{"model_id":"m","status":"unloaded"}"#)),
            (200, r#"{"status":"completed"}"#, done(r#"{"status":"completed"}"#)),
            (200, r#"{"path":"p","result":1}"#, done(r#"{"path":"p","result":1}"#)),
            (200, "{}", done("{}")),
            (200, " \n", Meaning::Undecodable { why: "the answer is empty".into() }),
            (200, "[1]", Meaning::Undecodable { why: "the answer is not a JSON object".into() }),
            (200, "null", Meaning::Undecodable { why: "the answer is not a JSON object".into() }),
            (408, "", not_yet(None, None)),
            (408, "<html>", not_yet(None, None)),
            (408, r#"{"detail":"still going"}"#, not_yet(None, None)),
            (
                408,
                r#"{"queue_state":"paused_capacity","queue_state_reason":null}"#,
                not_yet(Some("paused_capacity"), None),
            ),
            (408, r#"{"queue_state":3,"error":"x"}"#, not_yet(None, None)),
            (410, r#"{"detail":"gone"}"#, Meaning::Expired { detail: "gone".into() }),
            (410, "", Meaning::Expired { detail: "HTTP status 410 Gone".into() }),
            (429, "slow down", Meaning::RateLimited { retry_after: None }),
            (500, "", Meaning::Transient { status: 500 }),
            (529, "overloaded", Meaning::Transient { status: 529 }),
            (400, r#"{"detail":"bad rank"}"#, Meaning::Fatal { status: 400, detail: "bad rank".into() }),
            (409, "", Meaning::Fatal { status: 409, detail: "HTTP status 409 Conflict".into() }),
            (302, "", Meaning::Fatal { status: 302, detail: "HTTP status 302".into() }),
        ] {
            assert_eq!(read(status, body), meaning, "{status} {body}");
        }
    }

    #[test]
    fn what_is_not_an_answer_has_a_meaning_too() {
        assert_eq!(PollReply::HeaderTimeout.read(), Meaning::Silent);
        assert_eq!(PollReply::ConnectionFailed.read(), Meaning::Disconnected);
        let wait = Some(Duration::from_secs(7));
        let limited = PollReply::Answer { status: 429, body: b"", retry_after: wait }.read();
        assert_eq!(limited, Meaning::RateLimited { retry_after: wait });
    }

    #[test]
    fn half_an_answer_cannot_be_understood() {
        for body in [r#"{"metrics":{"#, r#"{"a":1} x"#, "{bad}"] {
            let Meaning::Undecodable { why } = read(200, body) else { panic!("{body}") };
            assert!(why.starts_with("the answer is not JSON: "), "{why}");
        }
    }

    #[test]
    fn a_result_of_the_wrong_shape_cannot_be_understood() {
        let wrong = read(200, "{}").decode(|_| Err::<(), _>("no logprobs".to_owned()));
        assert_eq!(wrong, Meaning::Undecodable { why: "no logprobs".into() });
        assert_eq!(read(200, "{}").decode(|bytes| Ok(bytes.len())), Meaning::Done(2));
        assert_eq!(read(408, "").decode(|_| Ok(())), not_yet(None, None));
    }

    #[test]
    fn the_failures_of_the_fixture_have_its_messages_and_categories() {
        // Where the category has other letters than the Python client knows, it is understood here.
        let understood = [("User", RequestErrorCategory::User), ("SERVER", RequestErrorCategory::Server)];
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
            let Meaning::Failed { message, category: found } = read(200, &json.to_string()) else { panic!("{json}") };
            let word = json.get("category").and_then(Value::as_str);
            let known = understood.iter().find(|(name, _)| Some(*name) == word).map(|(_, category)| *category == found);
            assert!(known.unwrap_or_else(|| found.as_str() == exception["category"]), "{json}");
            if json["error"] != "" {
                assert!(exception["message"].as_str().unwrap().starts_with(&format!("Request failed: {message} for ")));
            }
        }
    }

    #[test]
    fn keys_below_the_top_mean_nothing_and_depth_does_not_matter() {
        let deep =
            format!(r#"{{"a":{}1{},"b":{{"error":"x","status":"failed"}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(200, &deep), done(&deep));
    }

    quickcheck! {
        fn any_bytes_have_a_meaning(status: u16, body: Vec<u8>) -> bool {
            let _ = PollReply::Answer { status, body: &body, retry_after: None }.read();
            let inside = json!({"status": "completed", "result": String::from_utf8_lossy(&body)}).to_string();
            read(200, &inside) == done(&json!(String::from_utf8_lossy(&body)).to_string())
        }
    }
}

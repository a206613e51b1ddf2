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

fn failing<T, E>(status: u16) -> PollOutcome<T, E> {
    PollOutcome::NotReady(NotReady::Failing { status })
}

fn timed_out<T, E>() -> PollOutcome<T, E> {
    PollOutcome::NotReady(NotReady::TimedOut)
}

fn gone<T, E>(detail: &str) -> PollOutcome<T, E> {
    PollOutcome::Gone { detail: detail.into() }
}

#[test]
fn a_poll_of_a_known_promise_is_taken() {
    let failed = |kind| PollOutcome::<()>::Failed(Error::new(kind, "no"));
    for (outcome, expected) in [
        (PollOutcome::Ready(()), true),
        (gone("expired"), true),
        (pending(Some("active"), None), true),
        (PollOutcome::NotReady(NotReady::Measured { size: 1 }), true),
        (failed(ErrorKind::RequestFailed), true),
        (failed(ErrorKind::Decode), true),
        (failed(ErrorKind::Billing), false),
        (failed(ErrorKind::Status), false),
        (PollOutcome::NotReady(NotReady::Unpaid { wait: Duration::ZERO }), false),
        (PollOutcome::NotReady(NotReady::RateLimited { retry_after: None }), false),
        (PollOutcome::NotReady(NotReady::Failing { status: 503 }), false),
        (PollOutcome::NotReady(NotReady::BadRequest), false),
        (PollOutcome::NotReady(NotReady::Damaged), false),
        (timed_out(), false),
        (PollOutcome::NotReady(NotReady::Silent), false),
        (PollOutcome::NotReady(NotReady::Unreachable), false),
        (PollOutcome::NotReady(NotReady::Shortage), false),
    ] {
        assert_eq!(outcome.is_taken(), expected, "{outcome:?}");
    }
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
        (200, r#"{"error":null,"model_id":"m"}"#, ready(r#"{"error":null,"model_id":"m"}"#)),
        (200, r#"{"error":null,"category":null,"status":"completed","result":{}}"#, ready("{}")),
        (200, r#"{"error":null,"status":"failed","category":"user"}"#, failed("the server gave no reason", User)),
        (200, r#"{"error":null,"type":"try_again"}"#, pending(None, None)),
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
        (408, "", timed_out()),
        (408, "<html>", timed_out()),
        (408, "{}", timed_out()),
        (408, r#"{"queue_state":null}"#, timed_out()),
        (408, r#"{"detail":"Request Timeout"}"#, timed_out()),
        (408, r#"{"detail":"Timeout waiting for result"}"#, pending(None, None)),
        (408, r#"{"status":"pending"}"#, pending(None, None)),
        (408, r#"{"queue_state":"paused_capacity","queue_state_reason":null}"#, pending(Some("paused_capacity"), None)),
        (408, r#"{"queue_state":3,"error":"x"}"#, timed_out()),
        (410, r#"{"detail":"gone"}"#, gone("gone")),
        (410, "", failing(410)),
        (404, r#"{"detail":"there is no such request"}"#, http_status(404, "there is no such request")),
        (404, "<html>nginx</html>", failing(404)),
        (429, "slow down", PollOutcome::NotReady(NotReady::RateLimited { retry_after: None })),
        (500, "", failing(500)),
        (529, "overloaded", failing(529)),
        (400, r#"{"detail":"bad rank"}"#, http_status(400, "bad rank")),
        (409, "", http_status(409, "HTTP status 409 Conflict")),
        (302, "", failing(302)),
    ] {
        assert_eq!(read(status, body), expected, "{status} {body}");
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
fn a_large_response_says_the_same() {
    use RequestErrorCategory::Unknown;
    let padding = "7,".repeat(LARGE / 2);
    let large = |rest: &str| format!(r#"{{"padding":[{padding}7],{rest}}}"#);
    for (rest, expected) in [
        (r#""error":"no""#, failed("no", Unknown)),
        (r#""status":"failed","message":"oom""#, failed("oom", Unknown)),
        (r#""type":"try_again""#, pending(None, None)),
        (r#""st\u0061tus":"pending""#, pending(None, None)),
        (r#""status":"completed","result":{"value":42}"#, ready(r#"{"value":42}"#)),
    ] {
        assert_eq!(read(200, &large(rest)), expected, "{rest}");
    }
    for rest in [r#""type":"sample","sequences":[]"#, r#""metrics":{"status":1,"error":2}"#, r#""error":null"#] {
        assert_eq!(read(200, &large(rest)), ready(&large(rest)), "{rest}");
    }
    let whole = large(r#""metrics":{}"#);
    assert!(matches!(read(200, &whole[..whole.len() - 1]), PollOutcome::Failed(PollFailure::Undecodable { .. })));
    // That is seen when it is decoded.
    let damaged = large(r#""metrics":{"loss":}"#);
    assert_eq!(read(200, &damaged), ready(&damaged));
}

#[test]
fn a_result_of_the_wrong_shape_is_undecodable() {
    let wrong = read(200, "{}").resolve(|_| Err::<(), _>("no logprobs".to_owned()), |failure| failure);
    assert_eq!(wrong, undecodable("no logprobs"));
    assert_eq!(read(200, "{}").resolve(|bytes| Ok(bytes.len()), |failure| failure), PollOutcome::Ready(2));
    assert_eq!(read(202, "").resolve(|_| Ok(()), |failure| failure), pending(None, None));
}

#[test]
fn only_what_is_not_whole_is_damaged() {
    let damaged = PollOutcome::<&[u8], PollFailure>::NotReady(NotReady::Damaged);
    assert_eq!(undecodable::<&[u8]>("why").unless_damaged(|| false), damaged);
    assert_eq!(undecodable::<&[u8]>("why").unless_damaged(|| true), undecodable("why"));
    let outcomes =
        || [ready("{}"), failed("no", RequestErrorCategory::User), http_status(409, ""), gone(""), failing(503)];
    for (outcome, same) in outcomes().into_iter().zip(outcomes()) {
        assert_eq!(outcome.unless_damaged(|| false), same);
    }
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
    let results =
        list(&fixture["results"]).iter().map(|result| &result["exception"]).filter(|exception| !exception.is_null());
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

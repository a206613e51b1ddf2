//! The server's explanation of a failure, as one line for an error message.

use serde_json::{Map, Value};

use super::json_numbers::is_deep;
use crate::error::{self, truncated};

/// The maximum length of a message in bytes. The error keeps more of the response.
const MAX_MESSAGE: usize = 1000;

/// The maximum length of a reason, in bytes: it stands in the middle of a line.
const MAX_REASON: usize = 200;

/// The maximum number of validation errors that are listed.
const MAX_LISTED: usize = 5;

/// The maximum length of plain text that counts as a message rather than a page, in bytes.
const MAX_PLAIN: usize = 300;

/// The message of a response: its `detail` (text, or FastAPI's list of validation errors), `error` or `message`, else a short
/// plain text, else the name of the status.
pub(crate) fn error_message(status: u16, body: &[u8]) -> String {
    json_message(body).or_else(|| plain(body)).unwrap_or_else(|| status_line(status))
}

/// The status and the message of a response in a few words: `503 no GPU free`, else `503 Service Unavailable`.
pub(crate) fn reason(status: u16, body: &[u8]) -> String {
    let text = json_message(body).or_else(|| plain(body)).map(|text| truncated(text.into(), MAX_REASON).into_owned());
    format!("{status}{}", text.map_or_else(|| status_name(status).to_owned(), |text| format!(" {text}")))
}

/// The message in a JSON body, if there is one.
pub(crate) fn json_message(body: &[u8]) -> Option<String> {
    if is_deep(body) {
        return None;
    }
    serde_json::from_slice(body).ok().as_ref().and_then(message)
}

/// How the body of a refusal in the service's own form begins, if it is too long to be kept whole.
const OWN_START: &[u8] = br#"{"detail":"#;

/// Whether a refusal is the service's own: FastAPI's `detail`, in other words than the name of the status, which is what any router
/// says of a path that it does not know.
pub(crate) fn is_services_own(status: u16, body: &[u8]) -> bool {
    matches!(detail(body), Detail::Text(text) if is_more_than_name(status, &text))
}

/// Whether a refusal is that of a gateway, a proxy or a captive portal, and so says nothing about what was asked for.
///
/// No route of the service redirects. 404 and 405 are also what any router says by itself. 410 is not: there, any `detail` is the
/// service's. 401 and 403 may be about the key, whoever checks it, unless nothing is said but the status.
pub(crate) fn is_gateways_refusal(status: u16, body: &[u8]) -> bool {
    let explains = |text: String| is_more_than_name(status, &text);
    match status {
        300..=399 => true,
        404 | 405 => match detail(body) {
            Detail::Text(text) => !explains(text),
            Detail::Unreadable => false,
            Detail::None => true,
        },
        410 => matches!(detail(body), Detail::None),
        401 | 403 => {
            matches!(detail(body), Detail::None) && !json_message(body).or_else(|| plain(body)).is_some_and(explains)
        }
        _ => false,
    }
}

/// FastAPI's `detail`, which no gateway writes.
enum Detail {
    None,
    /// It has no text, or is too deep to be read: no explanation.
    Unreadable,
    /// If the body is cut within it, how it begins.
    Text(String),
}

fn detail(body: &[u8]) -> Detail {
    let begins = body.starts_with(OWN_START);
    if is_deep(body) {
        return if begins { Detail::Unreadable } else { Detail::None };
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(object)) => match object.get("detail") {
            None | Some(Value::Null) => Detail::None,
            Some(detail) => message(detail).map_or(Detail::Unreadable, Detail::Text),
        },
        Err(error) if error.is_eof() && begins => Detail::Text(String::from_utf8_lossy(OWN_START).into()),
        _ => Detail::None,
    }
}

/// Whether a text says more than the name of the status, as in `404 Not Found`.
fn is_more_than_name(status: u16, text: &str) -> bool {
    let name = status_name(status).trim_start();
    !text.eq_ignore_ascii_case(name) && !text.eq_ignore_ascii_case(&format!("{status} {name}"))
}

/// The message of a JSON value: a string, the validation errors of a list, or the well-known keys of an object.
fn message(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => one_line(text),
        Value::Array(errors) => listed(errors),
        Value::Object(object) => match object.get("msg").and_then(message) {
            Some(text) => Some(located(object, text)),
            None => ["detail", "error", "message"].iter().find_map(|key| object.get(*key).and_then(message)),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn listed(errors: &[Value]) -> Option<String> {
    let messages: Vec<String> = errors.iter().filter_map(message).collect();
    let mut line = messages[..messages.len().min(MAX_LISTED)].join("; ");
    if messages.len() > MAX_LISTED {
        line.push_str(&format!("; and {} more", messages.len() - MAX_LISTED));
    }
    one_line(&line)
}

/// FastAPI's validation error with its location, as in `body.prompt.0: field required`.
fn located(object: &Map<String, Value>, text: String) -> String {
    let location: Vec<String> = object.get("loc").and_then(Value::as_array).map_or_else(Vec::new, |steps| {
        steps.iter().map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned)).collect()
    });
    if location.is_empty() { text } else { format!("{}: {text}", location.join(".")) }
}

/// A body of short plain text, as proxies send it. An HTML page says less than the status.
fn plain(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_json = || is_deep(text.as_bytes()) || serde_json::from_str::<Value>(text).is_ok();
    let readable = text.len() <= MAX_PLAIN && !text.starts_with('<') && !is_json();
    readable.then(|| one_line(text)).flatten()
}

/// The text in one line and within the maximum length; `None` if it is blank.
pub(crate) fn one_line(text: &str) -> Option<String> {
    let start = text.trim();
    let end = start.char_indices().nth(MAX_MESSAGE + 1).map_or(start.len(), |(end, _)| end);
    let line = truncated(error::one_line(&start[..end]), MAX_MESSAGE);
    (!line.is_empty()).then(|| line.into_owned())
}

/// The status by number and, if it is known, by name.
fn status_line(status: u16) -> String {
    format!("HTTP status {status}{}", status_name(status))
}

/// A blank and the name of a status that Tinker servers and proxies send (RFC 9110, RFC 6585).
fn status_name(status: u16) -> &'static str {
    match status {
        400 => " Bad Request",
        401 => " Unauthorized",
        402 => " Payment Required",
        403 => " Forbidden",
        404 => " Not Found",
        405 => " Method Not Allowed",
        408 => " Request Timeout",
        409 => " Conflict",
        410 => " Gone",
        411 => " Length Required",
        413 => " Content Too Large",
        415 => " Unsupported Media Type",
        422 => " Unprocessable Content",
        429 => " Too Many Requests",
        431 => " Request Header Fields Too Large",
        500 => " Internal Server Error",
        501 => " Not Implemented",
        502 => " Bad Gateway",
        503 => " Service Unavailable",
        504 => " Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;
    use serde_json::json;

    use super::super::testing::{golden, list};
    use super::*;

    fn of(body: &Value) -> String {
        error_message(422, body.to_string().as_bytes())
    }

    #[test]
    fn the_services_own_refusals_have_details() {
        for (status, body, expected) in [
            (404, r#"{"detail":"no such model"}"#, true),
            (422, r#"{"detail":[{"loc":["body"],"msg":"Field required"}]}"#, true),
            (413, r#"{"detail":"{"detail":[{"loc":["body"],"inp"#, false),
            (413, r#"{"detail":[{"loc":["body"],"inp"#, true),
            (404, r#"{"detail":"Not Found"}"#, false),
            (405, r#"{"detail":"method not allowed"}"#, false),
            (404, r#"{"detail":"Method Not Allowed"}"#, true),
            (451, r#"{"detail":""}"#, false),
            (404, r#"{"detail":null}"#, false),
            (404, r#"{"detail":[]}"#, false),
            (404, r#"{"message":"no Route matched with those values"}"#, false),
            (404, r#"{"error":"Not Found"}"#, false),
            (404, r#"["detail"]"#, false),
            (404, r#"{"message":"no Rou"#, false),
            (404, "<html>nginx</html>", false),
            (404, "", false),
        ] {
            assert_eq!(is_services_own(status, body.as_bytes()), expected, "{status} {body}");
        }
        let deep = format!(r#"{{"detail":{}"no"{}}}"#, "[".repeat(1000), "]".repeat(1000));
        assert!(!is_services_own(404, deep.as_bytes()));
    }

    #[test]
    fn a_gateways_refusal_says_nothing_of_its_own() {
        const PAGE: &str = "<html><h1>nothing here</h1></html>";
        for (status, body, expected) in [
            (302, r#"{"detail":"moved"}"#, true),
            (404, r#"{"detail":"Future not found"}"#, false),
            (404, r#"{"detail":"Not Found"}"#, true),
            (404, r#"{"message":"no Route matched with those values"}"#, true),
            (404, "404 page not found", true),
            (405, r#"{"detail":"Method Not Allowed"}"#, true),
            (410, r#"{"detail":"gone"}"#, false),
            (410, r#"{"detail":"the result has expired"}"#, false),
            (410, "gone", true),
            (410, r#"{"detail":{}}"#, false),
            (404, r#"{"detail":[]}"#, false),
            (404, r#"{"detail":null}"#, true),
            (401, r#"{"detail":"Unauthorized"}"#, false),
            (401, r#"{"message":"Invalid API key"}"#, false),
            (401, "the key has expired", false),
            (403, r#"{"message":"Forbidden"}"#, true),
            (403, "403 Forbidden", true),
            // What other statuses mean is not a matter of who writes them.
            (400, PAGE, false),
            (402, "", false),
            (409, "", false),
            (413, PAGE, false),
            (422, "", false),
        ] {
            assert_eq!(is_gateways_refusal(status, body.as_bytes()), expected, "{status} {body}");
        }
        let deep = format!(r#"{{"detail":{}"no"{}}}"#, "[".repeat(1000), "]".repeat(1000));
        assert!(!is_gateways_refusal(404, deep.as_bytes()) && is_gateways_refusal(404, &deep.as_bytes()[1..]));
        for status in [307, 401, 403, 404, 405, 410] {
            for body in ["", "{}", "[]", PAGE] {
                assert!(is_gateways_refusal(status, body.as_bytes()), "{status} {body}");
            }
        }
    }

    #[test]
    fn the_key_of_each_server_is_found() {
        assert_eq!(of(&json!({"detail": " bad \n rank ", "category": "user"})), "bad   rank");
        assert_eq!(of(&json!({"error": "no such model"})), "no such model");
        assert_eq!(of(&json!({"message": "slow down"})), "slow down");
        assert_eq!(of(&json!({"error": {"message": "quota", "type": "x"}})), "quota");
        assert_eq!(of(&json!({"detail": null, "error": "", "message": "third"})), "third");
        assert_eq!(of(&json!({"detail": "first", "error": "second"})), "first");
    }

    #[test]
    fn validation_errors_are_listed_with_their_locations() {
        let error = |field: &str| json!({"loc": ["body", field, 0], "msg": "Field required", "input": {"x": 1}});
        assert_eq!(
            of(&json!({"detail": [error("prompt"), {"msg": "no location"}, "a text", 7]})),
            "body.prompt.0: Field required; no location; a text"
        );
        let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"].map(error).into();
        assert!(of(&json!({ "detail": many })).ends_with("body.e.0: Field required; and 2 more"));
    }

    #[test]
    fn without_a_message_the_status_is_named() {
        for body in ["", "  ", "{}", "[]", "null", "[1]", r#"{"detail":[]}"#, "<html><body>Bad gateway</body></html>"] {
            assert_eq!(error_message(502, body.as_bytes()), "HTTP status 502 Bad Gateway", "{body}");
        }
        assert_eq!(error_message(599, b"\xff\xfe"), "HTTP status 599");
        assert_eq!(error_message(529, &b"overloaded ".repeat(100)), "HTTP status 529");
    }

    #[test]
    fn a_reason_has_the_status_and_few_words() {
        assert_eq!(reason(503, br#"{"detail": "no GPU free"}"#), "503 no GPU free");
        assert_eq!(reason(502, b"<html></html>"), "502 Bad Gateway");
        assert_eq!(reason(599, b""), "599");
        let long = reason(429, json!({"error": "slow ".repeat(100)}).to_string().as_bytes());
        assert!(long.starts_with("429 slow slow") && long.ends_with('…') && long.len() <= MAX_REASON + 4, "{long}");
    }

    /// Messages of the fixture where 0.4.1 prints the whole body or nothing, and we print the status.
    const STATUS_INSTEAD: [&str; 4] =
        ["Error code: 404", "Error code: 404 - [1]", "Error code: 404 - None", "\u{fffd}\u{fffd}"];

    #[test]
    fn messages_match_the_fixture() {
        use base64::Engine as _;
        for case in list(&golden("pure_retry")["status_error_mapping"]) {
            let status = u16::try_from(case["status"].as_u64().unwrap()).unwrap();
            if let Some(body) = case["body"].as_str() {
                assert_eq!(error_message(status, body.as_bytes()), case["exc_body"]["detail"], "{case}");
                continue;
            }
            let body = base64::engine::general_purpose::STANDARD.decode(case["body_b64"].as_str().unwrap()).unwrap();
            let out = &case["out"];
            let message = out["message"].as_str().unwrap();
            if STATUS_INSTEAD.contains(&message) || out["exc_body"].is_object() {
                assert_eq!(error_message(status, &body), "HTTP status 404 Not Found", "{case}");
            } else {
                assert_eq!(error_message(status, &body), out["exc_body"], "{case}");
            }
        }
    }

    quickcheck! {
        fn any_body_gives_one_short_line(body: Vec<u8>, text: String, repeat: u8) -> bool {
            let long = text.repeat(usize::from(repeat));
            [error_message(500, &body), error_message(500, text.as_bytes()), of(&json!({ "detail": long }))].iter().all(|line| {
                !line.is_empty() && line.len() <= MAX_MESSAGE && !line.chars().any(char::is_control)
            })
        }
    }
}

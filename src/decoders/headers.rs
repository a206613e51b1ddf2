//! Headers of responses.

use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::{of_text, taken_of_service};
use crate::http::{Response, external_url};
use crate::rules::credential::is_invalid_token;
use crate::rules::result_form::is_protobuf;
use crate::rules::resume::{ResumeDecision, StoredProgress, decide};
use crate::rules::retry::RetryAdvice;

/// The names of the headers that are read.
const NAMES: [&str; 9] = [
    "content-type",
    "content-length",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "retry-after-ms",
    "www-authenticate",
    "x-should-retry",
];

/// How long to wait: a number or a date.
pub(super) fn retry_after(bytes: &[u8]) -> bool {
    of_text(bytes, |text| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let advice = |name: &'static str| RetryAdvice::read(|asked| (asked == name).then_some(text), now).retry_after;
        let waits = [advice("retry-after"), advice("retry-after-ms")];
        waits.iter().flatten().for_each(|wait| assert!(!wait.is_zero()));
        waits.iter().any(Option::is_some)
    })
}

/// Where a part of a file belongs.
pub(super) fn content_range(bytes: &[u8]) -> bool {
    of_text(bytes, |text| {
        let stored =
            StoredProgress { bytes: 100, total: Some(200), validator: Some("\"v\"".to_owned()), is_fixed: false };
        let header = |name: &str| (name == "content-range").then_some(text);
        let decisions = [206, 416].map(|status| decide(&stored, status, header));
        for decision in &decisions {
            if let ResumeDecision::Append(next) = decision {
                assert_eq!((next.bytes, next.total), (100, Some(200)));
            }
        }
        decisions.iter().any(|decision| matches!(decision, ResumeDecision::Append(_) | ResumeDecision::Complete))
    })
}

/// Where a download is redirected to.
pub(super) fn location(bytes: &[u8]) -> bool {
    of_text(bytes, |text| {
        let url = external_url("https://tinker.example.com/api/", text);
        if let Some(url) = &url {
            assert!(url[..4].eq_ignore_ascii_case("http"), "{url:?}");
        }
        url.is_some()
    })
}

/// A response with this value for each header that is read, and the error that it stands for.
pub(super) fn response_headers(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return false };
    let all: HeaderMap = NAMES.iter().map(|name| (HeaderName::from_static(name), value.clone())).collect();
    let response = Response::made(200, all, b"<html>");
    is_protobuf(200, response.header("content-type"));
    is_invalid_token(response.header("www-authenticate"));
    decide(&StoredProgress::default(), 200, |name| response.header(name));
    taken_of_service(response.json::<u8>("decode"));
    for status in [307, 402, 429, 503] {
        let failed = Response::made(status, response.headers.clone(), b"<html>");
        taken_of_service::<()>(Err(failed.into_error("decode", SystemTime::UNIX_EPOCH)));
    }
    true
}

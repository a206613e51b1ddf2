//! A response, and the errors it stands for.

use std::time::SystemTime;

use serde::de::{DeserializeOwned, IgnoredAny};
use ureq::http::{HeaderMap, HeaderValue};

use super::transport::Hidden;
use crate::error::{Error, ErrorKind, Result};
use crate::rules::error_message::{error_message, one_line, reason};
use crate::rules::json_numbers;
use crate::rules::retry::{AttemptFailure, RetryAdvice};

/// The maximum number of body bytes that are looked through for secrets, more than an error keeps.
const MAX_SHOWN: usize = 16 * 1024;

/// The maximum number of body bytes in an error message.
const MAX_EXCERPT: usize = 80;

/// A response of any status.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// What errors and the log do not show of it.
    pub(super) hidden: Hidden,
}

impl Response {
    /// A response that a test made.
    #[cfg(feature = "test-util")]
    pub(crate) fn made(status: u16, headers: HeaderMap, body: &[u8]) -> Self {
        Response { status, headers, body: body.to_vec(), hidden: Hidden::default() }
    }

    /// The first value of a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether it is a 400 without any content. No service of this protocol refuses a request so, but a proxy that cannot use
    /// its connection does.
    pub(super) fn is_bare_400(&self) -> bool {
        self.status == 400 && self.body.is_empty() && self.header("content-length") == Some("0")
    }

    pub(crate) fn is_redirect(&self) -> bool {
        (300..400).contains(&self.status)
    }

    /// What the retry rules need to know of a response that means failure.
    pub(crate) fn failure(&self, now: SystemTime) -> AttemptFailure {
        AttemptFailure::Status { status: self.status, advice: RetryAdvice::read(|name| self.header(name), now) }
    }

    /// The error of a success that was cut or replaced on the way: its body is no JSON, or not the whole of it.
    pub(crate) fn damage(&self) -> Option<Error> {
        serde_json::from_slice::<IgnoredAny>(&self.body).err().map(|error| self.unreadable(&error))
    }

    /// Parses the body as a type that holds no float.
    pub(crate) fn json<T: DeserializeOwned>(&self, operation: &'static str) -> Result<T> {
        json_numbers::read_without_floats(&self.body).map_err(|error| self.unreadable(&error).with_operation(operation))
    }

    /// Parses the body; the caller names the operation.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        json_numbers::read(&self.body).map_err(|error| self.unreadable(&error))
    }

    fn unreadable(&self, error: &serde_json::Error) -> Error {
        let what = if self.body.iter().all(u8::is_ascii_whitespace) {
            "the response is empty".to_owned()
        } else if error.is_data() {
            format!("the response does not have the expected shape: {error}")
        } else if let Some(kind) = self.header("content-type").filter(|kind| !kind.contains("json")) {
            format!("the response is not JSON but {kind}")
        } else {
            format!("the response is not valid JSON: {error}")
        };
        self.decode_error(&what)
    }

    /// The error for a 2xx response whose body cannot be decoded.
    pub(crate) fn decode_error(&self, why: &str) -> Error {
        // It may quote a part of the response, of any length and with any characters.
        let why = self.line(why).unwrap_or_default();
        self.describe(Error::new(ErrorKind::Decode, format!("{why} ({})", self.summary())))
            .with_hint("check that the base URL names a Tinker service")
    }

    /// The status and the first bytes of the body.
    pub(super) fn summary(&self) -> String {
        let body = self.start_of_body();
        let start = String::from_utf8_lossy(&body[..body.len().min(MAX_EXCERPT)]);
        match one_line(&start) {
            Some(start) => format!("status {}, starts with {start:?}", self.status),
            None => format!("status {}", self.status),
        }
    }

    /// The status and the server's message, in a few words.
    pub(crate) fn reason(&self) -> String {
        reason(self.status, &self.body)
    }

    /// Masks the secrets that the server repeats. For a response that means failure.
    pub(crate) fn mask(&mut self) {
        self.hidden.mask_in(&mut self.body);
        for value in self.headers.values_mut() {
            let mut bytes = value.as_bytes().to_vec();
            if self.hidden.mask_in(&mut bytes) {
                *value = HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static(""));
            }
        }
    }

    /// A text of the service in one line, for the log.
    pub(crate) fn line(&self, text: &str) -> Option<String> {
        one_line(&self.hidden.mask(text.to_owned()))
    }

    /// The first bytes of the body, masked.
    fn start_of_body(&self) -> Vec<u8> {
        let mut start = self.body[..self.body.len().min(MAX_SHOWN)].to_vec();
        self.hidden.mask_in(&mut start);
        start
    }

    /// The target of a redirect, without its query, which may hold a secret.
    fn redirect_target(&self) -> Option<String> {
        let target = self.header("location").filter(|_| self.is_redirect())?;
        target.split(['?', '#']).next().and_then(|target| self.line(target))
    }

    /// The error that this status stands for.
    pub(crate) fn into_error(self, operation: &'static str, now: SystemTime) -> Error {
        let text = match self.redirect_target() {
            Some(target) => format!("it redirects to {target:?}, which is not followed"),
            None => error_message(self.status, &self.body),
        };
        let kind = if self.status == 402 { ErrorKind::Billing } else { ErrorKind::Status };
        let error = Error::new(kind, format!("the server returned {}: {text}", self.status))
            .with_operation(operation)
            .with_reason(self.reason())
            .with_retry_after(RetryAdvice::read(|name| self.header(name), now).retry_after);
        let error = self.describe(error);
        match self.status {
            300..=399 => error.with_hint("if the service has moved there, set TINKER_BASE_URL or base_url accordingly"),
            400 | 422 => error.with_hint("correct the request, as the message says"),
            401 => error.with_hint(
                "check the API key, from api_key, TINKER_API_KEY, TINKER_CREDENTIAL_CMD or `tinkex auth login`",
            ),
            402 => error.with_hint("check the billing of the account that the API key belongs to"),
            403 => error.with_hint("the API key has no permission for this; check who owns the run or checkpoint"),
            404 => error.with_hint("check the name or id, and that the base URL names a Tinker service"),
            409 => error.with_hint("something with that name or number already exists; choose another name"),
            413 => error.with_hint("send smaller batches"),
            429 => error.with_hint("the service is busy; try again later"),
            500.. => error.with_hint("the service has a problem; try again later"),
            _ => error,
        }
    }

    /// Adds the status, headers and body to an error.
    pub(super) fn describe(&self, error: Error) -> Error {
        // A program may need the query of a redirect.
        let hidden = self.hidden.with_login(self.header("location"));
        let shown = |value: &HeaderValue| Some(hidden.mask(value.to_str().ok()?.to_owned()));
        let headers = self.headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), shown(value)?)));
        let error = error.with_status(self.status).with_body(&self.start_of_body());
        self.hide_in(error).with_headers(headers)
    }

    /// Masks secrets in an error that shows something of this response.
    pub(crate) fn hide_in(&self, error: Error) -> Error {
        let hidden = self.hidden.with_address(self.header("location"));
        error.hiding(|text| hidden.mask(text))
    }
}

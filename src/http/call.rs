//! What is asked of the service in one request, and what it answered.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

use super::flight::Flight;
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::rules::message::{message_of, one_line};
use crate::rules::retry::retry_after;
use crate::types::Query;

/// The most bytes of an answer that an error message shows.
const MAX_EXCERPT: usize = 80;

/// What a request is for. Each purpose has connections of its own, so that none waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Training,
    Sampling,
    Session,
    Futures,
    Telemetry,
}

impl Purpose {
    pub(super) const ALL: [Purpose; 5] =
        [Purpose::Training, Purpose::Sampling, Purpose::Session, Purpose::Futures, Purpose::Telemetry];
}

/// The HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Delete,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// What becomes of an answer that redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// It is followed on the same origin; else it is an error.
    Follow,
    /// It is the answer.
    HandBack,
}

/// When a failed request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Never: the caller has its own rules.
    Never,
    /// As the retry policy says.
    Policy,
    /// As the retry policy says, and then again within the submit window.
    Window,
    /// Within the submit window; a 429 comes back at once, since the sampling gate decides about it.
    Gated,
}

impl Repeat {
    pub(super) fn has_window(self) -> bool {
        matches!(self, Repeat::Window | Repeat::Gated)
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    /// The client's method or the request's name, for errors.
    pub(crate) operation: &'static str,
    pub(crate) purpose: Purpose,
    pub(crate) method: Method,
    /// Below `/api/v1/`, or with a slash in front below the base URL.
    pub(crate) path: Cow<'a, str>,
    /// Besides that of the configuration; a field of the same name overrides.
    pub(crate) query: Option<&'a Query>,
    /// JSON, unless a header says otherwise.
    pub(crate) body: &'a [u8],
    pub(crate) headers: Vec<(&'static str, Cow<'a, str>)>,
    /// Headers that override all others; without a value, the header is not sent.
    pub(crate) overrides: &'a [(HeaderName, Option<HeaderValue>)],
    pub(crate) redirects: Redirects,
    /// The key of a request that is sent by several calls of [`Http::send`](super::Http::send); each makes its own without.
    pub(crate) idempotency_key: Option<&'a str>,
    /// When failures are repeated.
    pub(crate) repeat: Repeat,
    /// How often the retry policy repeats it, when it is not the configuration that says so.
    pub(crate) max_retries: Option<u32>,
    /// How long may pass without progress.
    pub(crate) idle: Duration,
    pub(crate) deadline: Option<Deadline>,
    /// To cut the request off, and to learn what became of it.
    pub(crate) flight: Arc<Flight>,
}

impl<'a> Call<'a> {
    pub(crate) fn get(
        operation: &'static str,
        purpose: Purpose,
        path: impl Into<Cow<'a, str>>,
        idle: Duration,
    ) -> Self {
        Call {
            operation,
            purpose,
            method: Method::Get,
            path: path.into(),
            query: None,
            body: &[],
            headers: Vec::new(),
            overrides: &[],
            redirects: Redirects::Follow,
            idempotency_key: None,
            repeat: Repeat::Policy,
            max_retries: None,
            idle,
            deadline: None,
            flight: Arc::default(),
        }
    }

    pub(crate) fn post(
        operation: &'static str,
        purpose: Purpose,
        path: impl Into<Cow<'a, str>>,
        idle: Duration,
        body: &'a [u8],
    ) -> Self {
        Call { method: Method::Post, body, ..Call::get(operation, purpose, path, idle) }
    }
}

/// An answer, of any status.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(crate) fn is_redirect(&self) -> bool {
        (300..400).contains(&self.status)
    }

    /// Parses the body.
    pub(crate) fn json<T: DeserializeOwned>(&self, operation: &'static str) -> Result<T> {
        self.parse().map_err(|error| error.with_operation(operation))
    }

    /// The same, for a caller that names the operation.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let what = if self.body.iter().all(u8::is_ascii_whitespace) {
                "the answer is empty".to_owned()
            } else if error.is_data() {
                format!("the answer does not have the expected shape: {error}")
            } else if let Some(kind) = self.header("content-type").filter(|kind| !kind.contains("json")) {
                format!("the answer is not JSON but {kind}")
            } else {
                format!("the answer is not valid JSON: {error}")
            };
            self.not_understood(&what)
        })
    }

    /// The error of an answer with a status of success and a body that makes no sense.
    pub(crate) fn not_understood(&self, why: &str) -> Error {
        self.describe(Error::new(ErrorKind::Decode, format!("{why} ({})", self.summary())))
            .with_hint("check that the base URL names a Tinker service")
    }

    /// The status and how the body begins.
    pub(super) fn summary(&self) -> String {
        let start = String::from_utf8_lossy(&self.body[..self.body.len().min(MAX_EXCERPT)]);
        match one_line(&start) {
            Some(start) => format!("status {}, it begins with {start:?}", self.status),
            None => format!("status {}", self.status),
        }
    }

    /// Where a redirect points, without its query, which may hold a secret.
    fn redirects_to(&self) -> Option<&str> {
        let target = self.header("location").filter(|_| self.is_redirect())?;
        target.split(['?', '#']).next()
    }

    /// The error that this answer's status stands for.
    pub(crate) fn into_error(self, operation: &'static str, now: std::time::SystemTime) -> Error {
        let text = match self.redirects_to() {
            Some(target) => format!("it redirects to {target:?}, which is not followed"),
            None => message_of(self.status, &self.body),
        };
        let error = Error::new(ErrorKind::Status, format!("the server answered {}: {text}", self.status))
            .with_operation(operation)
            .with_retry_after(retry_after(|name| self.header(name), now));
        let error = self.describe(error);
        match self.status {
            300..=399 => error.with_hint("if the service has moved there, set TINKER_BASE_URL or base_url accordingly"),
            400 | 422 => error.with_hint("the request itself must change, as the message says"),
            401 => error.with_hint("check TINKER_API_KEY or api_key"),
            403 => error.with_hint("this key may not do that; check whose run or checkpoint it is"),
            404 => error.with_hint("check the name or id, and that the base URL names a Tinker service"),
            409 => error.with_hint("something of that name or number is there already; choose another name"),
            413 => error.with_hint("send smaller batches"),
            429 => error.with_hint("the service is busy; try again later"),
            500.. => error.with_hint("the service has a problem; try again later"),
            _ => error,
        }
    }

    pub(super) fn describe(&self, error: Error) -> Error {
        let headers = self
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
        error.with_status(self.status).with_body(&self.body).with_headers(headers)
    }
}

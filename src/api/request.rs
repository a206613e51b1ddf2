//! A request and its options.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::request_options::Options;
use super::{Api, Path, Response};
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::http::{self, Limits, Method, Purpose, Redirects, RetryMode, is_url, to_json};
use crate::types::QueryValue;

/// One request. Made by [`Api::get`], [`Api::post`] and [`Api::delete`], sent by [`send`](Request::send).
///
/// # Examples
///
/// ```no_run
/// # fn f(api: tinkex::api::Api) -> tinkex::Result<()> {
/// use serde_json::json;
///
/// let response = api
///     .post("/api/v1/weights_info")
///     .json(&json!({"tinker_path": "tinker://run/weights/a"}))
///     .header("x-trace", "1")
///     .idempotency_key("weights-info-1")
///     .send()?;
/// println!("{} after {:?}: {}", response.status(), response.elapsed(), response.text()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a request does nothing until `send` is called"]
pub struct Request {
    api: Api,
    options: Options,
    method: Method,
    path: Path,
    body: Vec<u8>,
    idempotency_key: Option<String>,
}

impl Request {
    pub(super) fn new(api: &Api, method: Method, path: Path) -> Self {
        let (api, options) = (api.clone(), api.options.clone());
        Request { api, options, method, path, body: Vec::new(), idempotency_key: None }
    }

    /// Sets the body to this value as JSON. `serde_json` writes floats that are not finite as `null`.
    pub fn json(mut self, body: &(impl Serialize + ?Sized)) -> Self {
        match to_json("", body) {
            Ok(body) => self.body = body,
            Err(error) => self.options.invalid = self.options.invalid.or(Some(error)),
        }
        self
    }

    /// Sets the body to these bytes. Their type is JSON unless the header `content-type` says otherwise.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a header of this request. It overrides the configuration's and the library's own header of that name. Its value
    /// is never logged, except for headers that describe the request itself, such as `accept`, `content-type`, `host` and
    /// `user-agent`.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.options.header(name.as_ref(), Some(value.as_ref()));
        self
    }

    /// Removes a header that the configuration or the library would send.
    pub fn without_header(mut self, name: impl AsRef<str>) -> Self {
        self.options.header(name.as_ref(), None);
        self
    }

    /// Sets a query parameter. It overrides the configuration's of that name.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<QueryValue>) -> Self {
        self.options.query(name.into(), value.into());
        self
    }

    /// The maximum number of retries. Defaults to [`Config::max_retries`](crate::Config::max_retries).
    pub fn max_retries(mut self, max_retries: u32) -> Self {
        self.options.max_retries = Some(max_retries);
        self
    }

    /// The maximum time without a byte of progress. Defaults to
    /// [`Config::timeout_idle`](crate::Config::timeout_idle).
    pub fn timeout_idle(mut self, timeout: Duration) -> Self {
        self.options.timeout_idle = timeout;
        self
    }

    /// The maximum time for the whole call, including retries; `None` for no limit. Defaults to
    /// [`Config::timeout_operation`](crate::Config::timeout_operation), or to that of the service client.
    pub fn timeout_operation(mut self, timeout: Option<Duration>) -> Self {
        self.options.timeout_operation = timeout;
        self
    }

    /// The key by which the service recognizes the attempts of one request, for programs with their own retries. Defaults to a
    /// random key. A GET has none.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Whether to follow redirects within the same origin; any other redirect is then an error. Defaults to `true`. With
    /// `false`, a redirect is returned like a success, with its header `location`.
    pub fn follow_redirects(mut self, follow: bool) -> Self {
        self.options.redirects = if follow { Redirects::Follow } else { Redirects::Return };
        self
    }

    /// Sends the request, with retries, until the service responds with success (2xx). Blocks.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) before anything is sent, for a path with a host or an empty
    /// [`segment`](Path::segment), a header that HTTP does not allow, a GET with a body or a value that JSON cannot hold;
    /// [`Status`](crate::ErrorKind::Status) for any response but success, or any other error of a request.
    pub fn send(self) -> Result<Response> {
        let operation = format!("{} {}", self.method.as_str(), self.path_without_query());
        self.send_as(operation.clone()).map_err(|error| error.replace_operation(operation))
    }

    fn send_as(self, operation: String) -> Result<Response> {
        let path = self.validated_path()?;
        let idempotency_key = self.idempotency_key.as_deref().map(validated_key).transpose()?;
        let (http, (idle, timeout)) = (&self.api.http, self.options.timeouts());
        let clock = http.config().clock();
        let started = clock.now();
        let limits =
            Limits { idle, deadline: Deadline::of_operation(clock, timeout), ..http.limits("api", Purpose::Session) };
        let request = http::Request {
            method: self.method,
            query: Some(&self.options.query),
            body: &self.body,
            overrides: &self.options.headers,
            redirects: self.options.redirects,
            idempotency_key,
            retry: RetryMode::Policy { max_retries: self.options.max_retries },
            ..http::Request::get(path)
        };
        let response = http.send(&request, &limits)?;
        let (elapsed, attempts) = (clock.now() - started, limits.handle.attempts());
        Ok(Response { response, operation, elapsed, attempts })
    }

    /// The query may hold a secret.
    fn path_without_query(&self) -> &str {
        self.path.as_str().split(['?', '#']).next().unwrap_or_default()
    }

    fn validated_path(&self) -> Result<Cow<'_, str>> {
        if let Some(invalid) = &self.options.invalid {
            return Err(invalid.clone());
        }
        let path = self.path.as_str();
        if is_url(path) {
            return Err(Error::invalid_input("the path names a host")
                .with_hint("pass a path only: the API key is only sent to the host of the base URL"));
        }
        if self.path.has_empty_segment() {
            return Err(Error::invalid_input("an id in the path is empty"));
        }
        if self.method == Method::Get && !self.body.is_empty() {
            return Err(
                Error::invalid_input("a GET request cannot have a body").with_hint("use post, or query parameters")
            );
        }
        Ok(if path.starts_with('/') { path.into() } else { format!("/{path}").into() })
    }
}

fn validated_key(key: &str) -> Result<&str> {
    let is_text = !key.is_empty() && key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    is_text.then_some(key).ok_or_else(|| Error::invalid_input("an idempotency key must be ASCII text, and not empty"))
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("path", &self.path_without_query())
            .field("body_length", &self.body.len())
            .finish_non_exhaustive()
    }
}

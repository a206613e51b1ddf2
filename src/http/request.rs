//! What to send, and how long it may take.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::{HeaderName, HeaderValue};

use super::cancel::RequestHandle;
use super::waits::Wait;
use crate::clock::Deadline;
use crate::config::Config;
use crate::error::{Error, Limit};
use crate::observer::WaitKind;
use crate::rules::billing::{BILLING_WAIT, Billed};
use crate::rules::effect::is_of_gateway;
use crate::rules::retry::{RequestRetry, RetryPolicy, SubmitWindow};
use crate::rules::wait_log::{Doing, WaitEnd};
use crate::rules::wire_format::may_be_for_format;
use crate::types::Query;

/// The content type of JSON.
pub(crate) const JSON: &str = "application/json";

/// What a request is for. Each purpose has its own connections, so that none waits behind another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Training,
    Sampling,
    Session,
    Futures,
    Telemetry,
}

impl Purpose {
    /// What a submission for this is to the bill.
    pub(super) fn billed(self) -> Billed {
        if self == Purpose::Sampling { Billed::Sample } else { Billed::Submission }
    }

    /// What a request for this waits for. Polls have a rule of their own.
    pub(super) fn waits_for(self) -> Option<WaitKind> {
        match self {
            Purpose::Training => Some(WaitKind::Submission),
            Purpose::Sampling => Some(WaitKind::Sample),
            Purpose::Session => Some(WaitKind::Request),
            Purpose::Futures | Purpose::Telemetry => None,
        }
    }

    pub(super) const ALL: [Purpose; 5] =
        [Purpose::Training, Purpose::Sampling, Purpose::Session, Purpose::Futures, Purpose::Telemetry];
}

/// The HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }
}

/// What to do with a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// Follow it on the same origin; otherwise it is an error.
    Follow,
    /// Return it like a success.
    Return,
}

/// What a request authenticates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestCredential {
    /// What the service wants: the key, or the token that it gives in exchange.
    Current,
    /// The key itself.
    Key,
}

/// When a failed request is retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryMode {
    /// Never: the caller has its own rules.
    Never,
    /// By the retry policy. The maximum number of retries is the configuration's if it is `None`.
    Policy { max_retries: Option<u32> },
    /// By the retry policy, in rounds within the submit window.
    Submit,
    /// The same, for a request that the server has failed to run before: another failure of the server itself is returned at once.
    SubmitAgain,
    /// The same, for a pass whose format is tried: whatever may be for its format is returned at once.
    SubmitTrial,
    /// Within the submit window. A 429 is returned at once, since the sampling limiter decides about it. After a 402 it waits
    /// this long.
    SubmitSample { billing_wait: Duration },
}

impl RetryMode {
    pub(super) fn has_window(self) -> bool {
        match self {
            RetryMode::Never | RetryMode::Policy { .. } => false,
            RetryMode::Submit | RetryMode::SubmitAgain | RetryMode::SubmitTrial | RetryMode::SubmitSample { .. } => {
                true
            }
        }
    }

    /// The wait before a submission is sent again that the service refuses because of the account's billing. Other requests
    /// fail at once: nothing is lost with them.
    pub(super) fn billing_wait(self) -> Option<Duration> {
        match self {
            RetryMode::Never | RetryMode::Policy { .. } => None,
            RetryMode::Submit | RetryMode::SubmitAgain | RetryMode::SubmitTrial => Some(BILLING_WAIT),
            RetryMode::SubmitSample { billing_wait } => Some(billing_wait),
        }
    }

    /// The limits of a request that starts now: the submit window also ends an attempt in progress.
    pub(super) fn limits(self, config: &Config, started: Instant, limits: &Limits) -> Limits {
        let window = Deadline { at: started + config.timeout_submit(), limit: Limit::Submit };
        let deadline = if self.has_window() { Some(window.earlier(limits.deadline)) } else { limits.deadline };
        Limits { deadline, ..limits.clone() }
    }

    /// What ends the retries, if it is not a deadline.
    pub(super) fn end(self, config: &Config) -> WaitEnd {
        match self {
            RetryMode::Policy { max_retries } => {
                WaitEnd::Tries(max_retries.unwrap_or_else(|| config.max_retries()).saturating_add(1), "max_retries")
            }
            _ => WaitEnd::Never,
        }
    }

    /// The decisions for a request that starts now.
    pub(super) fn policy(self, config: &Config, started: Instant) -> RequestRetry {
        let max_retries = match self {
            RetryMode::Never | RetryMode::SubmitSample { .. } => 0,
            RetryMode::Policy { max_retries } => max_retries.unwrap_or_else(|| config.max_retries()),
            RetryMode::Submit | RetryMode::SubmitAgain | RetryMode::SubmitTrial => config.max_retries(),
        };
        let policy = RetryPolicy { max_retries, ..config.retry_policy() };
        let window = self.has_window().then(|| SubmitWindow::new(started, config.timeout_submit()));
        let retry = RequestRetry::new(policy, window);
        match self {
            RetryMode::SubmitSample { .. } => retry.returning(|status| status == Some(429)),
            RetryMode::SubmitAgain => {
                retry.returning(|status| status.is_some_and(|status| status >= 500 && !is_of_gateway(status)))
            }
            RetryMode::SubmitTrial => retry.returning(may_be_for_format),
            _ => retry,
        }
    }
}

/// One request to the service.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// It only reads, whatever its method.
    pub(crate) reads_only: bool,
    /// Below `/api/v1/`; with a leading slash, below the base URL.
    pub(crate) path: Cow<'a, str>,
    /// In addition to the configuration's; a field of the same name overrides.
    pub(crate) query: Option<&'a Query>,
    pub(crate) body: &'a [u8],
    /// The type of the body, unless a header says otherwise.
    pub(crate) content_type: &'static str,
    /// How the body is compressed, if it is.
    pub(crate) content_encoding: Option<&'static str>,
    pub(crate) headers: Vec<(&'static str, Cow<'a, str>)>,
    /// Headers that override all others; one without a value is not sent.
    pub(crate) overrides: &'a [(HeaderName, Option<HeaderValue>)],
    pub(crate) redirects: Redirects,
    /// The key of a request that is sent by several calls of [`Http::send`](super::Http::send) or
    /// [`send_once`](super::Http::send_once). Without one, each call makes its own.
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) retry: RetryMode,
    pub(crate) credential: RequestCredential,
    /// Whether the response gives a secret: a token, or signed addresses.
    pub(crate) gives_secret: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: impl Into<Cow<'a, str>>) -> Self {
        Request {
            method: Method::Get,
            reads_only: false,
            path: path.into(),
            query: None,
            body: &[],
            content_type: JSON,
            content_encoding: None,
            headers: Vec::new(),
            overrides: &[],
            redirects: Redirects::Follow,
            idempotency_key: None,
            retry: RetryMode::Policy { max_retries: None },
            credential: RequestCredential::Current,
            gives_secret: false,
        }
    }

    pub(crate) fn post(path: impl Into<Cow<'a, str>>, body: &'a [u8]) -> Self {
        Request { method: Method::Post, body, ..Request::get(path) }
    }

    /// A POST that only reads.
    pub(crate) fn reading(path: impl Into<Cow<'a, str>>, body: &'a [u8]) -> Self {
        Request { reads_only: true, ..Request::post(path, body) }
    }

    /// Whether it changes nothing on the server.
    pub(super) fn is_safe(&self) -> bool {
        self.reads_only || self.method == Method::Get
    }
}

/// How long a request may take, which connections it uses, and the handle to cancel it.
#[derive(Clone)]
pub(crate) struct Limits {
    /// The client's method or the request's name, for errors.
    pub(crate) operation: &'static str,
    pub(crate) purpose: Purpose,
    /// The maximum time without a byte of progress.
    pub(crate) idle: Duration,
    /// The maximum time until the head of the response is complete, however it arrives.
    pub(crate) head: Option<Duration>,
    /// The end of everything, including retries.
    pub(crate) deadline: Option<Deadline>,
    pub(crate) handle: Arc<RequestHandle>,
    /// What it waits for; `None` if its waits are not worth a word, or are reported by others.
    pub(crate) waits_for: Option<WaitKind>,
    /// The wait that is under way.
    pub(crate) wait: Option<Arc<Wait>>,
}

impl Limits {
    /// Runs something that may block, and is then the reason why the request waits.
    pub(crate) fn during<T>(&self, doing: Doing, run: impl FnOnce() -> T) -> T {
        match &self.wait {
            Some(wait) => wait.during(doing, run),
            None => run(),
        }
    }

    /// What ends a wait.
    pub(super) fn end(&self) -> WaitEnd {
        self.deadline.map_or(WaitEnd::Never, |deadline| WaitEnd::At(deadline.at, deadline.limit.setting()))
    }

    /// The error when this limit ends the request.
    pub(super) fn timed_out(&self, limit: Limit) -> Error {
        Error::timeout(limit).with_operation(self.operation)
    }
}

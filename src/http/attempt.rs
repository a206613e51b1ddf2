//! One attempt of a request: its first URL, its round trips, and what their outcome means.

use std::io::Read;
use std::time::SystemTime;

use ureq::Timeout;

use super::Http;
use super::cancel::{RequestHandle, cancelled};
use super::credentials::{NotObtained, SentCredential};
use super::request::{Limits, Method, Purpose, Redirects, Request};
use super::response::Response;
use super::transport::{Body, ConnectError, CurrentRequest, Hidden, SecretLines};
use super::url::Target;
use crate::error::{ConnectionFault, Error, ErrorKind, Limit, Outlook, Result};
use crate::rules::connection_failure::ConnectionDiagnosis;
use crate::rules::retry::AttemptFailure;

/// How many pooled connections in a row may turn out to be closed by the server before that counts as a failure.
pub(super) const MAX_STALE_CONNECTIONS: usize = 3;

/// The maximum number of bytes that a response gets before they have come: more than results usually have.
const MAX_RESERVED: u64 = 64 << 20;

/// The maximum number of redirects in a row.
pub(super) const MAX_REDIRECTS: usize = 10;

/// What all round trips of one attempt have in common.
pub(super) struct Attempt<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) limits: &'a Limits,
    idempotency_key: &'a str,
    /// From 0.
    number: u32,
}

impl<'a> Attempt<'a> {
    /// The next attempt of a request.
    pub(super) fn start(request: &'a Request<'a>, limits: &'a Limits, idempotency_key: &'a str) -> Self {
        Attempt { request, limits, idempotency_key, number: limits.handle.start_attempt() }
    }
}

/// An attempt without success.
pub(super) enum Failed {
    /// The server returned a status that means failure.
    HttpStatus(Box<Response>),
    /// No connection, or it was lost.
    Connection(Error),
    /// An idle timeout.
    Timeout(Error),
    /// There is no credential to send.
    NoCredential(NotObtained),
    /// The response cannot be used, and another one would be the same.
    Unusable(Error),
    /// The response to a submission is damaged: the same one, sent again, gets another.
    Damaged(Error),
    /// The client was closed, the request was cancelled or its deadline has passed: no further attempt is possible.
    Final(Error),
}

impl From<NotObtained> for Failed {
    fn from(failed: NotObtained) -> Self {
        Failed::NoCredential(failed)
    }
}

impl Failed {
    /// A failure while the body of this response was read. A status that means failure counts even if its body was cut off.
    fn after_head(self, response: Response) -> Self {
        match self {
            Failed::Final(_) | Failed::HttpStatus(_) | Failed::NoCredential(_) | Failed::Damaged(_) => self,
            _ if !response.is_success() => Failed::HttpStatus(Box::new(response)),
            Failed::Connection(error) => Failed::Connection(response.describe(error.with_detail(response.summary()))),
            Failed::Timeout(error) => Failed::Timeout(response.describe(error.with_detail(response.summary()))),
            Failed::Unusable(error) => Failed::Unusable(response.describe(error.with_detail(response.summary()))),
        }
    }

    pub(super) fn into_error(self, operation: &'static str, now: SystemTime) -> Error {
        match self {
            Failed::HttpStatus(response) => response.into_error(operation, now),
            Failed::NoCredential(failed) => failed.error.replace_operation(operation),
            Failed::Connection(error)
            | Failed::Timeout(error)
            | Failed::Unusable(error)
            | Failed::Damaged(error)
            | Failed::Final(error) => error.with_operation(operation),
        }
    }

    /// What the retry rules need to know; `None` if there is nothing to decide.
    pub(super) fn failure(&self, now: SystemTime) -> Option<AttemptFailure> {
        match self {
            Failed::HttpStatus(response) => Some(response.failure(now)),
            Failed::NoCredential(failed) => failed.failure,
            Failed::Connection(error) => AttemptFailure::of_connection(error),
            Failed::Timeout(_) => Some(AttemptFailure::Timeout),
            Failed::Damaged(_) => Some(AttemptFailure::Damaged),
            Failed::Unusable(_) | Failed::Final(_) => None,
        }
    }

    /// The status of the response, if one came that can be read.
    fn status(&self) -> Option<u16> {
        match self {
            Failed::HttpStatus(response) => Some(response.status),
            _ => None,
        }
    }
}

impl Http {
    /// The first URL of a request.
    pub(super) fn first_target(&self, request: &Request<'_>, limits: &Limits) -> Result<Target> {
        let query = match request.query {
            Some(query) => &*query.over(self.config.query()).to_string(),
            None => &*self.query,
        };
        let path = &*request.path;
        let uri = match path.starts_with('/') {
            true => self.base_url.join(path, query),
            false => self.base_url.join(&["api/v1/", path].concat(), query),
        };
        let invalid = || Error::invalid_input(format!("{path:?} is not a path below the base URL"));
        let uri = uri.ok_or_else(|| invalid().with_operation(limits.operation))?;
        Ok(Target { method: request.method, uri })
    }

    /// Sends the request to this URL over one connection, and reads the whole response.
    pub(super) fn round_trip(
        &self,
        attempt: &Attempt<'_>,
        target: &Target,
        credential: &SentCredential,
    ) -> Result<Response, Failed> {
        let Attempt { request, limits, .. } = *attempt;
        let left = self.time_left(limits).map_err(Failed::Final)?;
        let (head, secrets) = self.head(attempt, target, credential);
        let agent = self.agents.of(limits.purpose);
        let hidden = Hidden::new(secrets.clone(), self.credentials(credential));
        let current = CurrentRequest::set(&limits.handle, secrets);
        current.veil(&hidden, if request.gives_secret { Body::GivesSecret } else { Body::Ordinary });
        let outcome = self.config.clock().outside(|| {
            let head = agent
                .configure_request(head)
                .timeout_global(left)
                .timeout_per_write(Some(limits.idle))
                .timeout_per_read(Some(limits.idle))
                .timeout_recv_response(limits.head)
                .build();
            let response = match target.method {
                Method::Get => agent.run(head),
                Method::Delete if request.body.is_empty() => agent.run(head),
                Method::Post | Method::Put | Method::Delete => agent.run(head.map(|()| request.body)),
            };
            let (head, body) = response?.into_parts();
            let mut response =
                Response { status: head.status.as_u16(), headers: head.headers, body: Vec::new(), hidden };
            // At once, and no more than that, where the size is known. If there is no memory, reading says so.
            let length = body.content_length().unwrap_or(0).min(self.config.max_response_bytes()).min(MAX_RESERVED);
            response.body.try_reserve_exact(length as usize).ok();
            let mut body = body.into_with_config().limit(self.config.max_response_bytes()).reader();
            let end = body.read_to_end(&mut response.body).map_err(ureq::Error::from);
            current.lift(&mut response.headers, &mut response.body);
            if !response.is_success() {
                response.mask();
            }
            Ok((response, end))
        });
        drop(current);
        if let Ok((response, _)) = &outcome {
            self.reached.insert(self.config.base_url());
            self.deprecations.note(limits.operation, response);
            if !response.is_bare_400() {
                limits.handle.mark_status(response.status);
            }
        }
        let failed = |error| self.failed(error, limits, self.config.base_url());
        let failed = match outcome {
            Ok((response, Ok(_))) if response.is_success() => {
                if limits.purpose != Purpose::Futures {
                    self.successes.note();
                }
                return Ok(response);
            }
            Ok((response, Ok(_))) if response.is_redirect() && request.redirects == Redirects::Return => {
                return Ok(response);
            }
            Ok((response, Ok(_))) if response.is_bare_400() => {
                limits.handle.shut_down_connection();
                let error = Error::new(ErrorKind::Connect, "the response is an empty 400, as proxies send it");
                Failed::Connection(response.describe(error).with_hint("check the proxy, and whether the service runs"))
            }
            Ok((response, Ok(_))) => Failed::HttpStatus(Box::new(response)),
            Ok((mut response, Err(error))) => {
                if request.gives_secret && (response.is_success() || response.is_redirect()) {
                    // The part that came may have the secret, which nothing else knows yet.
                    response.body.clear();
                }
                failed(error).after_head(response)
            }
            Err(error) => failed(error),
        };
        if !request.is_safe() {
            limits.handle.mark_failed(failed.status());
        }
        Err(failed)
    }

    /// Everything but the body, with masked secrets, and the secrets for the connection to put in.
    fn head(
        &self,
        attempt: &Attempt<'_>,
        target: &Target,
        credential: &SentCredential,
    ) -> (ureq::http::Request<()>, SecretLines) {
        let request = attempt.request;
        let (number, idle) = (attempt.number.to_string(), attempt.limits.idle.as_secs_f64().to_string());
        let mut own = vec![("x-stainless-retry-count", &*number), ("x-stainless-read-timeout", &*idle)];
        if target.method != Method::Get {
            own.extend([("content-type", request.content_type), ("x-idempotency-key", attempt.idempotency_key)]);
            own.extend(request.content_encoding.map(|encoding| ("content-encoding", encoding)));
        }
        if request.gives_secret || CurrentRequest::are_bytes_logged() {
            // What hides secrets from ureq's log sees the bytes as they come.
            own.push(("accept-encoding", "identity"));
        }
        own.extend(request.headers.iter().map(|(name, value)| (*name, &**value)));
        let (headers, secrets) = self.headers.with(own, credential.headers(), request.overrides);
        let mut head = ureq::http::Request::new(());
        *head.method_mut() = match target.method {
            Method::Get => ureq::http::Method::GET,
            Method::Post => ureq::http::Method::POST,
            Method::Put => ureq::http::Method::PUT,
            Method::Delete => ureq::http::Method::DELETE,
        };
        *head.uri_mut() = target.uri.clone();
        *head.headers_mut() = headers;
        (head, secrets)
    }

    /// What an error of ureq means for a request to this server.
    pub(super) fn failed(&self, error: ureq::Error, limits: &Limits, server: &str) -> Failed {
        let handle = &limits.handle;
        let started = handle.has_response_started();
        let (diagnosis, error) = match ConnectError::from_ureq(error) {
            Ok(error) => (Some(error.diagnosis()), error.into_inner()),
            Err(error) => (None, error),
        };
        // A setting that only this connection needs.
        let error = match error {
            ureq::Error::Other(other) => match other.downcast::<Error>() {
                Ok(own) => return Failed::Final(*own),
                Err(other) => ureq::Error::Other(other),
            },
            error => error,
        };
        let limit = match &error {
            // Closing and cancelling shut the connection down; the error that ureq sees is only a consequence.
            _ if self.is_closed_for(limits.purpose) => return Failed::Final(Error::closed()),
            _ if handle.is_cancelled() => return Failed::Final(cancelled()),
            ureq::Error::Timeout(Timeout::Global) => match limits.deadline {
                Some(deadline) => return Failed::Final(limits.timed_out(deadline.limit)),
                None => Limit::Operation,
            },
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => Limit::Connect,
            ureq::Error::Timeout(Timeout::PerWrite | Timeout::SendRequest | Timeout::SendBody) => Limit::Write,
            ureq::Error::Timeout(Timeout::RecvResponse) => Limit::Wait,
            ureq::Error::Timeout(_) if !started => Limit::Wait,
            ureq::Error::Timeout(_) => Limit::Read,
            ureq::Error::BodyExceedsLimit(limit) => {
                let error = Error::new(ErrorKind::Decode, format!("the response is larger than {limit} bytes"));
                return Failed::Unusable(error.with_hint("raise max_response_bytes"));
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) if diagnosis.is_none() => {
                let message = "the response is not HTTP/1.1, or damaged";
                let error = Error::new(ErrorKind::Connect, message).with_source(error);
                let outlook = self.outlook(server, Outlook::OneMoreTry);
                let error = error.with_connection_fault(ConnectionFault::Protocol, outlook);
                return Failed::Connection(error.with_hint("check the base URL and the proxy"));
            }
            _ => return Failed::Connection(self.no_connection(diagnosis, error, handle, server)),
        };
        Failed::Timeout(match diagnosis {
            Some(ConnectionDiagnosis { fault, words, hint, .. }) => {
                let message = format!("cannot connect to {server}: {words} ({})", limit.setting());
                let timeout = Error::new(ErrorKind::Timeout(limit), message).with_source(error);
                timeout.with_connection_fault(fault, Outlook::Temporary).with_hint(hint)
            }
            None => Error::timeout(limit).with_source(error),
        })
    }

    /// The error of a connection that could not be made, or was lost.
    fn no_connection(
        &self,
        diagnosis: Option<ConnectionDiagnosis>,
        error: ureq::Error,
        handle: &RequestHandle,
        server: &str,
    ) -> Error {
        let Some(ConnectionDiagnosis { fault, outlook, words, hint }) = diagnosis else {
            let what = match (handle.was_written_now(), handle.has_response_started()) {
                (false, _) => format!("cannot connect to {server}"),
                (true, false) => "the connection was lost before the response started".to_owned(),
                (true, true) => "the connection was lost in the middle of the response".to_owned(),
            };
            let error = Error::new(ErrorKind::Connect, what).with_source(error);
            return error.with_hint("check the base URL, the network and the proxy");
        };
        let message = format!("cannot connect to {server}: {words}");
        // The words say all that the source would add.
        let error = Error::new(ErrorKind::Connect, message.clone()).with_reason(message).with_source(error);
        error.with_connection_fault(fault, self.outlook(server, outlook)).with_hint(hint)
    }

    /// Once a server has responded, faults that usually stay may pass: they come from the network in between.
    fn outlook(&self, server: &str, outlook: Outlook) -> Outlook {
        if outlook != Outlook::Shortage && self.reached.contains(server) { Outlook::Temporary } else { outlook }
    }
}

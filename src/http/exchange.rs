//! One attempt of a request: its exchanges with the server, and what their outcome means.

use std::io::Read;
use std::time::Duration;

use log::debug;
use ureq::Timeout;
use ureq::http::Request;

use super::Http;
use super::call::{Answer, Call, Method, Redirects};
use super::flight::Flight;
use super::place::{Stop, joined};
use super::repeat::Failed;
use super::secrets::SecretLines;
use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Limit, Result};

/// How often in a row a pooled connection may turn out to be closed by the server before that counts as a failure.
const MAX_STALE_CONNECTIONS: usize = 3;

/// How often in a row an answer may send a request on.
pub(super) const MAX_REDIRECTS: usize = 10;

/// What all exchanges of one attempt have in common.
pub(super) struct Attempt<'a> {
    call: &'a Call<'a>,
    deadline: Option<Deadline>,
    idempotency_key: &'a str,
    /// From 0.
    number: u32,
}

impl<'a> Attempt<'a> {
    /// The next attempt of a call.
    pub(super) fn begin(call: &'a Call<'a>, deadline: Option<Deadline>, idempotency_key: &'a str) -> Self {
        Attempt { call, deadline, idempotency_key, number: call.flight.begin_attempt() }
    }
}

impl Http {
    /// Makes an attempt, with the redirects that it meets.
    pub(super) fn attempt(&self, attempt: &Attempt<'_>) -> Result<Answer, Failed> {
        let call = attempt.call;
        let mut stop = self.first_stop(call).map_err(Failed::Final)?;
        let mut redirects = 0;
        loop {
            match anew(&call.flight, || self.exchange(attempt, &stop)) {
                Err(Failed::Refused(answer)) if call.redirects == Redirects::Follow && redirects < MAX_REDIRECTS => {
                    stop = stop.redirected(&answer).ok_or(Failed::Refused(answer))?;
                    redirects += 1;
                    debug!("{}: redirected to {}", call.operation, stop.uri.path());
                }
                other => return other,
            }
        }
    }

    fn exchange(&self, attempt: &Attempt<'_>, stop: &Stop) -> Result<Answer, Failed> {
        let Attempt { call, deadline, .. } = *attempt;
        let clock = self.config.clock();
        let remaining = self.remaining(call, deadline).map_err(Failed::Final)?;
        let (request, secrets) = self.request(attempt, stop);
        let agent = &self.agents[call.purpose as usize];
        let in_the_air = call.flight.take_off(secrets);
        let outcome = clock.outside(|| {
            let request = agent
                .configure_request(request)
                .timeout_global(remaining)
                .timeout_per_write(Some(call.idle))
                .timeout_per_read(Some(call.idle))
                .timeout_recv_response(Some(call.idle))
                .build();
            let response = match stop.method {
                Method::Post => agent.run(request.map(|()| call.body)),
                Method::Delete if !call.body.is_empty() => agent.run(request.map(|()| call.body)),
                Method::Get | Method::Delete => agent.run(request),
            };
            let (head, body) = response?.into_parts();
            let mut answer = Answer { status: head.status.as_u16(), headers: head.headers, body: Vec::new() };
            let mut body = body.into_with_config().limit(self.config.max_response_bytes()).reader();
            let end = body.read_to_end(&mut answer.body).map_err(ureq::Error::from);
            Ok((answer, end))
        });
        drop(in_the_air);
        let failed = |error| self.failed(error, call, self.config.base_url(), deadline);
        let failed = match outcome {
            Ok((answer, Ok(_))) if answer.is_success() => return Ok(answer),
            Ok((answer, Ok(_))) if answer.is_redirect() && call.redirects == Redirects::HandBack => return Ok(answer),
            Ok((answer, Ok(_))) => Failed::Refused(Box::new(answer)),
            Ok((answer, Err(error))) => failed(error).in_the_middle_of(answer),
            Err(error) => failed(error),
        };
        if stop.method != Method::Get && failed.is_unanswered() {
            call.flight.note_unanswered();
        }
        Err(failed)
    }

    /// The time that is left for a call, unless it is over, the call was cut off or the client closed.
    pub(crate) fn remaining(&self, call: &Call<'_>, deadline: Option<Deadline>) -> Result<Option<Duration>> {
        if self.is_closed_for(call) {
            return Err(Error::closed());
        }
        if call.flight.is_cut() {
            return Err(cancelled());
        }
        let Some(deadline) = deadline else { return Ok(None) };
        match deadline.at.saturating_duration_since(self.config.clock().now()) {
            Duration::ZERO => Err(timed_out(deadline.limit, call, false)),
            left => Ok(Some(left)),
        }
    }

    fn first_stop(&self, call: &Call<'_>) -> Result<Stop> {
        let query = match call.query {
            Some(query) => &*query.over(self.config.query()).to_string(),
            None => &*self.query,
        };
        let (base_url, path) = (self.config.base_url(), &*call.path);
        let url = if path.starts_with('/') {
            joined(base_url, path, query)
        } else {
            joined(base_url, &format!("api/v1/{path}"), query)
        };
        let refused = || Error::invalid_input(format!("{path:?} is not a path below the base URL"));
        let uri = url.ok_or_else(refused).and_then(|url| url.parse().map_err(|error| refused().with_source(error)));
        Ok(Stop { method: call.method, uri: uri.map_err(|error| error.with_operation(call.operation))? })
    }

    /// The request but for its body, and what its connection is to send in place of stars.
    fn request(&self, attempt: &Attempt<'_>, stop: &Stop) -> (Request<()>, SecretLines) {
        let call = attempt.call;
        let (number, idle) = (attempt.number.to_string(), call.idle.as_secs_f64().to_string());
        let mut of_call = vec![("x-stainless-retry-count", &*number), ("x-stainless-read-timeout", &*idle)];
        if stop.method != Method::Get {
            of_call.extend([("content-type", "application/json"), ("x-idempotency-key", attempt.idempotency_key)]);
        }
        of_call.extend(call.headers.iter().map(|(name, value)| (*name, &**value)));
        let (headers, secrets) = self.headers.with(of_call, call.overrides);
        let mut request = Request::new(());
        *request.method_mut() = match stop.method {
            Method::Get => ureq::http::Method::GET,
            Method::Post => ureq::http::Method::POST,
            Method::Delete => ureq::http::Method::DELETE,
        };
        *request.uri_mut() = stop.uri.clone();
        *request.headers_mut() = headers;
        (request, secrets)
    }

    /// What an error of ureq means for a call to this address.
    pub(super) fn failed(&self, error: ureq::Error, call: &Call<'_>, whom: &str, deadline: Option<Deadline>) -> Failed {
        let heard = call.flight.was_heard();
        let limit = match &error {
            _ if self.is_closed_for(call) => return Failed::Final(Error::closed()),
            _ if call.flight.is_cut() => return Failed::Final(cancelled()),
            ureq::Error::Timeout(Timeout::Global) => match deadline {
                Some(deadline) => return Failed::Final(timed_out(deadline.limit, call, false)),
                None => Limit::Operation,
            },
            ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => Limit::Connect,
            ureq::Error::Timeout(Timeout::PerWrite | Timeout::SendRequest | Timeout::SendBody) => Limit::Write,
            ureq::Error::Timeout(Timeout::RecvResponse) => Limit::Wait,
            ureq::Error::Timeout(_) if !heard => Limit::Wait,
            ureq::Error::Timeout(_) => Limit::Read,
            ureq::Error::BodyExceedsLimit(limit) => {
                let error = Error::new(ErrorKind::Decode, format!("the answer is larger than {limit} bytes"));
                return Failed::Unusable(error.with_hint("raise max_response_bytes"));
            }
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => {
                let error = Error::new(ErrorKind::Connect, "the answer is not HTTP/1.1, or damaged").with_source(error);
                return Failed::Connection(error.with_hint("check the base URL and the proxy"));
            }
            _ => {
                let what = match (call.flight.was_written_now(), heard) {
                    (false, _) => format!("no connection to {whom}"),
                    (true, false) => "the connection was lost before an answer came".to_owned(),
                    (true, true) => "the connection was lost in the middle of the answer".to_owned(),
                };
                let error = Error::new(ErrorKind::Connect, what).with_source(error);
                return Failed::Connection(error.with_hint("check the base URL, the network and the proxy"));
            }
        };
        Failed::Timeout(Error::timeout(limit).with_source(error))
    }
}

/// One exchange, over another connection when a pooled one turns out to be closed.
pub(super) fn anew<T>(flight: &Flight, mut exchange: impl FnMut() -> Result<T, Failed>) -> Result<T, Failed> {
    for _ in 0..MAX_STALE_CONNECTIONS {
        match exchange() {
            Err(Failed::Connection(_)) if flight.was_reused() && !flight.was_heard() => {}
            other => return other,
        }
    }
    exchange()
}

pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the request was cancelled")
}

pub(super) fn timed_out(limit: Limit, call: &Call<'_>, unanswered: bool) -> Error {
    Error::timeout(limit).with_operation(call.operation).with_effect(unanswered)
}

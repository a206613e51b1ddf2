//! One request over HTTP, with its retries.
//!
//! This layer decides nothing about promises or order: it sends what it is given, repeats what
//! [`rules::retry`](crate::rules::retry) says, keeps the time limits and turns every outcome into an [`Answer`] or an
//! [`Error`].

mod agent;
mod call;
#[cfg(feature = "tokenizers")]
mod fetch;
mod flight;
mod headers;
mod place;
mod repeat;
mod resolver;
mod secrets;
mod transport;
mod visit;

use std::io::Read;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, debug, log};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Request;
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Timeout};

pub(crate) use call::{Answer, Call, Deadline, Method, Purpose, Redirects, Repeat};
#[cfg(feature = "tokenizers")]
pub(crate) use fetch::Fetch;
pub(crate) use flight::Flight;
pub(crate) use headers::{PROTOCOL_VERSION, idempotency_key};
pub(crate) use place::{is_url, pointed_at, segment};
pub(crate) use visit::{Receive, Visit};

use crate::clock::Monitor;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Limit, Result};
use headers::CommonHeaders;
use place::{Stop, joined};
use repeat::{Failed, Repeats};
use resolver::CachingResolver;
use transport::WatchingConnector;

/// How often in a row a pooled connection may turn out to be closed by the server before that counts as a failure.
const MAX_STALE_CONNECTIONS: usize = 3;

/// How often in a row an answer may send a request on.
const MAX_REDIRECTS: usize = 10;

/// The connections of one client, one agent a purpose.
pub(crate) struct Http {
    config: Config,
    agents: [Agent; Purpose::ALL.len()],
    /// To other servers than the service: it knows no secret.
    visitor: Agent,
    headers: CommonHeaders,
    /// `a=b`, or nothing.
    query: String,
    closed: Arc<Monitor<bool>>,
}

impl Http {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        Http::with_headers(config, CommonHeaders::new(config))
    }

    /// The connections to a server that is not the service.
    #[cfg(feature = "tokenizers")]
    fn foreign(config: &Config) -> Result<Self> {
        Http::with_headers(config, CommonHeaders::foreign(config))
    }

    fn with_headers(config: &Config, headers: CommonHeaders) -> Result<Self> {
        let addresses = CachingResolver::new(
            config.clock().clone(),
            config.dns_retention(),
            config.timeout_connect(),
            config.thread_stack_size(),
        );
        let agent = agent::config(config)?;
        let agents = Purpose::ALL.map(|_| {
            let connector = WatchingConnector::new(addresses.clone()).chain(headers.secret_lines().clone());
            Agent::with_parts(agent.clone(), connector, addresses.clone())
        });
        let visitor = Agent::with_parts(agent, WatchingConnector::new(addresses.clone()), addresses);
        let query = config.query().to_string();
        Ok(Http { config: config.clone(), agents, visitor, headers, query, closed: Monitor::new(false) })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Ends every request in flight and every wait for a repeat, and refuses new ones.
    pub(crate) fn close(&self) {
        *self.closed.lock() = true;
        self.closed.notify_all();
        for agent in self.agents.iter().chain([&self.visitor]) {
            agent.clone().shutdown();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.lock()
    }

    /// Waits, unless the client is closed meanwhile.
    pub(crate) fn pause_until(&self, at: Instant) -> Result<()> {
        self.pause(at, &Flight::default())
    }

    /// Waits for the next attempt of a request, unless it is cut off or the client is closed meanwhile.
    pub(crate) fn pause(&self, at: Instant, flight: &Flight) -> Result<()> {
        flight.waits(&self.closed);
        let mut closed = self.closed.lock();
        while !*closed && !flight.is_cut() {
            if self.config.clock().wait_until(&self.closed, &mut closed, Some(at)) {
                return Ok(());
            }
        }
        Err(if *closed { Error::closed() } else { cancelled() })
    }

    /// Sends a request, again if it must be, until the service answers with success.
    ///
    /// The body, and with it a sequence number in it, and the idempotency key are the same in all attempts.
    pub(crate) fn send(&self, call: &Call<'_>) -> Result<Answer> {
        let clock = self.config.clock();
        let started = clock.now();
        let window = Deadline { at: started + self.config.timeout_submit(), limit: Limit::Submit };
        let deadline = if call.repeat.has_window() { Some(window.earlier(call.deadline)) } else { call.deadline };
        let mut repeats = Repeats::new(&self.config, call, started);
        let key = call.idempotency_key.map_or_else(idempotency_key, str::to_owned);
        let mut warned = false;
        loop {
            let failed = match self.attempt(call, deadline, &key) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let level = if failed.is_lost() && !mem::replace(&mut warned, true) { Level::Warn } else { Level::Debug };
            let unanswered = call.flight.is_unanswered();
            let wait = repeats.next(&failed, clock);
            let error = failed.into_error(call.operation, clock.wall()).with_effect(unanswered);
            let Some(wait) = wait else { return Err(error) };
            let next = clock.now() + wait;
            if let Some(deadline) = deadline.filter(|deadline| deadline.at <= next) {
                return Err(timed_out(deadline.limit, call, unanswered).with_source(error));
            }
            log!(level, "{error}; it is sent again in {wait:?}");
            self.pause(next, &call.flight)
                .map_err(|ended| ended.with_operation(call.operation).with_effect(unanswered))?;
        }
    }

    /// Sends a request with a body and parses the answer.
    pub(crate) fn ask<T: DeserializeOwned>(&self, call: Call<'_>, request: &impl Serialize) -> Result<T> {
        let body = to_json(call.operation, request)?;
        self.send(&Call { body: &body, ..call })?.json(call.operation)
    }

    /// Sends a request once; any status is an answer.
    pub(crate) fn once(&self, call: &Call<'_>) -> Result<Answer> {
        let key = idempotency_key();
        match self.attempt(call, call.deadline, &key) {
            Ok(answer) => Ok(answer),
            Err(Failed::Refused(answer)) => Ok(*answer),
            Err(failed) => Err(failed.into_error(call.operation, self.config.clock().wall())),
        }
    }

    /// One attempt, with the redirects that it meets.
    fn attempt(&self, call: &Call<'_>, deadline: Option<Deadline>, key: &str) -> Result<Answer, Failed> {
        let number = call.flight.begin_attempt();
        let mut stop = self.first_stop(call).map_err(Failed::Final)?;
        let mut redirects = 0;
        loop {
            match self.exchange_anew(call, &stop, deadline, key, number) {
                Err(Failed::Refused(answer)) if call.redirects == Redirects::Follow && redirects < MAX_REDIRECTS => {
                    stop = stop.redirected(&answer).ok_or(Failed::Refused(answer))?;
                    redirects += 1;
                    debug!("{}: redirected to {}", call.operation, stop.uri.path());
                }
                other => return other,
            }
        }
    }

    /// One exchange, over another connection when a pooled one turns out to be closed.
    fn exchange_anew(
        &self,
        call: &Call<'_>,
        stop: &Stop,
        deadline: Option<Deadline>,
        key: &str,
        number: u32,
    ) -> Result<Answer, Failed> {
        for _ in 0..MAX_STALE_CONNECTIONS {
            match self.exchange(call, stop, deadline, key, number) {
                Err(Failed::Connection(_)) if call.flight.was_reused() && !call.flight.was_heard() => {}
                other => return other,
            }
        }
        self.exchange(call, stop, deadline, key, number)
    }

    fn exchange(
        &self,
        call: &Call<'_>,
        stop: &Stop,
        deadline: Option<Deadline>,
        key: &str,
        attempt: u32,
    ) -> Result<Answer, Failed> {
        let clock = self.config.clock();
        let remaining = self.remaining(call, deadline).map_err(Failed::Final)?;
        let request = self.request(call, stop, key, attempt);
        let agent = &self.agents[call.purpose as usize];
        let in_the_air = call.flight.take_off();
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
        let failed = match outcome {
            Ok((answer, Ok(_))) if answer.is_success() => return Ok(answer),
            Ok((answer, Ok(_))) if answer.is_redirect() && call.redirects == Redirects::HandBack => return Ok(answer),
            Ok((answer, Ok(_))) => Failed::Refused(Box::new(answer)),
            Ok((answer, Err(error))) => {
                self.failed(error, call, self.config.base_url(), deadline).in_the_middle_of(answer)
            }
            Err(error) => self.failed(error, call, self.config.base_url(), deadline),
        };
        if stop.method != Method::Get && failed.is_unanswered() {
            call.flight.note_unanswered();
        }
        Err(failed)
    }

    /// The time that is left for a call, unless it is over, the call was cut off or the client closed.
    pub(crate) fn remaining(&self, call: &Call<'_>, deadline: Option<Deadline>) -> Result<Option<Duration>> {
        if self.is_closed() {
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

    /// The request but for its body.
    fn request(&self, call: &Call<'_>, stop: &Stop, key: &str, attempt: u32) -> Request<()> {
        let (attempt, idle) = (attempt.to_string(), call.idle.as_secs_f64().to_string());
        let mut of_call = vec![("x-stainless-retry-count", &*attempt), ("x-stainless-read-timeout", &*idle)];
        if stop.method != Method::Get {
            of_call.extend([("content-type", "application/json"), ("x-idempotency-key", key)]);
        }
        of_call.extend(call.headers.iter().map(|(name, value)| (*name, &**value)));
        let mut headers = self.headers.with(of_call);
        for (name, value) in call.overrides {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
        let mut request = Request::new(());
        *request.method_mut() = match stop.method {
            Method::Get => ureq::http::Method::GET,
            Method::Post => ureq::http::Method::POST,
            Method::Delete => ureq::http::Method::DELETE,
        };
        *request.uri_mut() = stop.uri.clone();
        *request.headers_mut() = headers;
        request
    }

    /// What an error of ureq means for the call, which goes to this address.
    fn failed(&self, error: ureq::Error, call: &Call<'_>, whom: &str, deadline: Option<Deadline>) -> Failed {
        let heard = call.flight.was_heard();
        let limit = match &error {
            _ if self.is_closed() => return Failed::Final(Error::closed()),
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

/// Writes a request's body.
pub(crate) fn to_json(operation: &'static str, request: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    serde_json::to_vec(request).map_err(|error| {
        Error::invalid_input("the request can not be written as JSON").with_operation(operation).with_source(error)
    })
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the request was cancelled")
}

fn timed_out(limit: Limit, call: &Call<'_>, unanswered: bool) -> Error {
    Error::timeout(limit).with_operation(call.operation).with_effect(unanswered)
}

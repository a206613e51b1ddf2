//! HTTP requests to the service.
//!
//! The life of a request, in the order of this file:
//!
//! 1. [`Http::send`] takes a [`Request`] (what to send) and [`Limits`] (how long, and how to cancel it).
//! 2. [`attempt`] sends it, follows redirects, and replaces pooled connections that the server has closed. One
//!    round trip over one connection is in [`attempt.rs`](attempt).
//! 3. The policy ([`rules::retry`](crate::rules::retry)) decides whether a failed attempt is retried; the driver
//!    ([`retry.rs`](retry)) waits.
//! 4. The request ends with a 2xx [`Response`], or with an [`Error`] that says why no further attempt follows.
//!
//! Requests to other servers are in [`download.rs`](download), files from them in [`file_download`], connections in [`transport`]. This layer knows nothing of
//! promises and their order.
//!
//! [`attempt`]: Http::attempt

mod attempt;
mod billing;
mod cancel;
mod credentials;
mod deprecation;
mod download;
mod file_download;
mod headers;
mod json_body;
mod observe;
mod reached;
mod request;
mod response;
mod retry;
mod service_settings;
mod success_watch;
mod transport;
mod url;
mod waits;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use cancel::RequestHandle;
#[cfg(feature = "tokenizers")]
pub(crate) use download::{BodySink, Download};
#[cfg(feature = "pretrained")]
pub(crate) use file_download::Watch;
pub(crate) use file_download::{FileDownload, Interrupted, Location};
pub(crate) use headers::{PROTOCOL_VERSION, idempotency_key, platform};
pub(crate) use json_body::{to_json, write_json};
pub(crate) use request::{JSON, Limits, Method, Purpose, Redirects, Request, RetryMode};
pub(crate) use response::Response;
pub(crate) use retry::RetryDecision;
pub(crate) use transport::Tending;
pub(crate) use url::{encode_segment, external_url, is_url};
pub(crate) use waits::Wait;

use crate::clock::Monitor;
use crate::config::Config;
use crate::dispatcher::EventDispatcher;
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::process::Process;
use crate::rules::billing::BillingPause;
use crate::rules::wait_log::WaitEnd;
use crate::rules::wire_format::LearnedFormats;
use attempt::{Attempt, Failed, MAX_REDIRECTS, MAX_STALE_CONNECTIONS};
use cancel::cancelled;
use credentials::Credentials;
use deprecation::Deprecations;
use headers::CommonHeaders;
use observe::RequestObserver;
use reached::ReachedServers;
use service_settings::ServiceSettings;
use success_watch::SuccessWatch;
use transport::Agents;
use url::BaseUrl;
use waits::Waits;

/// The connections of one client.
pub(crate) struct Http {
    config: Config,
    process: Process,
    agents: Agents,
    headers: CommonHeaders,
    base_url: BaseUrl,
    /// The configuration's query: `a=b`, or empty.
    query: String,
    closed: Arc<Monitor<bool>>,
    /// Telemetry closes later than the rest, so that it can report the end of the session.
    telemetry_closed: AtomicBool,
    /// The session is about to be closed.
    ending: AtomicBool,
    /// Before the events, which its thread emits until it is dropped.
    waits: Waits,
    events: Arc<EventDispatcher>,
    formats: Mutex<LearnedFormats>,
    settings: ServiceSettings,
    credentials: Credentials,
    billing: Mutex<BillingPause>,
    deprecations: Deprecations,
    reached: ReachedServers,
    successes: SuccessWatch,
}

impl Http {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let events = Arc::new(EventDispatcher::new(config));
        Ok(Http {
            config: config.clone(),
            process: Process::current(),
            agents: Agents::new(config)?,
            headers: CommonHeaders::new(config),
            base_url: BaseUrl::new(config.base_url()).ok_or_else(|| Error::config("the base URL is not a URL"))?,
            query: config.query().to_string(),
            closed: Monitor::new(false),
            telemetry_closed: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            waits: Waits::new(config, &events),
            events,
            formats: Mutex::default(),
            settings: ServiceSettings::default(),
            credentials: Credentials::default(),
            billing: Mutex::default(),
            deprecations: Deprecations::default(),
            reached: ReachedServers::default(),
            successes: SuccessWatch::default(),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn events(&self) -> &EventDispatcher {
        &self.events
    }

    /// The process that has its connections and threads.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// What the service has shown about the formats that it takes.
    pub(crate) fn formats(&self) -> &Mutex<LearnedFormats> {
        &self.formats
    }

    /// Calls this when a request other than a poll succeeds after [`watch_successes`](Http::watch_successes).
    pub(crate) fn on_success(&self, on_success: impl Fn() + Send + Sync + 'static) {
        self.successes.set(on_success);
    }

    /// Has the next success reported, once.
    pub(crate) fn watch_successes(&self) {
        self.successes.arm();
    }

    /// The configured idle timeout, no deadline, and a new handle.
    pub(crate) fn limits(&self, operation: &'static str, purpose: Purpose) -> Limits {
        let (idle, waits_for) = (self.config.timeout_idle(), purpose.waits_for());
        Limits { operation, purpose, idle, head: None, deadline: None, handle: Arc::default(), waits_for, wait: None }
    }

    /// Sends a request, with retries, until the service responds with success.
    ///
    /// The body (and with it a sequence number in it) and the idempotency key are the same in all attempts. While the service
    /// refuses a submission because of the account's billing, it pauses; its submit window then starts again.
    pub(crate) fn send(&self, request: &Request<'_>, limits: &Limits) -> Result<Response> {
        self.send_and_read(request, limits, |response| Ok(std::mem::take(response)))
    }

    /// The same, and parses the response. A submission whose response is damaged is sent again.
    pub(crate) fn send_for<T: DeserializeOwned>(&self, request: &Request<'_>, limits: &Limits) -> Result<T> {
        self.send_and_read(request, limits, |response| response.json(limits.operation))
    }

    /// The same, with another way to read the response.
    pub(crate) fn send_and_read<T>(
        &self,
        request: &Request<'_>,
        limits: &Limits,
        read: impl Fn(&mut Response) -> Result<T>,
    ) -> Result<T> {
        let mut value = None;
        self.send_until_read(request, limits, &mut |response| {
            value = Some(read(response)?);
            Ok(())
        })?;
        Ok(value.expect("the response was read"))
    }

    /// Without a type parameter, since one copy of this code is enough.
    fn send_until_read(&self, request: &Request<'_>, limits: &Limits, read: &mut ReadResponse<'_>) -> Result<()> {
        self.check_process(limits)?;
        let observer = RequestObserver::start(self, request, limits);
        let key = request.idempotency_key.map_or_else(idempotency_key, str::to_owned);
        let end = match request.retry.limits(&self.config, self.config.clock().now(), limits).end() {
            WaitEnd::Never => request.retry.end(&self.config),
            end => end,
        };
        let limits = &self.waiting_until(limits, end);
        let outcome = match request.retry.billing_wait() {
            None => self.send_in_window(request, limits, &key, &observer, read),
            Some(wait) => {
                let on_retry = |error: &Error, wait| observer.retry(error, wait);
                let mut refused_since = None;
                self.with_retries(limits, on_retry, || {
                    match self.send_in_window(request, limits, &key, &observer, read) {
                        Err(error) if error.kind() == ErrorKind::Billing => {
                            let since = refused_since.get_or_insert_with(|| self.config.clock().now());
                            let pause = self.pause_for_billing(limits.purpose.billed(), wait, Some(*since), &error);
                            Err(self.billing_decision(error, pause, *since))
                        }
                        outcome => {
                            if outcome.is_ok() {
                                self.end_billing_pause(limits.purpose.billed());
                            }
                            outcome.map_err(RetryDecision::from)
                        }
                    }
                })
            }
        };
        let outcome = match (outcome, limits.purpose) {
            (Err(error), Purpose::Training | Purpose::Sampling) if self.is_ending() => {
                Err(Error::closed().with_operation(limits.operation).with_effect(error.may_have_taken_effect()))
            }
            (outcome, _) => outcome,
        };
        observer.stop(outcome.as_ref().copied());
        outcome.map(drop)
    }

    /// Makes attempts of a request as its retry mode says. Returns the status of the response, once it is read.
    fn send_in_window(
        &self,
        request: &Request<'_>,
        limits: &Limits,
        key: &str,
        observer: &RequestObserver<'_>,
        read: &mut ReadResponse<'_>,
    ) -> Result<u16> {
        let clock = self.config.clock();
        let started = clock.now();
        let limits = &request.retry.limits(&self.config, started, limits);
        let mut policy = request.retry.policy(&self.config, started);
        self.with_retries(
            limits,
            |error, wait| observer.retry(error, wait),
            || {
                let response = self.attempt(&Attempt::start(request, limits, key));
                let failed = match response.and_then(|response| read_success(request, limits, response, read)) {
                    Ok(success) => return Ok(success),
                    Err(failed) => failed,
                };
                let failure = failed.failure(clock.wall());
                let wait = failure.and_then(|failure| policy.next(&failure, clock.now(), fastrand::f64()));
                let error = failed.into_error(limits.operation, clock.wall());
                let given_up_by = policy.is_window_over().then_some(Limit::Submit.setting());
                Err(RetryDecision {
                    end: request.retry.end(&self.config),
                    given_up_by,
                    ..RetryDecision::new(error, wait)
                })
            },
        )
    }

    /// Sends a value as JSON and parses the response.
    pub(crate) fn send_json<T: DeserializeOwned>(
        &self,
        request: Request<'_>,
        limits: &Limits,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = to_json(limits.operation, body)?;
        self.send_for(&Request { body: &body, ..request }, limits)
    }

    /// Sends a request without retries, and returns the response whatever its status.
    pub(crate) fn send_once(&self, request: &Request<'_>, limits: &Limits) -> Result<Response> {
        self.check_process(limits)?;
        let observer = RequestObserver::start(self, request, limits);
        let limits = &self.waiting(limits);
        let key = request.idempotency_key.map_or_else(idempotency_key, str::to_owned);
        let outcome = match self.attempt(&Attempt::start(request, limits, &key)) {
            Ok(response) => Ok(response),
            Err(Failed::HttpStatus(response)) => Ok(*response),
            Err(failed) => Err(failed.into_error(limits.operation, self.config.clock().wall())),
        };
        observer.stop(outcome.as_ref().map(|response| response.status));
        outcome
    }

    /// Fails in a fork: the connections are shared with the process that opened them.
    fn check_process(&self, limits: &Limits) -> Result<()> {
        self.process.check().map_err(|error| error.with_operation(limits.operation))
    }

    /// One attempt. Redirects, stale connections and a token that is replaced are part of it: they cost no retry and no wait.
    fn attempt(&self, attempt: &Attempt<'_>) -> Result<Response, Failed> {
        let Attempt { request, limits, .. } = *attempt;
        let mut target = self.first_target(request, limits).map_err(Failed::Final)?;
        let mut credential = self.credential(request, limits)?;
        let (mut redirects, mut stale, mut replaced) = (0, 0, false);
        loop {
            match self.round_trip(attempt, &target, &credential) {
                // A server may close an idle connection at any moment, so a reset on a reused one says nothing about the
                // service. The same request goes out over another connection.
                Err(Failed::Connection(_)) if limits.handle.is_connection_stale() && stale < MAX_STALE_CONNECTIONS => {
                    stale += 1;
                }
                // Nothing was run. The attempt goes on with a new credential, once.
                Err(Failed::HttpStatus(response))
                    if response.status == 401
                        && !replaced
                        && self.replaces(&credential, &response, request, limits) =>
                {
                    replaced = true;
                    credential = self.credential(request, limits)?;
                }
                Err(Failed::HttpStatus(response))
                    if request.redirects == Redirects::Follow && redirects < MAX_REDIRECTS =>
                {
                    target = target.redirected(&response).ok_or(Failed::HttpStatus(response))?;
                    (redirects, stale) = (redirects + 1, 0);
                    debug!("{}: redirected to {}", limits.operation, target.uri.path());
                }
                outcome => return outcome,
            }
        }
    }

    /// The time left for a request. Fails if the client is closed, the request is cancelled or its deadline has passed.
    pub(crate) fn time_left(&self, limits: &Limits) -> Result<Option<Duration>> {
        if self.is_closed_for(limits.purpose) {
            return Err(Error::closed());
        }
        if limits.handle.is_cancelled() {
            return Err(cancelled());
        }
        let Some(deadline) = limits.deadline else { return Ok(None) };
        match deadline.at.saturating_duration_since(self.config.clock().now()) {
            Duration::ZERO => Err(limits.timed_out(deadline.limit)),
            left => Ok(Some(left)),
        }
    }

    /// Waits. Fails if the client is closed.
    pub(crate) fn pause_until(&self, at: Instant) -> Result<()> {
        self.pause(at, &RequestHandle::default())
    }

    /// Has the calling thread close idle connections in time, if it looks for them after this interval at the latest.
    pub(crate) fn tend_connections(&self, interval: Duration) -> Option<Tending<'_>> {
        (interval <= self.config.idle_retention()).then(|| self.agents.connections().tend())
    }

    /// Waits for the next attempt of a request. Fails if it is cancelled, its retries are ended or the client is closed.
    fn pause(&self, at: Instant, handle: &RequestHandle) -> Result<()> {
        handle.wake_on_cancel(&self.closed);
        let mut closed = self.closed.lock();
        while !*closed && !handle.is_cancelled() && !handle.has_ended_retries() {
            if self.config.clock().wait_until(&self.closed, &mut closed, Some(at)) {
                return Ok(());
            }
        }
        Err(if *closed { Error::closed() } else { cancelled() })
    }

    /// From now on, what the service fails is `Closed` to its caller: it may be told of the end of the session before the
    /// connections go.
    pub(crate) fn start_ending(&self) {
        self.ending.store(true, Ordering::Release);
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Ends every request and every wait for a retry, and refuses new requests, except for telemetry.
    pub(crate) fn close(&self) {
        *self.closed.lock() = true;
        self.closed.notify_all();
        self.agents.shut_down_all_but_telemetry();
    }

    /// The same for telemetry.
    pub(crate) fn close_telemetry(&self) {
        self.telemetry_closed.store(true, Ordering::Release);
        self.agents.shut_down_telemetry();
    }

    /// Joins the thread that closes idle connections. None is left once the client is closed.
    pub(crate) fn join_idle(&self, deadline: Instant) {
        self.agents.join_by(deadline);
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.lock()
    }

    fn is_closed_for(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Telemetry => self.telemetry_closed.load(Ordering::Acquire),
            _ => self.is_closed(),
        }
    }
}

/// Reads a response, or takes it, and fails if it cannot be used.
type ReadResponse<'a> = dyn FnMut(&mut Response) -> Result<()> + 'a;

/// Reads a success, which may be one only by its status. Returns the status.
fn read_success(
    request: &Request<'_>,
    limits: &Limits,
    mut response: Response,
    read: &mut ReadResponse<'_>,
) -> Result<u16, Failed> {
    let status = response.status;
    read(&mut response).map(|()| status).map_err(|error| {
        if !request.is_safe() {
            limits.handle.mark_failed(Some(status));
        }
        // JSON of another shape is what the service means: the same request, sent again, gets it again.
        let is_damaged = request.retry.has_window() && response.damage().is_some();
        if is_damaged { Failed::Damaged(error) } else { Failed::Unusable(error) }
    })
}

//! One request over HTTP, with its retries.
//!
//! This layer decides nothing about promises or order: it sends what it is given, repeats what
//! [`rules::retry`](crate::rules::retry) says, keeps the time limits and turns every outcome into an [`Answer`] or an
//! [`Error`].

mod agent;
mod call;
mod early;
mod exchange;
mod flight;
mod headers;
mod place;
mod repeat;
mod resolver;
mod secrets;
mod told;
mod transport;
mod visit;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use log::{Level, log};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::Agent;

pub(crate) use call::{Answer, Call, Method, Purpose, Redirects, Repeat};
pub(crate) use flight::Flight;
pub(crate) use headers::{PROTOCOL_VERSION, idempotency_key, platform};
pub(crate) use place::{is_url, pointed_at, segment};
pub(crate) use visit::{Receive, Visit};

use crate::clock::{Deadline, Monitor};
use crate::config::Config;
use crate::dispatcher::EventDispatcher;
use crate::error::{Error, Limit, Result};
use exchange::{Attempt, cancelled, timed_out};
use headers::CommonHeaders;
use repeat::{Failed, Repeats};
use resolver::CachingResolver;
use told::Told;
use transport::watching_connector;

/// The connections of one client, one agent a purpose.
pub(crate) struct Http {
    config: Config,
    agents: [Agent; Purpose::ALL.len()],
    /// To other servers than the service.
    visitor: Agent,
    headers: CommonHeaders,
    /// `a=b`, or nothing.
    query: String,
    closed: Arc<Monitor<bool>>,
    /// Telemetry outlives the rest, to tell its end.
    telemetry_closed: AtomicBool,
    events: EventDispatcher,
}

impl Http {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let addresses = CachingResolver::new(
            config.clock().clone(),
            config.dns_retention(),
            config.timeout_connect(),
            config.thread_stack_size(),
        );
        let agent = agent::config(config, config.is_loopback())?;
        let agents = Purpose::ALL
            .map(|_| Agent::with_parts(agent.clone(), watching_connector(addresses.clone()), addresses.clone()));
        let visitor = agent::config(config, false)?;
        let visitor = Agent::with_parts(visitor, watching_connector(addresses.clone()), addresses);
        let query = config.query().to_string();
        Ok(Http {
            config: config.clone(),
            agents,
            visitor,
            headers: CommonHeaders::new(config),
            query,
            closed: Monitor::new(false),
            telemetry_closed: AtomicBool::new(false),
            events: EventDispatcher::new(config),
        })
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Where everything that happens is told.
    pub(crate) fn events(&self) -> &EventDispatcher {
        &self.events
    }

    /// Ends every request in flight and every wait for a repeat, and refuses new ones, but for telemetry.
    pub(crate) fn close(&self) {
        *self.closed.lock() = true;
        self.closed.notify_all();
        let theirs = Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Telemetry);
        for agent in theirs.map(|purpose| &self.agents[purpose as usize]).chain([&self.visitor]) {
            agent.clone().shutdown();
        }
    }

    /// The same for telemetry.
    pub(crate) fn close_telemetry(&self) {
        self.telemetry_closed.store(true, Ordering::Release);
        self.agents[Purpose::Telemetry as usize].clone().shutdown();
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.lock()
    }

    fn is_closed_for(&self, call: &Call<'_>) -> bool {
        match call.purpose {
            Purpose::Telemetry => self.telemetry_closed.load(Ordering::Acquire),
            _ => self.is_closed(),
        }
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
        self.telling(call, |told| self.send_telling(call, told))
    }

    /// Tells when a request begins and ends, where somebody wants to know.
    fn telling(&self, call: &Call<'_>, send: impl FnOnce(Option<&Told<'_>>) -> Result<Answer>) -> Result<Answer> {
        let told = Told::begin(self, call);
        let outcome = send(told.as_ref());
        if let Some(told) = told {
            told.stop(&outcome);
        }
        outcome
    }

    fn send_telling(&self, call: &Call<'_>, told: Option<&Told<'_>>) -> Result<Answer> {
        let clock = self.config.clock();
        let started = clock.now();
        let window = Deadline { at: started + self.config.timeout_submit(), limit: Limit::Submit };
        let deadline = if call.repeat.has_window() { Some(window.earlier(call.deadline)) } else { call.deadline };
        let mut repeats = Repeats::new(&self.config, call, started);
        let key = call.idempotency_key.map_or_else(idempotency_key, str::to_owned);
        let mut warned = false;
        loop {
            let failed = match self.attempt(&Attempt::begin(call, deadline, &key)) {
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
            log!(level, "{error}; it is sent again in {wait:.0?}");
            if let Some(told) = told {
                told.again(&error, wait);
            }
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
        self.telling(call, |_| match self.attempt(&Attempt::begin(call, call.deadline, &key)) {
            Ok(answer) => Ok(answer),
            Err(Failed::Refused(answer)) => Ok(*answer),
            Err(failed) => Err(failed.into_error(call.operation, self.config.clock().wall())),
        })
    }
}

/// Writes a request's body.
pub(crate) fn to_json(operation: &'static str, request: &(impl Serialize + ?Sized)) -> Result<Vec<u8>> {
    serde_json::to_vec(request).map_err(|error| {
        Error::invalid_input("the request cannot be written as JSON").with_operation(operation).with_source(error)
    })
}

//! The events of a request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Http;
use super::request::{Limits, Purpose, Request};
use crate::error::{Error, Result};
use crate::observer::Event;

/// Emits the events of one request. Does nothing without observers and telemetry.
pub(super) struct RequestObserver<'a>(Option<Observed<'a>>);

struct Observed<'a> {
    http: &'a Http,
    request: &'a Request<'a>,
    limits: &'a Limits,
    started: Instant,
}

impl<'a> RequestObserver<'a> {
    /// A request is about to be sent. Telemetry does not report its own requests.
    pub(super) fn start(http: &'a Http, request: &'a Request<'a>, limits: &'a Limits) -> Self {
        if limits.purpose == Purpose::Telemetry || !http.events.wants_failures() {
            return RequestObserver(None);
        }
        let observed = Observed { http, request, limits, started: http.config.clock().now() };
        if http.events.is_observed() {
            let (operation, method, path) = observed.names();
            http.events.emit(Event::RequestStart { operation, method, path });
        }
        RequestObserver(Some(observed))
    }

    /// An attempt has failed and will be retried.
    pub(super) fn retry(&self, error: &Error, wait: Duration) {
        let Some(observed) = &self.0 else { return };
        let ((operation, method, path), attempt) = (observed.names(), observed.limits.handle.attempts());
        let (error, elapsed) = (error.clone(), observed.elapsed());
        observed.http.events.emit(Event::Retry { operation, method, path, attempt, wait, error, elapsed });
    }

    /// The request has finished, with this status or error.
    pub(super) fn stop(self, outcome: Result<u16, &Error>) {
        let Some(observed) = self.0 else { return };
        if outcome.is_ok() && !observed.http.events.is_observed() {
            return;
        }
        let ((operation, method, path), attempts) = (observed.names(), observed.limits.handle.attempts());
        let (status, error) = match outcome {
            Ok(status) => (Some(status), None),
            Err(error) => (error.status(), Some(error.clone())),
        };
        let duration = observed.elapsed();
        observed.http.events.emit(Event::RequestStop { operation, method, path, status, error, duration, attempts });
    }
}

impl Observed<'_> {
    fn elapsed(&self) -> Duration {
        self.http.config.clock().now().saturating_duration_since(self.started)
    }

    /// The operation, the method and the path without its query, which may hold a secret.
    fn names(&self) -> (&'static str, &'static str, Arc<str>) {
        let path = self.request.path.split(['?', '#']).next().unwrap_or_default();
        let path = if path.starts_with('/') { path.into() } else { format!("/api/v1/{path}").into() };
        (self.limits.operation, self.request.method.as_str(), path)
    }
}

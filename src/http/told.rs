//! What is told of a request while it is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Http;
use super::call::{Answer, Call, Purpose};
use crate::error::{Error, Result};
use crate::observer::Event;

/// A request that somebody wants to hear of.
pub(super) struct Told<'a> {
    http: &'a Http,
    call: &'a Call<'a>,
    began: Instant,
}

impl<'a> Told<'a> {
    /// A request begins. Reporting does not report on itself.
    pub(super) fn begin(http: &'a Http, call: &'a Call<'a>) -> Option<Self> {
        if call.purpose == Purpose::Telemetry || !http.events.wants_failures() {
            return None;
        }
        let told = Told { http, call, began: http.config.clock().now() };
        if http.events.is_observed() {
            let (operation, method, path) = told.names();
            http.events.emit(Event::RequestStart { operation, method, path });
        }
        Some(told)
    }

    /// An attempt failed, and another follows.
    pub(super) fn again(&self, error: &Error, wait: Duration) {
        let ((operation, method, path), attempt) = (self.names(), self.call.flight.attempts());
        let (error, elapsed) = (error.clone(), self.elapsed());
        self.http.events.emit(Event::Retry { operation, method, path, attempt, wait, error, elapsed });
    }

    pub(super) fn stop(self, outcome: &Result<Answer>) {
        if outcome.is_ok() && !self.http.events.is_observed() {
            return;
        }
        let ((operation, method, path), attempts) = (self.names(), self.call.flight.attempts());
        let (status, error) = match outcome {
            Ok(answer) => (Some(answer.status), None),
            Err(error) => (error.status(), Some(error.clone())),
        };
        let duration = self.elapsed();
        self.http.events.emit(Event::RequestStop { operation, method, path, status, error, duration, attempts });
    }

    fn elapsed(&self) -> Duration {
        self.http.config.clock().now().saturating_duration_since(self.began)
    }

    /// The operation, the method and the path without its query, which may hold a secret.
    fn names(&self) -> (&'static str, &'static str, Arc<str>) {
        let path = self.call.path.split(['?', '#']).next().unwrap_or_default();
        let path = if path.starts_with('/') { path.into() } else { format!("/api/v1/{path}").into() };
        (self.call.operation, self.call.method.as_str(), path)
    }
}

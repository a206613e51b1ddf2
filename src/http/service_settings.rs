//! The settings that the service has for its clients, asked with the first use of it.

use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use parking_lot::Mutex;

use super::headers::idempotency_key;
use super::request::RequestCredential;
use super::{Http, Limits, PROTOCOL_VERSION, Purpose, Request, Response, RetryDecision, to_json};
use crate::clock::Deadline;
use crate::error::Result;
use crate::rules::retry::AttemptFailure;
use crate::rules::service_settings::{AfterFailure, Settings, after_failure, read};
use crate::types::wire::{ClientConfig, ClientConfigRequest, ClientDynamicConfig};

/// The time limit of one request for settings, as in the Python client.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The settings, at first the defaults.
#[derive(Default)]
pub(super) struct ServiceSettings(Mutex<State>);

#[derive(Default)]
struct State {
    /// Whether the service was asked, and responded.
    asked: bool,
    /// Whether it has any.
    has_settings: bool,
    fixed: Arc<ClientConfig>,
    dynamic: Arc<ClientDynamicConfig>,
}

impl Http {
    /// The settings of the service: the defaults before it was asked, and if it has none.
    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.settings.0.lock().fixed)
    }

    /// Whether the service was asked for its settings.
    pub(super) fn has_asked_client_config(&self) -> bool {
        self.settings.0.lock().asked
    }

    /// Whether the service has settings for its clients. Services of 2025 do not.
    pub(crate) fn has_client_config(&self) -> bool {
        self.settings.0.lock().has_settings
    }

    /// The settings of the service that may change: the defaults before it was asked, and if it has none.
    pub(crate) fn dynamic_config(&self) -> Arc<ClientDynamicConfig> {
        Arc::clone(&self.settings.0.lock().dynamic)
    }

    /// Uses these settings of the service, which another client was given.
    pub(crate) fn set_settings(&self, fixed: ClientConfig, dynamic: Option<ClientDynamicConfig>) {
        let (fixed, dynamic) = (Arc::new(fixed), Arc::new(dynamic.unwrap_or_default()));
        *self.settings.0.lock() = State { asked: true, has_settings: true, fixed, dynamic };
    }

    /// Asks the service for its settings. One that has none leaves the defaults.
    ///
    /// # Errors
    ///
    /// If the service cannot be reached, or is too busy, after the usual retries.
    pub(crate) fn ask_client_config(&self, deadline: Option<Deadline>) -> Result<()> {
        let limits = self.waiting(&Limits { deadline, ..self.settings_limits("client_config") });
        let request = ClientConfigRequest { sdk_version: PROTOCOL_VERSION.into() };
        let (body, key) = (to_json(limits.operation, &request)?, idempotency_key());
        // With the key itself: the response says whether the service wants a token.
        let credential = RequestCredential::Key;
        let request = Request { idempotency_key: Some(&key), credential, ..Request::reading("client/config", &body) };
        let clock = self.config().clock();
        let mut policy = request.retry.policy(self.config(), clock.now());
        let mut failures_500 = 0;
        let settings = self.with_retries(
            &limits,
            |_, _| {},
            || {
                let (failure, error) = match self.send_once(&request, &limits) {
                    Ok(response) if response.is_success() => return Ok(settings(limits.operation, &response)),
                    Ok(response) => {
                        failures_500 += u32::from(response.status == 500);
                        let after = after_failure(response.status, failures_500);
                        let failure = response.failure(clock.wall());
                        let error = response.into_error(limits.operation, clock.wall());
                        match after {
                            AfterFailure::Absent => return Ok(None),
                            AfterFailure::Refused => {
                                warn!("{error}; the defaults are used, as for a service that has no such settings");
                                return Ok(None);
                            }
                            AfterFailure::Retry => (Some(failure), error),
                        }
                    }
                    Err(error) => (AttemptFailure::of_connection(&error), error),
                };
                let wait = failure.and_then(|failure| policy.next(&failure, clock.now(), fastrand::f64()));
                Err(RetryDecision { end: request.retry.end(self.config()), ..RetryDecision::new(error, wait) })
            },
        )?;
        {
            let mut state = self.settings.0.lock();
            (state.asked, state.has_settings) = (true, settings.is_some());
            state.fixed = Arc::new(settings.unwrap_or_default());
        }
        debug!("the settings of the service: {:?}", self.client_config());
        Ok(())
    }

    /// Asks the service for the settings that may change, once; after a failure the last ones hold. Returns whether the service
    /// has such settings. Blocks for 10 s at most.
    pub(crate) fn ask_dynamic_config(&self, deadline: Option<Deadline>) -> bool {
        let limit = Deadline::of_operation(self.config().clock(), Some(TIMEOUT));
        let deadline = limit.map(|limit| limit.earlier(deadline));
        let limits = Limits { deadline, waits_for: None, ..self.settings_limits("client_dynamic_config") };
        let request = ClientConfigRequest { sdk_version: PROTOCOL_VERSION.into() };
        let body = to_json(limits.operation, &request).unwrap_or_default();
        let response = match self.send_once(&Request::reading("client/dynamic_config", &body), &limits) {
            Ok(response) => response,
            Err(error) => {
                debug!("{error}; the last settings hold");
                return true;
            }
        };
        if !response.is_success() {
            debug!("{}: status {}; the last settings hold", limits.operation, response.status);
            return after_failure(response.status, 1) == AfterFailure::Retry;
        }
        let settings = settings(limits.operation, &response);
        let has_settings = settings.is_some();
        if let Some(settings) = settings {
            self.settings.0.lock().dynamic = Arc::new(settings);
        }
        has_settings
    }

    fn settings_limits(&self, operation: &'static str) -> Limits {
        let limits = self.limits(operation, Purpose::Session);
        Limits { idle: limits.idle.min(TIMEOUT), ..limits }
    }
}

/// The settings in a response. A page that is no such response means that the service has none.
fn settings<T: Settings>(operation: &'static str, response: &Response) -> Option<T> {
    read(&response.body)
        .inspect_err(|error| warn!("{operation}: the response cannot be used ({error}); the defaults are used"))
        .ok()
}

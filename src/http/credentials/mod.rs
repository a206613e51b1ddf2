//! What a request authenticates with: the key, or a token (JWT) that the service gives in exchange for it.
//!
//! Each of the two is in a slot, and one thread at a time obtains a new one: by the command that prints the key, or by an exchange.
//! Meanwhile the others use the old one as long as it lives, or wait. [`rules::credential`](crate::rules::credential) decides.

mod command;

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, warn};
use parking_lot::Mutex;
use serde_json::Value;

use super::cancel::cancelled;
use super::headers::KeyHeaders;
use super::request::{Limits, Purpose, Request, RequestCredential, RetryMode};
use super::{Http, Response};
use crate::clock::Deadline;
use crate::config::{Credential, Secret, checked_key};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::observer::WaitKind;
use crate::rules::credential::{Claims, Held, Life, Step, before_request, is_invalid_token, renew_at, retry_at};
use crate::rules::retry::AttemptFailure;
use crate::rules::wait_log::Doing;

/// The time limit of an exchange.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The longest time without a byte of progress in an exchange.
const IDLE: Duration = Duration::from_secs(10);

/// The credentials of a client.
#[derive(Default)]
pub(super) struct Credentials {
    key: Slot,
    token: Slot,
}

#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
struct State {
    current: Option<Arc<SentCredential>>,
    retry_at: Option<Instant>,
    is_obtaining: bool,
    /// How often obtaining one has failed, and how the last time.
    failures: u64,
    failed: Option<NotObtained>,
}

impl State {
    fn held(&self) -> Option<Held> {
        self.current.as_ref().map(|current| Held { life: current.life, retry_at: self.retry_at })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Key,
    Token,
}

/// A key or token, as it is sent.
pub(super) struct SentCredential {
    secret: Secret,
    /// Those of all requests with it.
    headers: KeyHeaders,
    /// Those of a token.
    claims: Option<Claims>,
    life: Option<Life>,
    which: Which,
}

impl SentCredential {
    pub(super) fn headers(&self) -> &KeyHeaders {
        &self.headers
    }
}

/// There is no credential for a request.
#[derive(Clone)]
pub(super) struct NotObtained {
    pub(super) error: Error,
    /// If it may be there another time.
    pub(super) failure: Option<AttemptFailure>,
}

impl From<Error> for NotObtained {
    fn from(error: Error) -> Self {
        NotObtained { failure: AttemptFailure::of_connection(&error), error }
    }
}

impl Http {
    /// The credential for a request. Blocks while a new one is obtained.
    pub(super) fn credential(
        &self,
        request: &Request<'_>,
        limits: &Limits,
    ) -> Result<Arc<SentCredential>, NotObtained> {
        match request.credential {
            RequestCredential::Key => self.get(Which::Key, limits),
            RequestCredential::Current => self.get(self.current_slot(limits)?, limits),
        }
    }

    /// Whether a new credential is worth another try of a request that was refused with this 401.
    pub(super) fn replaces(
        &self,
        refused: &Arc<SentCredential>,
        response: &Response,
        request: &Request<'_>,
        limits: &Limits,
    ) -> bool {
        if request.credential == RequestCredential::Key || self.headers.has_own_key(request.overrides) {
            return false;
        }
        if is_invalid_token(response.header("www-authenticate")) && refused.claims.is_some() {
            let mut state = self.slot(refused.which).0.lock();
            if state.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, refused)) {
                state.current = None;
            }
            drop(state);
            return refused.which == Which::Token || self.config().credential().is_command();
        }
        // A client without a session has not asked yet whether the service wants tokens.
        if refused.claims.is_some() || self.has_asked_client_config() {
            return false;
        }
        match self.ask_client_config(limits.deadline) {
            Ok(()) => self.client_config().pjwt_auth_enabled,
            Err(error) => {
                debug!("{error}; the refusal of the request stands");
                false
            }
        }
    }

    /// When the credential is to be renewed in the background; `None` if it lasts, or another thread is about to.
    pub(crate) fn renewal_at(&self) -> Option<Instant> {
        let key = self.credentials.key.0.lock().current.clone();
        let which = if self.exchanges(key.as_deref()) { Which::Token } else { Which::Key };
        if which == Which::Key && !self.config().credential().is_command() {
            return None;
        }
        let state = self.slot(which).0.lock();
        if state.is_obtaining { None } else { state.held().and_then(renew_at) }
    }

    /// Renews the credential if it is time. After a failure the old one holds.
    pub(crate) fn renew_credential(&self) {
        let limits = self.limits("renew_credential", Purpose::Session);
        let limits = Limits { waits_for: Some(WaitKind::Credential), ..limits };
        // To find the slot, only the command of a key can take long.
        let may_run = self.client_config().pjwt_auth_enabled && self.config().credential().is_command();
        let limits = if may_run { self.waiting(&limits) } else { limits };
        let Ok(which) = self.current_slot(&limits) else { return };
        {
            let mut state = self.slot(which).0.lock();
            let is_due = state.held().and_then(renew_at).is_some_and(|at| at <= self.config().clock().now());
            if !is_due || state.is_obtaining {
                return;
            }
            state.is_obtaining = true;
        }
        match self.obtain(which, &self.waiting(&limits)) {
            Err(failed) if failed.error.kind() != ErrorKind::Closed => {
                warn!("the token was not renewed, and the old one is used: {}", failed.error);
            }
            _ => {}
        }
    }

    /// The claims of the token that the service gives this client; `None` if it gives none. Asks the service for its settings if
    /// that was not done before.
    pub(crate) fn token_claims(&self, limits: &Limits) -> Result<Option<Claims>> {
        if !self.has_asked_client_config() {
            self.ask_client_config(limits.deadline)?;
        }
        let which = self.current_slot(limits).map_err(|failed| failed.error)?;
        let current = self.get(which, limits).map_err(|failed| failed.error.with_operation(limits.operation))?;
        Ok(current.claims.clone())
    }

    /// The key and the token of this client, as far as it has them, and the one that a request is sent with.
    pub(super) fn credentials(&self, sent: &SentCredential) -> Vec<Secret> {
        let other = |slot: &Slot| {
            let state = slot.0.lock();
            let held = state.current.as_ref().filter(|held| !std::ptr::eq(Arc::as_ptr(held), sent));
            held.map(|held| held.secret.clone())
        };
        let slots = [&self.credentials.key, &self.credentials.token];
        slots.into_iter().filter_map(other).chain([sent.secret.clone()]).collect()
    }

    fn slot(&self, which: Which) -> &Slot {
        match which {
            Which::Key => &self.credentials.key,
            Which::Token => &self.credentials.token,
        }
    }

    /// The slot of ordinary requests.
    fn current_slot(&self, limits: &Limits) -> Result<Which, NotObtained> {
        if !self.client_config().pjwt_auth_enabled {
            return Ok(Which::Key);
        }
        let key = self.get(Which::Key, limits)?;
        Ok(if self.exchanges(Some(&key)) { Which::Token } else { Which::Key })
    }

    /// Whether the service wants a token in place of this key, which may be one itself.
    fn exchanges(&self, key: Option<&SentCredential>) -> bool {
        self.client_config().pjwt_auth_enabled && key.is_some_and(|key| key.claims.is_none())
    }

    /// The credential in a slot, or a new one.
    fn get(&self, which: Which, limits: &Limits) -> Result<Arc<SentCredential>, NotObtained> {
        loop {
            let (step, current, failures) = {
                let mut state = self.slot(which).0.lock();
                let step = before_request(state.held(), state.is_obtaining, self.config().clock().now());
                state.is_obtaining |= matches!(step, Step::Replace | Step::Obtain);
                (step, state.current.clone(), state.failures)
            };
            match (step, current) {
                (Step::Use, Some(current)) => return Ok(current),
                (Step::Replace, Some(current)) => return Ok(self.obtain(which, limits).unwrap_or(current)),
                (Step::Wait, _) => limits.during(Doing::Blocked("another call is getting the credential"), || {
                    self.wait_for_credential(which, failures, limits)
                })?,
                (Step::Obtain | Step::Use | Step::Replace, _) => return self.obtain(which, limits),
            }
        }
    }

    /// Obtains a new credential for a slot that says so.
    fn obtain(&self, which: Which, limits: &Limits) -> Result<Arc<SentCredential>, NotObtained> {
        let ended = Obtaining { http: self, which };
        let outcome = match which {
            Which::Key => self.key(limits).map_err(NotObtained::from),
            Which::Token => self.exchange(limits),
        };
        let outcome = outcome.map(Arc::new);
        let mut state = self.slot(which).0.lock();
        match &outcome {
            Ok(new) => (state.current, state.retry_at) = (Some(Arc::clone(new)), None),
            Err(failed) => {
                state.retry_at = Some(retry_at(self.config().clock().now()));
                // What ended only this request says nothing to the others.
                if !failed.error.kind().is_end_of_call() {
                    (state.failures, state.failed) = (state.failures + 1, Some(failed.clone()));
                }
            }
        }
        drop(state);
        drop(ended);
        outcome
    }

    /// Waits until another thread has obtained a credential, or has failed to.
    fn wait_for_credential(&self, which: Which, failures: u64, limits: &Limits) -> Result<(), NotObtained> {
        let final_error = |error: Error| NotObtained { error, failure: None };
        let clock = self.config().clock();
        limits.handle.wake_on_cancel(&self.closed);
        let mut closed = self.closed.lock();
        loop {
            {
                let state = self.slot(which).0.lock();
                if state.failures != failures {
                    return state.failed.clone().map_or(Ok(()), Err);
                }
                if !state.is_obtaining {
                    return Ok(());
                }
            }
            check(*closed, limits).map_err(final_error)?;
            let until = limits.deadline.map(|deadline| deadline.at);
            let is_late = clock.wait_until(&self.closed, &mut closed, until);
            if let Some(deadline) = limits.deadline.filter(|_| is_late) {
                return Err(final_error(limits.timed_out(deadline.limit)));
            }
        }
    }

    /// The key of the configuration, or what its command prints.
    fn key(&self, limits: &Limits) -> Result<SentCredential> {
        let options = self.config().thread_options();
        let secret = match self.config().credential() {
            Credential::Key(secret) => secret.clone(),
            Credential::Command(command) => {
                limits.handle.wake_on_cancel(&self.closed);
                limits.during(Doing::Blocked("the command in TINKER_CREDENTIAL_CMD is running"), || {
                    command::run(command, &options, limits.deadline, &self.closed, |closed| check(closed, limits))
                })?
            }
        };
        let (claims, clock) = (Claims::read(secret.expose()), self.config().clock());
        if claims.as_ref().is_some_and(|claims| claims.has_expired(clock.wall())) {
            return Err(Error::config(format!("the token from {} has expired", self.config().credential_source()))
                .with_hint("get a new one, or use an API key, and check the clock of this machine"));
        }
        Ok(self.sent(secret, claims, Which::Key))
    }

    /// Exchanges the key for a token. One attempt: the request that needs it is retried by its own rules.
    fn exchange(&self, limits: &Limits) -> Result<SentCredential, NotObtained> {
        let end = Deadline { at: self.config().clock().now() + TIMEOUT, limit: Limit::Read };
        // The purpose of the request: telemetry goes on for a while after the rest is closed.
        let own = Limits {
            idle: limits.idle.min(IDLE),
            deadline: Some(end.earlier(limits.deadline)),
            // The wait of the request that needs it.
            waits_for: None,
            ..self.limits("auth_token", limits.purpose)
        };
        let request = Request {
            credential: RequestCredential::Key,
            gives_secret: true,
            retry: RetryMode::Never,
            ..Request::post("auth/token", b"{}")
        };
        let wall = self.config().clock().wall();
        let explained = |error: Error| error.with_detail("when the key was to be exchanged for a token");
        let response =
            limits.during(Doing::Blocked("the key is being exchanged for a token"), || self.send_once(&request, &own));
        let response = response.map_err(|error| NotObtained::from(explained(error)))?;
        if !response.is_success() {
            let failure = Some(response.failure(wall));
            let error = explained(response.into_error(own.operation, wall));
            let wants_command = self.client_config().credential_default_source == "credential_cmd"
                && !self.config().credential().is_command();
            let error = match error.status() {
                Some(401 | 403) if wants_command => {
                    error.with_hint("this service wants a credential from a command; set TINKER_CREDENTIAL_CMD")
                }
                _ => error,
            };
            return Err(NotObtained { error, failure });
        }
        let body: Option<Value> = serde_json::from_slice(&response.body).ok();
        let token = body.as_ref().and_then(|body| body.get("jwt")?.as_str());
        let secret = token.and_then(|token| checked_key(token, "the token").ok());
        let Some(secret) = secret.filter(|secret| !secret.expose().is_empty()) else {
            // Without the body, which may hold a token in another form.
            let error = Error::new(ErrorKind::Decode, "the response holds no token").with_status(response.status);
            return Err(explained(error.with_operation(own.operation)).into());
        };
        debug!("the key was exchanged for a token");
        let claims = Claims::read(secret.expose()).unwrap_or_default();
        Ok(self.sent(secret, Some(claims), Which::Token))
    }

    fn sent(&self, secret: Secret, claims: Option<Claims>, which: Which) -> SentCredential {
        let clock = self.config().clock();
        let life = claims.as_ref().and_then(|claims| Life::of_new(claims, clock.now(), clock.wall(), fastrand::f64()));
        let headers = self.headers.with_key(&secret);
        SentCredential { secret, headers, claims, life, which }
    }
}

/// Fails if a request waits for nothing: its client is closed, or it is cancelled.
fn check(closed: bool, limits: &Limits) -> Result<()> {
    match closed && limits.purpose != Purpose::Telemetry {
        true => Err(Error::closed()),
        false if limits.handle.is_cancelled() => Err(cancelled()),
        false => Ok(()),
    }
}

/// While it lives, a thread obtains a credential; then the waiting ones go on.
struct Obtaining<'a> {
    http: &'a Http,
    which: Which,
}

impl Drop for Obtaining<'_> {
    fn drop(&mut self) {
        self.http.slot(self.which).0.lock().is_obtaining = false;
        self.http.closed.wake_all();
    }
}

//! The one loop around everything that is retried: requests, downloads, tokenizer files and samples.
//!
//! The loop waits on the clock, respects the deadline and cancellation, logs, notifies the observer, and says why it waits. Policies in
//! [`rules`](crate::rules), which the attempt consults, decide what is retried and after how long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{Level, log};

use super::Http;
use super::request::Limits;
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::observer::WaitKind;
use crate::rules::wait_log::{PATIENCE, WaitCause, WaitEnd};

/// What a policy decided about a failed attempt.
pub(crate) struct RetryDecision {
    pub(crate) error: Error,
    /// The wait before the next attempt; `None` to give up with this error, zero if none is needed or the attempt itself waits.
    pub(crate) wait: Option<Duration>,
    /// The level at which the retry is logged.
    pub(crate) level: Level,
    /// Logged in place of the error.
    pub(crate) notice: Option<&'static str>,
    /// What ends the retries, if it is not the deadline.
    pub(crate) end: WaitEnd,
    /// The setting that was the reason to give up, if there is one.
    pub(crate) given_up_by: Option<&'static str>,
}

impl RetryDecision {
    /// A failure that is logged at level debug.
    pub(crate) fn new(error: Error, wait: Option<Duration>) -> Self {
        RetryDecision { error, wait, level: Level::Debug, notice: None, end: WaitEnd::Never, given_up_by: None }
    }
}

/// An error that no further attempt would change.
impl From<Error> for RetryDecision {
    fn from(error: Error) -> Self {
        RetryDecision::new(error, None)
    }
}

/// The attempts of one request so far, for its last error.
struct Attempts<'a> {
    limits: &'a Limits,
    began: Instant,
    /// By the loop. Where attempts are counted with the request, those of an outer loop count, too.
    count: u32,
    last_failure: Option<Error>,
}

impl Attempts<'_> {
    fn tries(&self) -> u32 {
        let before = self.limits.wait.as_ref().map_or(0, |wait| wait.attempts_before());
        self.limits.handle.attempts().saturating_sub(before).max(self.count)
    }

    /// The error that ends the request: with the last failure, the number of tries and how long they took.
    fn ended_by(self, error: Error, given_up_by: Option<&'static str>, now: Instant) -> Error {
        let began = self.limits.wait.as_ref().map_or(self.began, |wait| wait.began());
        let (tries, elapsed) = (self.tries(), now.saturating_duration_since(began));
        match error.kind() {
            ErrorKind::Timeout(limit @ (Limit::Submit | Limit::Operation)) => {
                error.with_tries_in_time(limit, self.last_failure, tries, elapsed)
            }
            _ => error.with_tries(tries, elapsed, given_up_by),
        }
    }
}

impl Http {
    /// These limits for a request whose waits are reported, which begin now, unless they began with the call that it is part of.
    pub(crate) fn waiting(&self, limits: &Limits) -> Limits {
        self.waiting_until(limits, limits.end())
    }

    /// The same, for a request that ends so if nothing changes.
    pub(super) fn waiting_until(&self, limits: &Limits, end: WaitEnd) -> Limits {
        let mut limits = limits.clone();
        let begins = |_: &WaitKind| limits.wait.is_none() && self.process.is_current();
        if let Some(kind) = limits.waits_for.filter(begins) {
            let now = self.config.clock().now();
            let wait = self.wait(kind, limits.operation, PATIENCE, end, now);
            limits.wait = Some(Arc::new(wait.after(limits.handle.attempts())));
        }
        limits
    }

    /// Makes attempts until one succeeds, a policy gives up, the deadline would pass during the wait, or the request is
    /// cancelled or the client closed. `on_retry` is called before each wait.
    ///
    /// A wait that would outlast the deadline is not started: the error is a timeout with the last failure as its source.
    pub(crate) fn with_retries<T>(
        &self,
        limits: &Limits,
        on_retry: impl Fn(&Error, Duration),
        mut attempt: impl FnMut() -> Result<T, RetryDecision>,
    ) -> Result<T> {
        let mut value = None;
        self.retry_until_done(limits, &on_retry, &mut || {
            value = Some(attempt()?);
            Ok(())
        })?;
        Ok(value.expect("an attempt has succeeded"))
    }

    /// Without a type parameter, since one copy of this code is enough.
    fn retry_until_done(
        &self,
        limits: &Limits,
        on_retry: &dyn Fn(&Error, Duration),
        attempt: &mut dyn FnMut() -> Result<(), RetryDecision>,
    ) -> Result<()> {
        self.check_process(limits)?;
        let clock = self.config.clock();
        let limits = &self.waiting(limits);
        let mut attempts = Attempts { limits, began: clock.now(), count: 0, last_failure: None };
        loop {
            attempts.count += 1;
            let RetryDecision { error, wait, level, notice, end, given_up_by } = match attempt() {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            };
            let may_have_run = limits.handle.may_have_run();
            let error = error.with_operation(limits.operation).with_effect(may_have_run);
            let wait = wait.filter(|_| !limits.handle.has_ended_retries());
            let Some(wait) = wait else { return Err(attempts.ended_by(error, given_up_by, clock.now())) };
            let next = clock.now() + wait;
            if let Some(deadline) = limits.deadline.filter(|deadline| deadline.at <= next) {
                attempts.last_failure = Some(error);
                let timed_out = limits.timed_out(deadline.limit).with_effect(may_have_run);
                return Err(attempts.ended_by(timed_out, None, clock.now()));
            }
            let reason = error.reason();
            limits.handle.mark_failure(&reason);
            if let Some(wait) = &limits.wait {
                let end = if end == WaitEnd::Never { limits.end() } else { end };
                wait.note(WaitCause { reason, status: error.status(), tries: attempts.tries(), end });
            }
            let when = if wait.is_zero() { String::new() } else { format!(" in {wait:.0?}") };
            match notice {
                Some(notice) => log!(level, "{}: {notice}; retrying{when}", limits.operation),
                None => log!(level, "{error}; retrying{when}"),
            }
            on_retry(&error, wait);
            let paused = self.pause(next, &limits.handle);
            if paused.is_err() && limits.handle.has_ended_retries() {
                return Err(attempts.ended_by(error, None, clock.now()));
            }
            attempts.last_failure = Some(error);
            paused.map_err(|ended| ended.with_operation(limits.operation).with_effect(may_have_run))?;
        }
    }
}

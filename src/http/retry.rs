//! The one loop around everything that is retried: requests, downloads, tokenizer files and samples.
//!
//! The loop waits on the clock, respects the deadline and cancellation, logs, and notifies the observer. Policies in
//! [`rules`](crate::rules), which the attempt consults, decide what is retried and after how long.

use std::time::Duration;

use log::{Level, log};

use super::Http;
use super::request::Limits;
use crate::error::{Error, Result};

/// What a policy decided about a failed attempt.
pub(crate) struct RetryDecision {
    pub(crate) error: Error,
    /// The wait before the next attempt; `None` to give up with this error, zero if none is needed or the attempt itself waits.
    pub(crate) wait: Option<Duration>,
    /// The level at which the retry is logged.
    pub(crate) level: Level,
    /// Logged in place of the error.
    pub(crate) notice: Option<&'static str>,
}

impl RetryDecision {
    /// A failure that is logged at level debug.
    pub(crate) fn new(error: Error, wait: Option<Duration>) -> Self {
        RetryDecision { error, wait, level: Level::Debug, notice: None }
    }
}

/// An error that no further attempt would change.
impl From<Error> for RetryDecision {
    fn from(error: Error) -> Self {
        RetryDecision::new(error, None)
    }
}

impl Http {
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
        self.check_process(limits)?;
        loop {
            let RetryDecision { error, wait, level, notice } = match attempt() {
                Ok(value) => return Ok(value),
                Err(failed) => failed,
            };
            let error = error.with_operation(limits.operation);
            let Some(wait) = wait else { return Err(error) };
            let unanswered = limits.handle.is_unanswered();
            let next = self.config.clock().now() + wait;
            if let Some(deadline) = limits.deadline.filter(|deadline| deadline.at <= next) {
                return Err(limits.timed_out(deadline.limit, unanswered).with_source(error));
            }
            let when = if wait.is_zero() { String::new() } else { format!(" in {wait:.0?}") };
            match notice {
                Some(notice) => log!(level, "{}: {notice}; retrying{when}", limits.operation),
                None => log!(level, "{error}; retrying{when}"),
            }
            on_retry(&error, wait);
            self.pause(next, &limits.handle)
                .map_err(|ended| ended.with_operation(limits.operation).with_effect(unanswered))?;
        }
    }
}

//! Whether a failed HTTP attempt is made again, and after how long.
//!
//! Two loops stand around a request. The inner one ([`RetryPolicy`]) repeats an attempt a bounded number of times and
//! listens to the server's headers; every ordinary request has it. Around that, submissions have a window of time
//! ([`SubmitWindow`]) in which they are sent again. What to send, and that it is safe to send again, is decided
//! elsewhere.

use std::time::{Duration, Instant, SystemTime};

use super::backoff::{backoff, scaled, shortened};
use crate::error::{Error, ErrorKind, Limit};

/// The longest wait that a server may ask for between two attempts; a longer wish is ignored (Python client: 60 s).
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How many 409s of one request are retried that do not say `x-should-retry: true`, whatever other failures come between
/// them. A conflict may be a passing one, but a checkpoint name that is taken stays taken.
const CONFLICT_RETRIES: u32 = 2;

/// The first and the longest wait between two rounds of the submit window (Python client: `execute_with_retries`).
const WINDOW_BASE: Duration = Duration::from_secs(1);
const WINDOW_CAP: Duration = Duration::from_secs(30);

/// How an attempt failed.
pub(crate) enum Failure<'a> {
    /// The server answered with a status that means failure.
    Status {
        /// The HTTP status.
        status: u16,
        /// Looks up the first value of a header by its name in lower case.
        headers: &'a dyn Fn(&str) -> Option<&'a str>,
    },
    /// No connection, or the connection was lost.
    Connection,
    /// An idle timeout.
    Timeout,
}

impl Failure<'_> {
    /// The failure that an error stands for when the connection is at fault, not the time limit of the whole.
    pub(crate) fn lost(error: &Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::Connect => Some(Failure::Connection),
            ErrorKind::Timeout(Limit::Operation) => None,
            ErrorKind::Timeout(_) => Some(Failure::Timeout),
            _ => None,
        }
    }

    /// A 409 of which the server does not say whether it passes.
    fn is_conflict(&self) -> bool {
        matches!(self, Failure::Status { status: 409, headers } if should_retry(headers).is_none())
    }
}

/// The failed attempts of one request so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// In this round of the submit window, if there is one.
    attempts: u32,
    /// In all rounds.
    conflicts: u32,
}

impl Failures {
    /// One more.
    pub(crate) fn note(&mut self, failure: &Failure<'_>) {
        self.attempts = self.attempts.saturating_add(1);
        self.conflicts = self.conflicts.saturating_add(failure.is_conflict().into());
    }

    /// The submit window sends the request again: the policy's retries begin anew.
    pub(crate) fn next_round(&mut self) {
        self.attempts = 0;
    }
}

/// How often an attempt is repeated, and how the wait between two attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// The most retries after the first attempt.
    pub(crate) max_retries: u32,
    /// The wait before the first retry.
    pub(crate) base: Duration,
    /// The longest wait.
    pub(crate) cap: Duration,
}

impl Default for RetryPolicy {
    /// The Python client's: 10 retries, 0.5 s doubled up to 10 s.
    fn default() -> Self {
        RetryPolicy { max_retries: 10, base: Duration::from_millis(500), cap: Duration::from_secs(10) }
    }
}

impl RetryPolicy {
    /// The wait before the next attempt, or `None` when there is none.
    ///
    /// `before` are the failures before this one; `jitter` is a random number in 0..1.
    pub(crate) fn next(
        &self,
        before: Failures,
        failure: &Failure<'_>,
        now: SystemTime,
        jitter: f64,
    ) -> Option<Duration> {
        let repeats = match failure {
            Failure::Connection | Failure::Timeout => true,
            Failure::Status { status, headers } => match (should_retry(headers), status) {
                (Some(again), _) => again,
                (None, 409) => before.conflicts < CONFLICT_RETRIES,
                (None, status) => is_transient(*status),
            },
        };
        let wish = match failure {
            Failure::Status { headers, .. } => retry_after(headers, now).filter(|wait| *wait <= MAX_RETRY_AFTER),
            Failure::Connection | Failure::Timeout => None,
        };
        let attempt = before.attempts;
        (repeats && attempt < self.max_retries).then(|| wish.unwrap_or_else(|| self.wait(attempt, jitter)))
    }

    /// The wait after the failure of the attempt of this number, when the server does not say how long.
    pub(crate) fn wait(&self, attempt: u32, jitter: f64) -> Duration {
        shortened(backoff(self.base, attempt, self.cap), jitter)
    }
}

/// The stretch of time in which a submission is sent again. It is absolute: it also ends an attempt under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubmitWindow {
    started: Instant,
    length: Duration,
}

impl SubmitWindow {
    /// A window of this length (`timeout_submit`, 300 s) that began at `started`, when the first attempt did.
    pub(crate) fn new(started: Instant, length: Duration) -> Self {
        SubmitWindow { started, length }
    }

    /// What is left for an attempt that begins at `now`: zero when the window is over.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        self.length.saturating_sub(now.saturating_duration_since(self.started))
    }

    /// The wait before the submission is sent again, or `None` when it is not: 1, 2, 4 … 30 s.
    ///
    /// `failures` counts the rounds that failed, this one included. A wait that would leave no time for an attempt is not
    /// begun, so that the caller learns of the failure itself rather than of the end of the window.
    pub(crate) fn next(&self, failures: u32, failure: &Failure<'_>, now: Instant) -> Option<Duration> {
        let wait = backoff(WINDOW_BASE, failures.saturating_sub(1), WINDOW_CAP);
        (is_worth_resending(failure) && wait < self.remaining(now)).then_some(wait)
    }
}

/// Whether the submit window sends again after this failure. `x-should-retry` concerns the inner loop, but a 409 is final
/// unless the server says otherwise.
fn is_worth_resending(failure: &Failure<'_>) -> bool {
    match failure {
        Failure::Connection | Failure::Timeout => true,
        Failure::Status { status: 409, headers } => should_retry(headers) == Some(true),
        Failure::Status { status, .. } => is_transient(*status),
    }
}

/// The wait before a sample is submitted again as a new request, because the promise of the last one expired: `base`
/// doubled with each of the `n` earlier failures up to `cap`, then moved up or down by at most the part `spread` of it
/// (Python client: `RetryHandler`, 0.5 s, 10 s, 0.25). `jitter` is a random number in 0..1.
pub(crate) fn resubmit_after(base: Duration, cap: Duration, spread: f64, n: u32, jitter: f64) -> Duration {
    scaled(backoff(base, n, cap), (1.0 + spread * (2.0 * jitter - 1.0)).max(0.0)).min(cap)
}

/// How long the server asks to wait, of any length above zero: `retry-after-ms` in milliseconds, else `retry-after` in
/// seconds or as a date. `header` looks up the first value of a header by its name in lower case.
pub(crate) fn retry_after<'h>(header: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Option<Duration> {
    let number = |name| header(name)?.trim().parse::<f64>().ok();
    let wish = if let Some(millis) = number("retry-after-ms") {
        Duration::try_from_secs_f64(millis / 1000.0).ok()
    } else if let Some(seconds) = number("retry-after") {
        Duration::try_from_secs_f64(seconds).ok()
    } else {
        date(header("retry-after")?.trim())?.duration_since(now).ok()
    };
    wish.filter(|wait| !wait.is_zero())
}

/// Reads a date of HTTP, or one of mail, which has a numeric zone or none (the Python client reads both).
fn date(text: &str) -> Option<SystemTime> {
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(date);
    }
    let (local, zone) = match text.rsplit_once(' ') {
        Some((local, zone)) if zone.starts_with(['+', '-']) => (local, zone),
        _ => (text, "+0000"),
    };
    let (hours, minutes) = zone[1..].split_at_checked(2)?;
    let offset = Duration::from_secs(60 * (60 * hours.parse::<u64>().ok()? + minutes.parse::<u64>().ok()?));
    let local = httpdate::parse_http_date(&format!("{local} GMT")).ok()?;
    if zone.starts_with('+') { local.checked_sub(offset) } else { local.checked_add(offset) }
}

/// What the server says about a retry, in exactly these words.
fn should_retry<'h>(header: impl Fn(&str) -> Option<&'h str>) -> Option<bool> {
    match header("x-should-retry") {
        Some("true") => Some(true),
        Some("false") => Some(false),
        _ => None,
    }
}

/// Whether a status means a failure that may pass by itself. 409 has its own rules.
fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

#[cfg(test)]
mod tests;

//! Whether a failed HTTP attempt is retried, and after how long.
//!
//! There are two loops around a request. The inner one ([`RetryPolicy`]) retries a bounded number of times and follows the
//! server's headers; every ordinary request has it. Around it, submissions have a window of time ([`SubmitWindow`]) in which
//! rounds of these retries are made. [`RequestRetry`] is both loops as one sequence of decisions. What to send, and that it is
//! safe to send again, is decided elsewhere.

use std::time::{Duration, Instant, SystemTime};

use super::backoff::{backoff, scaled, shortened};
use crate::error::{Error, ErrorKind, Limit, Outlook};

/// The longest wait between two attempts that a server may ask for. A longer one is ignored (Python client: 60 s).
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How many 409s of one request are retried without `x-should-retry: true`, whatever other failures come between them. A
/// conflict may be temporary, but a checkpoint name that is taken stays taken.
const CONFLICT_RETRIES: u32 = 2;

/// How often one request is retried for want of a descriptor: for a few seconds, in which another thread may close one.
const SHORTAGE_RETRIES: u32 = 3;

/// The first and the longest wait between two rounds of the submit window (Python client: `execute_with_retries`).
const WINDOW_BASE: Duration = Duration::from_secs(1);
const WINDOW_CAP: Duration = Duration::from_secs(30);

/// How an attempt failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AttemptFailure {
    /// The server responded with a status that means failure.
    Status { status: u16, advice: RetryAdvice },
    /// No connection, or the connection was lost.
    Connection,
    /// No connection, and most likely there will be none until somebody changes a setting: the host does not exist, the
    /// certificate is not trusted. One more attempt may make sure of it.
    Permanent { one_more_try: bool },
    /// No connection, because this process has reached a limit of the system, such as that of open files.
    Shortage,
    /// An idle timeout.
    Timeout,
    /// The response to a submission cannot be read: something in between has cut or replaced it. That rarely passes at once, so it
    /// is sent again in the next round of the submit window.
    Damaged,
}

/// What the server says about a retry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RetryAdvice {
    /// `x-should-retry`, in exactly these words: `true` or `false`.
    pub(crate) should_retry: Option<bool>,
    /// How long to wait, of any length above zero: `retry-after-ms` in milliseconds, else `retry-after` in seconds or as a
    /// date.
    pub(crate) retry_after: Option<Duration>,
}

impl RetryAdvice {
    /// Reads the headers of a response. `header` looks up the first value of a header by its name in lower case.
    pub(crate) fn read<'h>(header: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Self {
        let should_retry = match header("x-should-retry") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            _ => None,
        };
        RetryAdvice { should_retry, retry_after: retry_after(header, now) }
    }
}

impl AttemptFailure {
    /// The failure that an error stands for if the connection is at fault, rather than the deadline of the operation.
    pub(crate) fn of_connection(error: &Error) -> Option<Self> {
        match error.kind() {
            ErrorKind::Connect => Some(match error.outlook() {
                Outlook::Temporary => AttemptFailure::Connection,
                Outlook::Shortage => AttemptFailure::Shortage,
                Outlook::OneMoreTry => AttemptFailure::Permanent { one_more_try: true },
                Outlook::Permanent => AttemptFailure::Permanent { one_more_try: false },
            }),
            ErrorKind::Timeout(Limit::Operation) => None,
            ErrorKind::Timeout(_) => Some(AttemptFailure::Timeout),
            _ => None,
        }
    }

    /// The status of the response, if one came that can be read.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            AttemptFailure::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// A 409 without the server's advice.
    fn is_conflict(&self) -> bool {
        matches!(self, AttemptFailure::Status { status: 409, advice: RetryAdvice { should_retry: None, .. } })
    }
}

/// The failed attempts of one request so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// In this round of the submit window, if there is one.
    attempts: u32,
    /// In all rounds.
    conflicts: u32,
    /// In all rounds.
    permanent: u32,
    /// In all rounds.
    shortages: u32,
}

impl Failures {
    /// Counts one more.
    pub(crate) fn count(&mut self, failure: &AttemptFailure) {
        self.attempts = self.attempts.saturating_add(1);
        self.conflicts = self.conflicts.saturating_add(failure.is_conflict().into());
        self.permanent = self.permanent.saturating_add(matches!(failure, AttemptFailure::Permanent { .. }).into());
        self.shortages = self.shortages.saturating_add(matches!(failure, AttemptFailure::Shortage).into());
    }

    /// The submit window starts another round of the policy's retries.
    fn next_round(&mut self) {
        self.attempts = 0;
    }
}

/// How often an attempt is retried, and how the wait between two attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// The maximum number of retries after the first attempt.
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
    /// The wait before the next attempt; `None` to give up.
    ///
    /// `before` are the failures before this one; `jitter` is a random number in 0..1.
    pub(crate) fn next(&self, before: Failures, failure: &AttemptFailure, jitter: f64) -> Option<Duration> {
        let (is_retryable, asked) = match failure {
            AttemptFailure::Connection | AttemptFailure::Timeout => (true, None),
            AttemptFailure::Damaged => (false, None),
            AttemptFailure::Shortage => (before.shortages < SHORTAGE_RETRIES, None),
            AttemptFailure::Permanent { one_more_try } => (*one_more_try && before.permanent == 0, None),
            AttemptFailure::Status { status, advice } => {
                let is_retryable = match (advice.should_retry, status) {
                    (Some(should_retry), _) => should_retry,
                    (None, 409) => before.conflicts < CONFLICT_RETRIES,
                    (None, status) => is_transient(*status),
                };
                (is_retryable, advice.retry_after.filter(|wait| *wait <= MAX_RETRY_AFTER))
            }
        };
        let attempt = before.attempts;
        (is_retryable && attempt < self.max_retries).then(|| asked.unwrap_or_else(|| self.wait(attempt, jitter)))
    }

    /// The wait after the failure of the attempt with this number, if the server does not say how long.
    pub(crate) fn wait(&self, attempt: u32, jitter: f64) -> Duration {
        shortened(backoff(self.base, attempt, self.cap), jitter)
    }
}

/// The period in which a submission is retried. It is absolute: it also ends an attempt in progress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubmitWindow {
    started: Instant,
    length: Duration,
}

impl SubmitWindow {
    /// A window of this length (`timeout_submit`, 300 s) that starts with the first attempt.
    pub(crate) fn new(started: Instant, length: Duration) -> Self {
        SubmitWindow { started, length }
    }

    /// The time left for an attempt that starts at `now`: zero after the end of the window.
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        self.length.saturating_sub(now.saturating_duration_since(self.started))
    }

    /// The wait before the next round: 1, 2, 4 … 30 s; `None` to give up.
    ///
    /// `failures` counts the rounds that failed, including this one. A wait that would leave no time for an attempt is not
    /// started, so that the caller gets the failure itself rather than the end of the window.
    pub(crate) fn next(&self, failures: u32, failure: &AttemptFailure, now: Instant) -> Option<Duration> {
        let wait = backoff(WINDOW_BASE, failures.saturating_sub(1), WINDOW_CAP);
        (is_worth_another_round(failure) && wait < self.remaining(now)).then_some(wait)
    }
}

/// Whether the submit window starts another round after this failure. `x-should-retry` concerns the inner loop, but a 409
/// is final unless the server says otherwise.
fn is_worth_another_round(failure: &AttemptFailure) -> bool {
    match failure {
        AttemptFailure::Connection | AttemptFailure::Timeout | AttemptFailure::Shortage | AttemptFailure::Damaged => {
            true
        }
        AttemptFailure::Permanent { .. } => false,
        AttemptFailure::Status { status: 409, advice } => advice.should_retry == Some(true),
        AttemptFailure::Status { status, .. } => is_transient(*status),
    }
}

/// The retries of one request: by the policy, and for submissions in rounds within a window.
#[derive(Clone, Debug)]
pub(crate) struct RequestRetry {
    policy: RetryPolicy,
    window: Option<SubmitWindow>,
    /// The statuses at which to give up; `None` stands for a failure without one.
    returns: fn(Option<u16>) -> bool,
    failures: Failures,
    /// The rounds that failed.
    rounds: u32,
    is_window_over: bool,
}

impl RequestRetry {
    pub(crate) fn new(policy: RetryPolicy, window: Option<SubmitWindow>) -> Self {
        RequestRetry {
            policy,
            window,
            returns: |_| false,
            failures: Failures::default(),
            rounds: 0,
            is_window_over: false,
        }
    }

    /// Gives up at these statuses, or without one.
    pub(crate) fn returning(self, returns: fn(Option<u16>) -> bool) -> Self {
        RequestRetry { returns, ..self }
    }

    /// The wait before the next attempt; `None` to give up. `jitter` is a random number in 0..1.
    pub(crate) fn next(&mut self, failure: &AttemptFailure, now: Instant, jitter: f64) -> Option<Duration> {
        if (self.returns)(failure.status()) {
            return None;
        }
        let wait = self.policy.next(self.failures, failure, jitter);
        self.failures.count(failure);
        let lacks = matches!(failure, AttemptFailure::Shortage) && self.failures.shortages > SHORTAGE_RETRIES;
        if wait.is_some() || lacks {
            return wait;
        }
        self.failures.next_round();
        self.rounds += 1;
        let window = self.window.as_ref()?;
        let wait = window.next(self.rounds, failure, now);
        self.is_window_over = wait.is_none() && is_worth_another_round(failure);
        wait
    }

    /// Whether there is no further attempt only because the submit window leaves no time for it.
    pub(crate) fn is_window_over(&self) -> bool {
        self.is_window_over
    }
}

/// The wait before a sample is submitted as a new request because the last promise expired: `base` doubled with each of
/// the `n` earlier failures up to `cap`, then moved up or down by at most the fraction `spread` (Python client:
/// `RetryHandler`, 0.5 s, 10 s, 0.25). `jitter` is a random number in 0..1.
pub(crate) fn resubmit_after(base: Duration, cap: Duration, spread: f64, n: u32, jitter: f64) -> Duration {
    scaled(backoff(base, n, cap), (1.0 + spread * (2.0 * jitter - 1.0)).max(0.0)).min(cap)
}

/// How long the server asks to wait: see [`RetryAdvice::retry_after`].
pub(crate) fn retry_after<'h>(header: impl Fn(&str) -> Option<&'h str>, now: SystemTime) -> Option<Duration> {
    let number = |name| header(name)?.trim().parse::<f64>().ok();
    let wait = if let Some(millis) = number("retry-after-ms") {
        Duration::try_from_secs_f64(millis / 1000.0).ok()
    } else if let Some(seconds) = number("retry-after") {
        Duration::try_from_secs_f64(seconds).ok()
    } else {
        // By the server's own clock if it tells the time, for this machine's may be wrong.
        let now = header("date").and_then(|text| date(text.trim())).unwrap_or(now);
        date(header("retry-after")?.trim())?.duration_since(now).ok()
    };
    wait.filter(|wait| !wait.is_zero())
}

/// Parses an HTTP date, or a mail date, which has a numeric zone or none (the Python client reads both).
fn date(text: &str) -> Option<SystemTime> {
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(date);
    }
    let (local, zone) = match text.rsplit_once(' ') {
        Some((local, zone)) if zone.starts_with(['+', '-']) => (local, zone),
        _ => (text, "+0000"),
    };
    let (hours, minutes) = zone[1..].split_at_checked(2)?;
    let number = |digits: &str| digits.parse::<u8>().map(u64::from).ok();
    let offset = Duration::from_secs(60 * (60 * number(hours)? + number(minutes)?));
    let local = httpdate::parse_http_date(&format!("{local} GMT")).ok()?;
    if zone.starts_with('+') { local.checked_sub(offset) } else { local.checked_add(offset) }
}

/// Whether a status means a temporary failure. 409 has its own rules.
fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

#[cfg(test)]
mod tests;

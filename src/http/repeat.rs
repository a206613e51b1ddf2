//! What becomes of a failed attempt: the wait before the next one, or the error.

use std::time::{Duration, Instant, SystemTime};

use super::call::{Answer, Call, Repeat};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Error;
use crate::rules::retry::{Failure, Failures, RetryPolicy, SubmitWindow};

/// An attempt without success.
pub(super) enum Failed {
    /// The server answered with a status that means failure.
    Refused(Box<Answer>),
    /// No connection, or it was lost.
    Connection(Error),
    /// An idle limit ran out.
    Timeout(Error),
    /// The answer cannot be used, and another one would be the same.
    Unusable(Error),
    /// The client was closed, the call was cut off or its time is over: another attempt makes no sense.
    Final(Error),
}

impl Failed {
    /// The same after the head of this answer had come. A status that means failure stands, however its body ended.
    pub(super) fn in_the_middle_of(self, answer: Answer) -> Self {
        match self {
            Failed::Final(_) | Failed::Refused(_) => self,
            _ if !answer.is_success() => Failed::Refused(Box::new(answer)),
            Failed::Connection(error) => Failed::Connection(answer.describe(error.with_detail(answer.summary()))),
            Failed::Timeout(error) => Failed::Timeout(answer.describe(error.with_detail(answer.summary()))),
            Failed::Unusable(error) => Failed::Unusable(answer.describe(error.with_detail(answer.summary()))),
        }
    }

    pub(super) fn into_error(self, operation: &'static str, now: SystemTime) -> Error {
        match self {
            Failed::Refused(answer) => answer.into_error(operation, now),
            Failed::Connection(error) | Failed::Timeout(error) | Failed::Unusable(error) | Failed::Final(error) => {
                error.with_operation(operation)
            }
        }
    }

    /// Whether the server was not reached, or did not answer.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Failed::Connection(_) | Failed::Timeout(_))
    }

    /// Whether nobody knows what the server made of the request, provided that it was written: no answer came, or one of a
    /// gateway that got none.
    pub(super) fn is_unanswered(&self) -> bool {
        match self {
            Failed::Refused(answer) => matches!(answer.status, 502 | 504),
            Failed::Connection(_) | Failed::Timeout(_) | Failed::Unusable(_) | Failed::Final(_) => true,
        }
    }
}

/// The two loops around a request, unrolled: repeats by the policy, and for submissions rounds of them in a window.
pub(super) struct Repeats {
    policy: RetryPolicy,
    window: Option<SubmitWindow>,
    gated: bool,
    failures: Failures,
    rounds: u32,
}

impl Repeats {
    pub(super) fn new(config: &Config, call: &Call<'_>, started: Instant) -> Self {
        let repeat = call.repeat;
        let max_retries = match repeat {
            Repeat::Never | Repeat::Gated => 0,
            Repeat::Policy | Repeat::Window => call.max_retries.unwrap_or_else(|| config.max_retries()),
        };
        Repeats {
            policy: RetryPolicy { max_retries, ..config.retry_policy() },
            window: repeat.has_window().then(|| SubmitWindow::new(started, config.timeout_submit())),
            gated: repeat == Repeat::Gated,
            failures: Failures::default(),
            rounds: 0,
        }
    }

    /// The wait before the next attempt, or `None` when there is none.
    pub(super) fn next(&mut self, failed: &Failed, clock: &Clock) -> Option<Duration> {
        match failed {
            Failed::Refused(answer) if self.gated && answer.status == 429 => None,
            Failed::Refused(answer) => {
                let headers = |name: &str| answer.header(name);
                self.after(&Failure::Status { status: answer.status, headers: &headers }, clock)
            }
            Failed::Connection(_) => self.after(&Failure::Connection, clock),
            Failed::Timeout(_) => self.after(&Failure::Timeout, clock),
            Failed::Unusable(_) | Failed::Final(_) => None,
        }
    }

    fn after(&mut self, failure: &Failure<'_>, clock: &Clock) -> Option<Duration> {
        let wait = self.policy.next(self.failures, failure, clock.wall(), fastrand::f64());
        self.failures.note(failure);
        if wait.is_some() {
            return wait;
        }
        self.failures.next_round();
        self.rounds += 1;
        self.window.as_ref()?.next(self.rounds, failure, clock.now())
    }
}

//! Polls that bring neither a result nor the word that all is well: why, and what is said of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call_state::LastWord;
use crate::error::{Error, Limit};
use crate::http::{Http, Response, Wait};
use crate::observer::WaitKind;
use crate::rules::poll_response::{NotReady, PollOutcome};
use crate::rules::poll_schedule::PollSchedule;
use crate::rules::queue_log::paused;
use crate::rules::wait_log::{PATIENCE, WaitCause, WaitEnd};
use crate::types::RequestKind;

/// Why a poll brought neither a result nor the word that all is well.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    /// In a few words.
    pub(super) reason: Arc<str>,
    /// Of the response, if there was one.
    pub(super) status: Option<u16>,
    /// The failure of the poll, if it was one.
    pub(super) failure: Option<Error>,
}

impl Trouble {
    /// That of a response that means failure. 408 says that the request is not finished.
    pub(super) fn in_response(response: &Response) -> Option<Self> {
        let is_fine = response.is_success() || response.status == 408;
        (!is_fine).then(|| Trouble { reason: response.reason().into(), status: Some(response.status), failure: None })
    }

    /// That of a queue which is paused.
    pub(super) fn in_queue<T>(kind: RequestKind, outcome: &PollOutcome<T>) -> Option<Self> {
        let PollOutcome::NotReady(NotReady::Pending { queue_state: Some(queue_state), reason }) = outcome else {
            return None;
        };
        let reason = paused(kind, queue_state, reason.as_deref())?;
        Some(Trouble { reason: reason.into(), status: None, failure: None })
    }

    /// That of a poll that failed.
    pub(super) fn in_error(error: &Error) -> Self {
        Trouble { reason: error.reason(), status: error.status(), failure: Some(error.clone()) }
    }
}

/// Polls in a row with trouble.
pub(super) struct Troubled {
    wait: Wait,
    polls: u32,
    reason: Arc<str>,
    failure: Option<Error>,
    _count: Arc<()>,
}

impl Troubled {
    /// Records the outcome of a poll that took `held` and ended now. `count` has one clone for each promise or session with
    /// trouble.
    pub(super) fn record(
        troubled: &mut Option<Box<Self>>,
        trouble: Option<Trouble>,
        (http, operation, count): (&Http, &'static str, &Arc<()>),
        schedule: &PollSchedule,
        (held, now): (Duration, Instant),
    ) {
        let Some(trouble) = trouble else { return *troubled = None };
        let troubled = troubled.get_or_insert_with(|| {
            let since = now.checked_sub(held).unwrap_or(now);
            let wait = http.wait(WaitKind::Result, operation, PATIENCE, WaitEnd::Never, since);
            let reason = Arc::clone(&trouble.reason);
            Box::new(Troubled { wait, polls: 0, reason, failure: None, _count: Arc::clone(count) })
        });
        troubled.polls = troubled.polls.saturating_add(1);
        (troubled.reason, troubled.failure) = (Arc::clone(&trouble.reason), trouble.failure);
        let end = match schedule.unpaid_since() {
            Some(since) => WaitEnd::At(since + http.billing_limit(), "timeout_billing"),
            None => schedule.expires_at(now).map_or(WaitEnd::Never, |at| WaitEnd::At(at, Limit::Progress.setting())),
        };
        let cause = WaitCause { reason: trouble.reason, status: trouble.status, tries: troubled.polls, end };
        troubled.wait.note(cause);
    }

    /// What it means for a call that ends now.
    pub(super) fn last_word(&self) -> LastWord {
        LastWord { reason: Arc::clone(&self.reason), tries: self.polls }
    }

    /// How the last poll failed.
    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }
}

//! The record of a promise, and the messages that reach the poller.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call_state::{Completer, Decoded};
use super::resubmit::Resubmission;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::http::RequestHandle;
use crate::rules::poll_queue::{ClientId, Ticket};
use crate::rules::poll_response::PollOutcome;
use crate::rules::poll_schedule::PollSchedule;
use crate::types::RequestKind;

/// Who made a request: clients take turns, and the promises of an ordered one finish in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollClient {
    pub(super) id: ClientId,
    pub(super) ordered: bool,
}

/// A promise of the server: what was requested, who gets the result, and how its polls went so far. The only record of it;
/// everything else in the poller refers to it by its ticket.
pub(crate) struct TrackedPromise {
    pub(super) request_id: Arc<str>,
    pub(super) kind: RequestKind,
    pub(super) client: PollClient,
    pub(super) completer: Completer,
    /// The duration of the submission.
    pub(super) round_trip: Duration,
    /// When the server made the promise.
    pub(super) promised_at: Instant,
    pub(super) schedule: PollSchedule,
    /// What to do when the promise has expired; without it that is an error.
    pub(super) resubmission: Option<Resubmission>,
    pub(super) phase: Phase,
    /// How long it leaves the connection to others after its poll was cut off; set with each cut.
    pub(super) away: Duration,
}

/// What a promise waits for.
pub(super) enum Phase {
    /// Its next poll, in the poll queue.
    Queued,
    /// The response to a poll.
    Polling { request: Arc<RequestHandle>, began: Instant },
    /// The end of its poll, which was cut off in favor of another promise.
    CutOff,
    /// Its resubmission at this instant.
    Resubmitting { at: Instant },
}

impl TrackedPromise {
    /// A promise that the server made now, for a request whose submission began at `submitted_at`.
    pub(crate) fn new(
        request_id: impl Into<Arc<str>>,
        kind: RequestKind,
        client: PollClient,
        completer: Completer,
        config: &Config,
        submitted_at: Instant,
    ) -> Self {
        let now = config.clock().now();
        TrackedPromise {
            request_id: request_id.into(),
            kind,
            client,
            completer,
            round_trip: now - submitted_at,
            promised_at: now,
            schedule: PollSchedule::new(config.timeout_progress()),
            resubmission: None,
            phase: Phase::Queued,
            away: Duration::ZERO,
        }
    }

    /// What to do when the promise has expired. Defaults to an error.
    pub(crate) fn resubmission(self, resubmission: Option<Resubmission>) -> Self {
        TrackedPromise { resubmission, ..self }
    }

    /// The maximum time without any word about the promise. Defaults to the configuration's.
    pub(crate) fn timeout_progress(self, timeout: Duration) -> Self {
        TrackedPromise { schedule: PollSchedule::new(timeout), ..self }
    }
}

/// A message to the poller.
pub(super) enum Command {
    /// Poll this promise.
    Add {
        ticket: Ticket,
        promise: Box<TrackedPromise>,
        /// Whether someone waits for it already.
        waited: bool,
    },
    /// Whether someone waits for the result has changed.
    SetWaited { ticket: Ticket, waited: bool },
    /// Nobody will take the result.
    Abandon {
        ticket: Ticket,
        /// Whether the caller's timeout is the reason.
        expired: bool,
    },
    /// A poll has ended.
    Replied(Ticket, Reply),
    /// Complete everything with `Closed` and end.
    Close,
}

/// How a poll ended.
pub(super) enum Reply {
    Polled {
        outcome: PollOutcome<Decoded>,
        /// The duration of the poll.
        held: Duration,
    },
    /// The poller cut it off.
    CutOff,
    Panicked,
}

/// The error of a promise when the poller, or the thread that polls it, has panicked.
pub(super) fn panicked() -> Error {
    Error::new(ErrorKind::Panicked, "a thread of the client panicked")
        .with_hint("see the log for the panic; ServiceClient::pending may still return the result")
}

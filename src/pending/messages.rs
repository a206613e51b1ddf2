//! The record of a promise, and the messages that reach the poller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use super::call_state::{Completer, Decoded};
use super::resubmit::Resubmission;
use super::trouble::Trouble;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::http::RequestHandle;
use crate::rules::poll_queue::{ClientId, Ticket};
use crate::rules::poll_response::PollOutcome;
use crate::rules::poll_schedule::PollSchedule;
use crate::types::RequestKind;
use crate::types::wire::RetrieveFuturesResponse;

/// Who made a request: clients take turns, and the promises of an ordered one finish in order.
#[derive(Debug)]
pub(crate) struct PollClient {
    pub(super) id: ClientId,
    pub(super) ordered: bool,
    /// The sampling session whose samples are polled together, if the service does that.
    pub(super) target: Option<Arc<SamplingTarget>>,
}

/// A sampling session, and one of the clients that share it: whose samples are polled together.
#[derive(Debug)]
pub(crate) struct SamplingTarget {
    pub(super) sampling_session_id: Box<str>,
    /// Sequence numbers begin with a billion times this.
    pub(super) clone_number: u64,
    /// The ticket of its polls.
    pub(super) ticket: Ticket,
    /// Up to where the completions are known. Only the poller's thread uses it, and the next.
    pub(super) cursor: AtomicU64,
    /// Whether its samples have to be polled one by one after all.
    pub(super) is_single: AtomicBool,
}

/// A promise of the server: what was requested, who gets the result, and how its polls went so far. The only record of it;
/// everything else in the poller refers to it by its ticket.
pub(crate) struct TrackedPromise {
    pub(super) request_id: Arc<str>,
    pub(super) kind: RequestKind,
    pub(super) client: Arc<PollClient>,
    pub(super) completer: Completer,
    /// The duration of the submission in seconds. A number, since it is half the size of a `Duration`.
    pub(super) round_trip: f64,
    /// When the server made the promise.
    pub(super) promised_at: Instant,
    pub(super) schedule: PollSchedule,
    /// What to do when the promise has expired; without it that is an error.
    pub(super) resubmission: Option<Resubmission>,
    pub(super) phase: Phase,
    pub(super) payload: Payload,
}

/// What a promise waits for.
pub(super) enum Phase {
    /// Its next poll, in the poll queue.
    Queued,
    /// The response to a poll.
    Polling { request: Arc<RequestHandle>, began: Instant },
    /// The end of its poll, which was cut off in favor of another promise.
    CutOff {
        /// How long it leaves the connection to others.
        away: Duration,
    },
    /// Its resubmission at this instant.
    Resubmitting { at: Instant },
    /// Its completion, together with the other samples of its session.
    Grouped {
        /// Whether someone waits for it.
        waited: bool,
    },
}

impl Phase {
    /// How long a poll that was cut off leaves the connection to others.
    pub(super) fn away(&self) -> Duration {
        if let Phase::CutOff { away } = self { *away } else { Duration::ZERO }
    }
}

/// The size of a result in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    Unknown,
    /// It waits until there is room for it.
    Waiting,
    /// There is room for it.
    Reserved(u64),
}

impl TrackedPromise {
    /// A promise that the server made now, for a request whose submission began at `submitted_at`.
    pub(crate) fn new(
        request_id: impl Into<Arc<str>>,
        kind: RequestKind,
        client: Arc<PollClient>,
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
            round_trip: (now - submitted_at).as_secs_f64(),
            promised_at: now,
            schedule: PollSchedule::new(config.timeout_progress()),
            resubmission: None,
            phase: Phase::Queued,
            payload: Payload::Unknown,
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
    /// A request other than a poll has succeeded, after polls failed.
    Succeeded {
        /// When, however late the poller learns of it.
        at: Instant,
    },
    /// Complete everything with `Closed` and end.
    Close,
}

/// How a poll ended.
pub(super) enum Reply {
    Polled {
        outcome: PollOutcome<Decoded>,
        /// The duration of the poll.
        held: Duration,
        trouble: Option<Trouble>,
    },
    /// All samples of a session were polled.
    SessionPolled {
        outcome: PollOutcome<RetrieveFuturesResponse>,
        /// The duration of the poll.
        held: Duration,
        trouble: Option<Trouble>,
    },
    /// The service was told that a sample is given up, or could not be.
    Cancelled,
    /// The poller cut it off.
    CutOff,
    Panicked,
}

/// The error of a promise when the poller, or the thread that polls it, has panicked.
pub(super) fn panicked() -> Error {
    Error::new(ErrorKind::Panicked, "a thread of the client panicked")
        .with_hint("see the log for the panic; ServiceClient::pending may still return the result")
}

//! Requests whose promise has expired, until it is time to submit them again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::call_state::Completer;
use crate::rules::poll_queue::Ticket;

/// How to submit a request again when its promise has expired.
///
/// A resubmission is a new request with a new sequence number. The server responds to a repeated number with the promise that it
/// made for that number before, which here is the expired one.
pub(crate) struct Resubmission {
    /// The wait before it. A number, since it is half the size of a `Duration`.
    wait_nanos: u64,
    /// Called on the poller's thread, so it must only hand the request to another thread.
    pub(super) run: Box<dyn FnOnce(Completer) + Send>,
}

impl Resubmission {
    /// Calls `run` after this wait.
    pub(crate) fn after(wait: Duration, run: impl FnOnce(Completer) + Send + 'static) -> Self {
        Resubmission { wait_nanos: u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX), run: Box::new(run) }
    }

    pub(super) fn wait(&self) -> Duration {
        Duration::from_nanos(self.wait_nanos)
    }
}

/// The promises that wait to be resubmitted, ordered by when they are due. No thread is blocked for them.
#[derive(Default)]
pub(super) struct ResubmitQueue(BTreeSet<(Instant, Ticket)>);

impl ResubmitQueue {
    pub(super) fn insert(&mut self, at: Instant, ticket: Ticket) {
        self.0.insert((at, ticket));
    }

    pub(super) fn remove(&mut self, at: Instant, ticket: Ticket) {
        self.0.remove(&(at, ticket));
    }

    /// When the next one is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Removes the next one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Ticket> {
        self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.pop_first().map(|(_, ticket)| ticket)
    }
}

//! Requests whose promise has expired, until the time comes to submit them anew.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::slots::{Part, Ticket};

/// How to submit a request anew when its promise has expired.
pub(crate) struct Resubmit {
    /// How long after that.
    pub(crate) wait: Duration,
    /// Runs on the poller's thread, so it only hands the request to another.
    pub(crate) run: Box<dyn FnOnce(Part) + Send>,
}

/// The requests that wait to be submitted anew. No thread is held meanwhile.
#[derive(Default)]
pub(super) struct Later {
    due: BTreeSet<(Instant, Ticket)>,
    waiting: HashMap<Ticket, (Instant, Resubmit, Part)>,
}

impl Later {
    pub(super) fn insert(&mut self, ticket: Ticket, resubmit: Resubmit, part: Part, now: Instant) {
        let at = now + resubmit.wait;
        self.due.insert((at, ticket));
        self.waiting.insert(ticket, (at, resubmit, part));
    }

    /// Gives a request up, which resolves it, if it waits here.
    pub(super) fn remove(&mut self, ticket: Ticket) {
        drop(self.take(ticket));
    }

    /// When the next one is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Submits what is due.
    pub(super) fn run_due(&mut self, now: Instant) {
        while let Some((_, ticket)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            if let Some((resubmit, part)) = self.take(ticket) {
                (resubmit.run)(part);
            }
        }
    }

    fn take(&mut self, ticket: Ticket) -> Option<(Resubmit, Part)> {
        let (at, resubmit, part) = self.waiting.remove(&ticket)?;
        self.due.remove(&(at, ticket));
        Some((resubmit, part))
    }
}

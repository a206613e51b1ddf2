//! Who has the connections: the running polls give them up to promises that someone waits for.

use std::time::{Duration, Instant};

use super::Worker;
use crate::pending::messages::Phase;
use crate::rules::poll_queue::{Ticket, time_slice};

/// The minimum time between two polls that are cut off for others: each cut costs a connection.
const MIN_BETWEEN_CUTS: Duration = Duration::from_millis(250);

impl Worker {
    /// When there is something to do, unless a command comes first.
    pub(super) fn wake_at(&mut self, now: Instant) -> Option<Instant> {
        if self.running < self.room.limit() {
            // Promises that are already due wait only for the end of an outage.
            let due = self.queue.next(now).and(self.outage.next());
            return due.into_iter().chain(self.queue.wake_at()).min();
        }
        let cut = self.starving(now).and_then(|_| self.next_to_cut_off()).map(|(at, _)| at);
        cut.into_iter().chain(self.queue.wake_at()).chain(self.room.grows_at()).min()
    }

    /// A promise that someone waits for and that has no connection, unless one is about to become free after a cut.
    fn starving(&mut self, now: Instant) -> Option<Ticket> {
        let cut_off = self.running - self.polling.len();
        self.queue.next(now).filter(|ticket| cut_off == 0 && self.queue.is_waited(*ticket))
    }

    /// The running poll to cut off next, and the earliest instant for that. A response on its way is left alone: a large result
    /// on a slow connection would start again and again.
    fn next_to_cut_off(&self) -> Option<(Instant, Ticket)> {
        let candidates = self.polling.iter().filter_map(|ticket| match self.phase(*ticket)? {
            Phase::Polling { request, began } if !request.has_response_started() => {
                let waited = self.queue.is_waited(*ticket);
                Some((waited, (*began + time_slice(waited)).max(self.next_cut), *ticket))
            }
            _ => None,
        });
        candidates.min().map(|(_, at, ticket)| (at, ticket))
    }

    /// Cuts a poll off when all connections are in use and someone waits for a promise without one.
    pub(super) fn make_room(&mut self, now: Instant) {
        if self.running < self.room.limit() || self.starving(now).is_none() {
            return;
        }
        let Some((_, ticket)) = self.next_to_cut_off().filter(|(at, _)| *at <= now) else { return };
        let away = time_slice(self.queue.is_waited(ticket));
        if self.cut_off(ticket, away) {
            self.next_cut = now + MIN_BETWEEN_CUTS;
        }
    }

    /// There was no descriptor for a poll. Has fewer run from now on, and ends some of the running ones. Returns false if none run.
    pub(super) fn yield_descriptors(&mut self, now: Instant) -> bool {
        let Some(ends) = self.room.shrink(self.running, now) else { return false };
        // Those that were cut off before still run until they reply.
        let ending = self.running.saturating_sub(self.polling.len());
        for _ in ending..ends {
            let Some((_, ticket)) = self.next_to_cut_off() else { break };
            self.cut_off(ticket, time_slice(self.queue.is_waited(ticket)));
        }
        true
    }

    /// Ends a running poll, and keeps it away from the connections for this long. Returns whether one was running.
    pub(super) fn cut_off(&mut self, ticket: Ticket, away: Duration) -> bool {
        let Some(phase) = self.phase_mut(ticket) else { return false };
        let Phase::Polling { request, .. } = phase else { return false };
        request.cancel();
        *phase = Phase::CutOff { away };
        self.polling.remove(&ticket);
        true
    }
}

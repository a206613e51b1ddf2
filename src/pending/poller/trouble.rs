//! The promises that nothing is heard of, as it is reported while they wait and when they are given up, and the service's recovery.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;

use super::Worker;
use crate::error::{Error, Limit};
use crate::http::Wait;
use crate::observer::WaitKind;
use crate::pending::call_state::LastWord;
use crate::pending::trouble::{Trouble, Troubled};
use crate::rules::outage::OutageChange;
use crate::rules::poll_queue::Ticket;
use crate::rules::poll_response::PollOutcome;
use crate::rules::wait_log::{Doing, PATIENCE_PENDING, WaitEnd};

/// The reason while there is no trouble.
const UNFINISHED: &str = "the service has not finished it";

/// The promises of a poller that nothing is heard of.
#[derive(Default)]
pub(super) struct News {
    /// Since the last result, while all is well.
    wait: Option<Wait>,
    /// The promises whose polls bring neither a result nor the word that all is well.
    promises: HashMap<Ticket, Box<Troubled>>,
    /// As many clones as there are promises and sessions with trouble.
    pub(super) troubled: Arc<()>,
}

impl News {
    /// The promise is no longer polled. `arrived`: its result has come.
    pub(super) fn forget(&mut self, ticket: Ticket, arrived: bool) {
        self.promises.remove(&ticket);
        if arrived {
            self.wait = None;
        }
    }
}

impl Worker {
    /// Waits for news of the promises while all is well with them.
    pub(super) fn watch_news(&mut self, now: Instant) {
        let some = self.promises.values().next().filter(|_| Arc::strong_count(&self.news.troubled) == 1);
        match some {
            None => self.news.wait = None,
            Some(promise) if self.news.wait.is_none() => {
                let operation = promise.completer.operation();
                let wait = self.http.wait(WaitKind::Result, operation, PATIENCE_PENDING, WaitEnd::Never, now);
                wait.set_doing(Doing::Queued(UNFINISHED));
                self.news.wait = Some(wait);
            }
            Some(_) => {}
        }
    }

    /// The outcome of a poll of this promise, which is not ready.
    pub(super) fn note_trouble(&mut self, ticket: Ticket, trouble: Option<Trouble>, held: Duration, now: Instant) {
        let Some(promise) = self.promises.get(&ticket) else { return };
        let mut troubled = self.news.promises.remove(&ticket);
        if trouble.is_none() && troubled.is_none() {
            return;
        }
        let context = (&*self.http, promise.completer.operation(), &self.news.troubled);
        Troubled::record(&mut troubled, trouble, context, &promise.schedule, (held, now));
        promise.completer.set_last_word(troubled.as_ref().map(|troubled| troubled.last_word()));
        self.news.promises.extend(troubled.map(|troubled| (ticket, troubled)));
    }

    /// The error of a promise of which nothing was heard for the whole progress timeout, or of a sample in this session.
    pub(super) fn no_progress(&self, ticket: Ticket, session: Option<Ticket>) -> Error {
        let hint = "the service may be down; ServiceClient::pending can wait for the result again later";
        let error = Error::timeout(Limit::Progress).with_hint(hint);
        let promise = self.promises.get(&ticket);
        let session = session.and_then(|session| self.sessions.get(&session));
        let of_promise =
            promise.and_then(|promise| Some((self.news.promises.get(&ticket)?, promise.schedule.silent())));
        let of_session = || session.and_then(|session| Some((session.troubled.as_ref()?, session.schedule.silent())));
        match of_promise.or_else(of_session) {
            Some((troubled, silent)) => {
                let LastWord { reason, tries } = troubled.last_word();
                let error = error.with_last_word(Limit::Progress, &reason, tries, silent);
                match troubled.failure() {
                    Some(failure) => error.with_source(failure.clone()),
                    None => error,
                }
            }
            None => error,
        }
    }

    /// Records what the outcome of a poll says about the service.
    pub(super) fn record<T>(&mut self, outcome: &PollOutcome<T>, now: Instant) {
        // An outage has no line of its own above this level: the waits that it causes are reported.
        match self.outage.record(outcome, now) {
            Some(OutageChange::Began) => {
                debug!("the service cannot be reached; polls start one after another until it can");
            }
            Some(OutageChange::Ended) => debug!("the service can be reached again"),
            None => {}
        }
        if self.recovery.record(outcome, now) {
            self.recover(now);
        }
        if self.recovery.is_failing() {
            self.http.watch_successes();
        }
    }

    /// Polls everything at once that waits after a failure.
    pub(super) fn recover(&mut self, now: Instant) {
        debug!("the service is back; everything that waits after a failure is polled now");
        self.outage.end();
        self.outdated.extend(&self.polling);
        let promises = self.promises.iter_mut().map(|(ticket, promise)| (*ticket, &mut promise.schedule));
        let sessions = self.sessions.iter_mut().map(|(ticket, session)| (*ticket, &mut session.schedule));
        for (ticket, schedule) in promises.chain(sessions) {
            let Some(due) = self.queue.due(ticket) else { continue };
            if schedule.end_outage(due.saturating_duration_since(now)) && due > now {
                self.queue.set_due(ticket, now);
            }
        }
    }
}

//! Promises as they come.

use std::time::Instant;

use super::Worker;
use crate::error::{Error, ErrorKind};
use crate::pending::call_state::WRONG_RESULT;
use crate::pending::messages::{Phase, TrackedPromise};
use crate::rules::poll_queue::Ticket;
use crate::rules::promise_ids::Submitted;

impl Worker {
    /// Has a promise polled: with the other samples of its session, or by itself.
    pub(super) fn add(
        &mut self,
        ticket: Ticket,
        promise: Box<TrackedPromise>,
        number: Option<u64>,
        waited: bool,
        now: Instant,
    ) {
        let (client, operation) = (promise.client.id, promise.completer.operation());
        let submitted = number.map(|number| Submitted { client, operation, number });
        let before = submitted.and_then(|submitted| self.ids.promised(&promise.request_id, submitted));
        if let Some((submitted, before)) = submitted.zip(before) {
            let error = shared_promise(submitted, before);
            self.observer.resolved(&promise, Some(&error), now);
            return promise.completer.complete(Err(error));
        }
        let target = promise.client.target.clone();
        self.promises.insert(ticket, promise);
        match target {
            Some(target) => self.join_session(ticket, &target, waited, now),
            None => self.poll_alone(ticket, waited, now),
        }
    }

    /// Has a promise polled by itself from this instant on.
    pub(super) fn poll_alone(&mut self, ticket: Ticket, waited: bool, at: Instant) {
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        promise.phase = Phase::Queued;
        self.queue.insert(ticket, promise.client.id, promise.client.ordered, at);
        self.queue.set_waited(ticket, waited);
    }
}

/// The error of a submission for which the service gave the promise of another one.
fn shared_promise(submitted: Submitted, before: Submitted) -> Error {
    let of = if before.client == submitted.client { "" } else { " of another client" };
    let why =
        format!("the service gave the promise of {before}{of} for {submitted}, whose result cannot be told apart");
    Error::new(ErrorKind::Decode, why).with_effect(true).with_hint(WRONG_RESULT)
}

//! Hands requests to the pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;

use super::Worker;
use crate::error::{Error, ErrorKind};
use crate::http::RequestHandle;
use crate::pending::job::{CancelJob, Job};
use crate::pending::messages::{Payload, Phase};
use crate::pending::poll::PollJob;
use crate::pending::reply_sender::ReplySender;
use crate::rules::poll_queue::Ticket;
use crate::rules::poll_response::NotReady;
use crate::rules::poll_schedule::is_lasting_shortage;

impl Worker {
    /// Starts as many polls as there are connections for.
    pub(super) fn dispatch(&mut self, now: Instant) {
        while self.running < self.room.limit() && self.outage.allows(now) {
            let Some(ticket) = self.queue.next(now) else { return };
            let request = Arc::<RequestHandle>::default();
            let Some(job) = self.poll_job(ticket, &request, now).or_else(|| self.session_job(ticket, &request)) else {
                self.queue.remove(ticket);
                continue;
            };
            if let Some(phase) = self.phase_mut(ticket) {
                *phase = Phase::Polling { request, began: now };
            }
            self.queue.mark_polling(ticket);
            self.polling.insert(ticket);
            self.running += 1;
            self.outage.begin(now);
            if let Err((job, error)) = self.pool.submit(job) {
                job.forget();
                self.running -= 1;
                self.polling.remove(&ticket);
                return self.not_polled(ticket, error, now);
            }
        }
    }

    /// The poll of a promise.
    fn poll_job(&mut self, ticket: Ticket, request: &Arc<RequestHandle>, now: Instant) -> Option<Job> {
        let promise = self.promises.get_mut(&ticket)?;
        if let Some(due) = self.queue.due(ticket) {
            promise.schedule.wait_in_silence(self.outage.silence(due, now));
        }
        Some(Job::Poll(Box::new(PollJob {
            operation: promise.completer.operation(),
            request_id: Arc::clone(&promise.request_id),
            kind: promise.kind,
            client: promise.client.id,
            round_trip: promise.round_trip,
            promised_at: promise.promised_at,
            iteration: promise.schedule.begin(),
            unreachable: promise.schedule.unreachable(),
            shortages: promise.schedule.shortages(),
            excuses_bad_request: promise.schedule.excuses_bad_request(),
            unpaid_since: promise.schedule.unpaid_since(),
            is_measured: promise.payload != Payload::Unknown,
            decode: promise.completer.decode(),
            request: Arc::clone(request),
            reply: ReplySender::new(ticket, &self.replies),
        })))
    }

    /// The pool did not take a poll.
    fn not_polled(&mut self, ticket: Ticket, error: Error, now: Instant) {
        if error.kind() == ErrorKind::Closed {
            return self.finish(ticket, Err(error));
        }
        // The system could not start a thread. Soon it may.
        warn!("{error}");
        if self.retry_session(ticket, &error, now) {
            return;
        }
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        if is_lasting_shortage(promise.schedule.shortages()) {
            return self.finish(ticket, Err(error));
        }
        match promise.schedule.next(&NotReady::Shortage, Duration::ZERO, now, fastrand::f64()) {
            Some(at) => self.enqueue(ticket, at),
            None => self.finish(ticket, Err(error)),
        }
    }

    /// Tells the service which samples nobody wants any more. Before the polls: these requests are short, and each saves work.
    pub(super) fn cancel_samples(&mut self, now: Instant) {
        if self.given_up.is_empty() {
            return;
        }
        let most = self.http.dynamic_config().sample_cancel_max_batch_size;
        while self.running < self.room.limit() && self.cancelling.len() < most && self.outage.allows(now) {
            let Some((ticket, request_id)) = self.given_up.pop_front() else { return };
            let job = Job::Cancel(CancelJob { request_id, reply: ReplySender::new(ticket, &self.replies) });
            match self.pool.submit(job) {
                Ok(()) => {
                    self.cancelling.insert(ticket);
                    self.running += 1;
                }
                Err((job, _)) => job.forget(),
            }
        }
    }
}

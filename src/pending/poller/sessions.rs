//! The samples of a sampling session that share one poll.
//!
//! The poll has a ticket in the queue like a promise, so it takes turns with the others, is cut off for them, and waits during an
//! outage. Its samples are in no queue until they are finished, and are then polled by themselves. They all are from the start
//! if the service turns out not to poll samples together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::info;

use super::Worker;
use crate::error::Error;
use crate::http::RequestHandle;
use crate::pending::job::{Job, SessionPollJob};
use crate::pending::messages::{Phase, PollClient, Reply, SamplingTarget, TrackedPromise};
use crate::pending::reply_sender::ReplySender;
use crate::pending::trouble::{Trouble, Troubled};
use crate::rules::poll_queue::{ClientId, Ticket};
use crate::rules::poll_response::{NotReady, PollOutcome};
use crate::rules::poll_schedule::{PollSchedule, is_lasting_shortage};
use crate::rules::session_poll::{SessionPoll, Wanted};
use crate::types::wire::RetrieveFuturesResponse;

/// How often the service may fail to hear which results were fetched while there is nothing else to ask.
const MAX_ACKNOWLEDGEMENTS: u32 = 3;

/// How often samples are looked for that take unusually long.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The samples of a session, and their poll.
pub(super) struct SessionState {
    target: Arc<SamplingTarget>,
    client: ClientId,
    samples: SessionPoll,
    pub(super) phase: Phase,
    pub(super) schedule: PollSchedule,
    /// While its polls fail.
    pub(super) troubled: Option<Box<Troubled>>,
    /// Whether the poll is in the queue.
    is_queued: bool,
    /// How many of the samples someone waits for.
    waited: usize,
    /// Acknowledgements in a row that failed.
    failed: u32,
    look_at: Instant,
}

impl Worker {
    /// Has a promise polled with the others of its session, or by itself if that is over.
    pub(super) fn join_session(&mut self, ticket: Ticket, target: &Arc<SamplingTarget>, waited: bool, now: Instant) {
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        if target.is_single.load(Ordering::Relaxed) {
            return self.poll_alone(ticket, waited, now);
        }
        promise.phase = Phase::Grouped { waited };
        let (request_id, client) = (Arc::clone(&promise.request_id), promise.client.id);
        let session = self.session(target, client, now);
        match session.samples.add(&request_id, ticket) {
            None => session.waited += usize::from(waited),
            Some(size) => self.deliver(ticket, size, waited, now),
        }
        self.update_session(target.ticket, now);
    }

    /// Fetches the result of a sample that is finished.
    fn deliver(&mut self, ticket: Ticket, size: Option<u64>, waited: bool, now: Instant) {
        let promised_at = self.promises.get(&ticket).map_or(now, |promise| promise.promised_at);
        self.poll_alone(ticket, waited, promised_at);
        if let Some(size) = size {
            self.fetch(ticket, size);
        }
    }

    /// Whether someone waits for a sample has changed.
    pub(super) fn set_waited_in_session(&mut self, ticket: Ticket, waited: bool) {
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        let Phase::Grouped { waited: before } = &mut promise.phase else { return };
        let was_waited = std::mem::replace(before, waited);
        let Some(target) = &promise.client.target else { return };
        let Some(session) = self.sessions.get_mut(&target.ticket) else { return };
        session.waited = session.waited + usize::from(waited) - usize::from(was_waited);
        self.queue.set_waited(target.ticket, session.waited > 0);
    }

    /// A promise is no longer polled: it is finished, or nobody wants it.
    pub(super) fn leave_session(&mut self, promise: &TrackedPromise, now: Instant) {
        let Phase::Grouped { waited } = promise.phase else {
            return self.acknowledge(&promise.client, &promise.request_id, now);
        };
        let Some(target) = &promise.client.target else { return };
        let Some(session) = self.sessions.get_mut(&target.ticket) else { return };
        session.samples.give_up(&promise.request_id);
        session.waited -= usize::from(waited);
        if session.samples.wanted() != Some(Wanted::Completions) {
            // Its poll would be held for nobody.
            self.cut_off(target.ticket, Duration::ZERO);
        }
        self.update_session(target.ticket, now);
    }

    /// Has the service told that a result was fetched.
    pub(super) fn acknowledge(&mut self, client: &PollClient, request_id: &Arc<str>, now: Instant) {
        let Some(target) = &client.target else { return };
        if !target.is_single.load(Ordering::Relaxed) {
            self.session(target, client.id, now).samples.retrieved(request_id);
            self.update_session(target.ticket, now);
        }
    }

    /// The state of a session, which is made anew if it was forgotten. Then those are forgotten whose client is gone: what they
    /// know of samples that were given up is of no use any more.
    fn session(&mut self, target: &Arc<SamplingTarget>, client: ClientId, now: Instant) -> &mut SessionState {
        if !self.sessions.contains_key(&target.ticket) {
            self.sessions.retain(|_, session| session.is_queued || Arc::strong_count(&session.target) > 1);
        }
        self.sessions.entry(target.ticket).or_insert_with(|| SessionState::new(target, client, now))
    }

    /// Puts the poll of a session into the queue if there is something to ask, and forgets a session without samples.
    fn update_session(&mut self, ticket: Ticket, now: Instant) {
        let Some(session) = self.sessions.get_mut(&ticket) else { return };
        match session.samples.wanted() {
            Some(_) if !session.is_queued => {
                session.is_queued = true;
                self.queue.insert(ticket, session.client, false, now);
            }
            None if session.is_queued && matches!(session.phase, Phase::Queued) => {
                session.is_queued = false;
                self.queue.remove(ticket);
            }
            _ => {}
        }
        self.queue.set_waited(ticket, session.waited > 0);
        if !session.is_queued && session.samples.is_idle() {
            self.sessions.remove(&ticket);
        }
    }

    /// The poll of a session.
    pub(super) fn session_job(&mut self, ticket: Ticket, request: &Arc<RequestHandle>) -> Option<Job> {
        let session = self.sessions.get_mut(&ticket)?;
        Some(Job::Session(Box::new(SessionPollJob {
            target: Arc::clone(&session.target),
            content: session.samples.begin()?,
            shortages: session.schedule.shortages(),
            excuses_bad_request: session.schedule.excuses_bad_request(),
            unpaid_since: session.schedule.unpaid_since(),
            request: Arc::clone(request),
            reply: ReplySender::new(ticket, &self.replies),
        })))
    }

    /// Polls a session again that could not be polled. Returns whether the ticket is one's.
    pub(super) fn retry_session(&mut self, ticket: Ticket, error: &Error, now: Instant) -> bool {
        let Some(session) = self.sessions.get_mut(&ticket) else { return false };
        if is_lasting_shortage(session.schedule.shortages()) {
            self.split_session(ticket, &error.to_string(), now);
            return true;
        }
        session.phase = Phase::Queued;
        let at = session.schedule.next(&NotReady::Shortage, Duration::ZERO, now, fastrand::f64());
        self.queue.set_due(ticket, at.unwrap_or(now));
        true
    }

    pub(super) fn session_replied(&mut self, ticket: Ticket, reply: Reply, is_outdated: bool, now: Instant) {
        let Some(session) = self.sessions.get_mut(&ticket) else { return };
        let phase = std::mem::replace(&mut session.phase, Phase::Queued);
        match reply {
            Reply::SessionPolled { outcome: PollOutcome::NotReady(NotReady::Shortage), .. }
                if self.yield_descriptors(now) =>
            {
                self.queue.set_due(ticket, now);
            }
            Reply::SessionPolled { outcome, held, trouble } => {
                self.record(&outcome, now);
                self.session_polled(ticket, outcome, trouble, (held, is_outdated), now);
            }
            Reply::CutOff => self.queue.set_due(ticket, now + phase.away()),
            Reply::Panicked => self.split_session(ticket, "the client panicked", now),
            Reply::Polled { .. } | Reply::Cancelled => {}
        }
        self.update_session(ticket, now);
    }

    fn session_polled(
        &mut self,
        ticket: Ticket,
        outcome: PollOutcome<RetrieveFuturesResponse>,
        trouble: Option<Trouble>,
        (held, is_outdated): (Duration, bool),
        now: Instant,
    ) {
        let Some(session) = self.sessions.get_mut(&ticket) else { return };
        let not_ready = match outcome {
            PollOutcome::Ready(response) => {
                (session.failed, session.troubled) = (0, None);
                return self.session_told(ticket, response, held, now);
            }
            PollOutcome::Failed(error) => return self.split_session(ticket, &error.to_string(), now),
            PollOutcome::Gone { detail } => return self.split_session(ticket, &detail, now),
            PollOutcome::NotReady(not_ready) => not_ready,
        };
        let at = session.schedule.next(&not_ready, held, now, fastrand::f64());
        let at = at.map(|at| if is_outdated { session.schedule.due_after_recovery(at, now) } else { at });
        self.queue.set_due(ticket, at.unwrap_or(now));
        if session.samples.waiting().next().is_some() {
            let (troubled, schedule) = (&mut session.troubled, &session.schedule);
            let context = (&*self.http, "sample", &self.news.troubled);
            Troubled::record(troubled, trouble, context, schedule, (held, now));
        }
        if session.samples.wanted() == Some(Wanted::Acknowledgement) {
            session.failed += 1;
            if session.failed >= MAX_ACKNOWLEDGEMENTS {
                session.samples.forget_retrieved();
            }
        }
        let silent = session.schedule.silent();
        let waiting: Vec<_> = session.samples.waiting().collect();
        for sample in waiting {
            // A sample that came later has waited for less.
            let expires = |promise: &TrackedPromise| {
                promise.schedule.expires_after(silent.min(now.saturating_duration_since(promise.promised_at)))
            };
            if self.promises.get(&sample).is_some_and(|promise| expires(promise)) {
                self.finish(sample, Err(self.no_progress(sample, Some(ticket))));
            }
        }
    }

    /// The service told which samples are finished.
    fn session_told(&mut self, ticket: Ticket, response: RetrieveFuturesResponse, held: Duration, now: Instant) {
        let Some(session) = self.sessions.get_mut(&ticket) else { return };
        let delivery = session.samples.completed(response);
        session.target.cursor.store(session.samples.cursor(), Ordering::Relaxed);
        let at = if delivery.is_progress {
            session.schedule = PollSchedule::new(Duration::MAX);
            now
        } else {
            let nothing = NotReady::Pending { queue_state: None, reason: None };
            session.schedule.next(&nothing, held, now, fastrand::f64()).unwrap_or(now)
        };
        self.queue.set_due(ticket, at);
        for (sample, size) in delivery.ready {
            let waited = self.leave_group(ticket, sample);
            self.deliver(sample, size, waited, now);
        }
        let Some(session) = self.sessions.get_mut(&ticket) else { return };
        if session.samples.is_confused() {
            return self.split_session(ticket, "it tells of unknown requests", now);
        }
        if session.look_at <= now {
            session.look_at = now + LOOK_EVERY;
            let waiting: Vec<_> = session.samples.waiting().collect();
            for sample in waiting {
                self.poll_if_overdue(ticket, sample, now);
            }
        }
    }

    /// Polls a sample by itself that takes as long as one may go without any word: its completion may be lost.
    fn poll_if_overdue(&mut self, session: Ticket, sample: Ticket, now: Instant) {
        let Some(promise) = self.promises.get(&sample) else { return };
        if promise.schedule.expires_after(now.saturating_duration_since(promise.promised_at)) {
            let request_id = Arc::clone(&promise.request_id);
            let waited = self.leave_group(session, sample);
            if let Some(session) = self.sessions.get_mut(&session) {
                session.samples.remove(&request_id);
            }
            self.poll_alone(sample, waited, now);
        }
    }

    /// Takes a sample out of the count of those that someone waits for. Returns whether someone waits for it.
    fn leave_group(&mut self, session: Ticket, sample: Ticket) -> bool {
        let Some(promise) = self.promises.get_mut(&sample) else { return false };
        let Phase::Grouped { waited } = promise.phase else { return false };
        promise.phase = Phase::Queued;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.waited -= usize::from(waited);
        }
        waited
    }

    /// Polls each sample of a session by itself from now on.
    fn split_session(&mut self, ticket: Ticket, why: &str, now: Instant) {
        let Some(session) = self.sessions.get_mut(&ticket) else { return };
        session.target.is_single.store(true, Ordering::Relaxed);
        let waiting = session.samples.take_waiting();
        info!("samples are polled one by one, since they could not be polled together: {why}");
        for sample in waiting {
            let waited = self.leave_group(ticket, sample);
            self.poll_alone(sample, waited, now);
        }
        self.sessions.remove(&ticket);
        self.queue.remove(ticket);
    }
}

impl SessionState {
    fn new(target: &Arc<SamplingTarget>, client: ClientId, now: Instant) -> Self {
        SessionState {
            target: Arc::clone(target),
            client,
            samples: SessionPoll::new(target.cursor.load(Ordering::Relaxed)),
            phase: Phase::Queued,
            schedule: PollSchedule::new(Duration::MAX),
            troubled: None,
            is_queued: false,
            waited: 0,
            failed: 0,
            look_at: now + LOOK_EVERY,
        }
    }
}

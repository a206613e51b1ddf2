//! The one thread that owns every promise of a session.
//!
//! It decides which promise is polled when, what an outcome leads to and who gets it; the rules are [`poll_schedule`],
//! [`poll_queue`] and [`outage`]. The polls themselves run on a pool, one long poll per thread, which also classifies and
//! decodes the responses. After an outage, all that fail are polled at once ([`recovery`]).
//!
//! A promise is one [`TrackedPromise`] in one map. Everything else is a list of tickets. Where the service allows it, the samples
//! of a session share one poll ([`sessions`]), which has a ticket of its own; only what is finished is then polled by itself.
//!
//! [`poll_schedule`]: crate::rules::poll_schedule
//! [`poll_queue`]: crate::rules::poll_queue
//! [`outage`]: crate::rules::outage
//! [`recovery`]: crate::rules::recovery

mod connections;
mod dispatch;
mod sessions;
mod trouble;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::{debug, error};

use super::call_state::Decoded;
use super::handle::PollerHandle;
use super::job::Job;
use super::messages::{Command, Payload, Phase, Reply, TrackedPromise, panicked};
use super::observe::PromiseObserver;
use super::resubmit::ResubmitQueue;
use crate::clock::{Clock, Received};
use crate::error::{Error, ErrorKind, Limit, Result, shown_id};
use crate::http::Http;
use crate::rules::outage::OutageDetector;
use crate::rules::payload_budget::PayloadBudget;
use crate::rules::poll_queue::{PollQueue, Ticket};
use crate::rules::poll_response::{NotReady, PollOutcome};
use crate::rules::poll_room::PollRoom;
use crate::rules::recovery::RecoveryDetector;
use crate::session::{Dependent, Telemetry};
use crate::threads::{OwnedThread, Pool, panic_text};
use crate::types::RequestKind;
use sessions::SessionState;
use trouble::News;

/// Owns the poller's thread and pool.
pub(crate) struct Poller {
    handle: PollerHandle,
    thread: OwnedThread,
    pool: Arc<Pool<Job>>,
}

impl Poller {
    pub(crate) fn spawn(http: &Arc<Http>, telemetry: Telemetry) -> Result<Self> {
        let config = http.config();
        let (commands, inbox) = unbounded();
        let handle = PollerHandle::new(config.clock().clone(), commands.clone());
        let (successes, clock) = (commands.clone(), config.clock().clone());
        http.on_success(move || drop(successes.send(Command::Succeeded { at: clock.now() })));
        let observer = Arc::new(PromiseObserver::new(http, telemetry));
        let max_polls = config.max_poll_connections();
        let pool = {
            let (http, observer) = (Arc::clone(http), Arc::clone(&observer));
            let run = move |job: Job| job.run(&http, &observer);
            Arc::new(Pool::new(&config.thread_options(), "poll", max_polls, run))
        };
        let flag = FlagPanic(handle.clone());
        let worker = Worker {
            clock: config.clock().clone(),
            http: Arc::clone(http),
            inbox,
            replies: commands,
            pool: Arc::clone(&pool),
            observer,
            promises: HashMap::new(),
            sessions: HashMap::new(),
            queue: PollQueue::default(),
            polling: BTreeSet::new(),
            resubmits: ResubmitQueue::default(),
            outage: OutageDetector::default(),
            recovery: RecoveryDetector::default(),
            outdated: BTreeSet::new(),
            news: News::default(),
            budget: PayloadBudget::new(http.client_config().inflight_response_bytes_semaphore_size as u64),
            given_up: VecDeque::new(),
            cancelling: BTreeSet::new(),
            running: 0,
            room: PollRoom::new(max_polls),
            next_cut: config.clock().now(),
        };
        let thread = OwnedThread::spawn(&config.thread_options(), "poller", move || {
            // Unwinding drops the promises, which gives everyone who waits an error of kind `Panicked`.
            let run = AssertUnwindSafe(|| {
                let mut worker = worker;
                // Declared after the worker and so dropped before it: the flag is set before the inbox is gone, and a promise
                // that the inbox no longer takes finds it set.
                let _flag = flag;
                worker.run();
            });
            if let Err(panic) = catch_unwind(run) {
                error!("the poller panicked: {}", panic_text(&*panic));
            }
        })?;
        Ok(Poller { handle, thread, pool })
    }

    pub(crate) fn handle(&self) -> &PollerHandle {
        &self.handle
    }
}

impl Dependent for Poller {
    /// Completes everything with `Closed` and ends the threads. The connections must be shut down before.
    fn close(&self, deadline: Instant) {
        self.handle.send(Command::Close);
        self.pool.close();
        self.thread.join_by(deadline);
        self.pool.join_by(deadline);
    }
}

struct FlagPanic(PollerHandle);

impl Drop for FlagPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.mark_panicked();
        }
    }
}

/// The state of the poller's thread.
struct Worker {
    clock: Clock,
    http: Arc<Http>,
    inbox: Receiver<Command>,
    replies: Sender<Command>,
    pool: Arc<Pool<Job>>,
    observer: Arc<PromiseObserver>,
    /// Boxed: there may be tens of thousands of promises, and a hash table keeps empty slots of their size.
    promises: HashMap<Ticket, Box<TrackedPromise>>,
    /// The sampling sessions whose samples are polled together, by the ticket of that poll.
    sessions: HashMap<Ticket, SessionState>,
    /// Those to be polled.
    queue: PollQueue,
    /// Those in [`Phase::Polling`].
    polling: BTreeSet<Ticket>,
    /// Those in [`Phase::Resubmitting`].
    resubmits: ResubmitQueue,
    outage: OutageDetector,
    recovery: RecoveryDetector,
    /// Polls that began before the last outage ended: their failures say nothing about the time after.
    outdated: BTreeSet<Ticket>,
    news: News,
    /// The results that are being received.
    budget: PayloadBudget,
    /// The samples of which the service is to be told that nobody wants them.
    given_up: VecDeque<(Ticket, Arc<str>)>,
    /// Those of which it is being told.
    cancelling: BTreeSet<Ticket>,
    /// The number of jobs that have not replied, those that were cut off included.
    running: usize,
    room: PollRoom,
    /// The earliest instant at which the next poll may be cut off.
    next_cut: Instant,
}

impl Worker {
    fn run(&mut self) {
        let clock = self.clock.clone();
        loop {
            // One instant for all steps: a promise that becomes due in between still counts as asleep, so it sets the alarm.
            let now = clock.now();
            self.room.grow(now);
            self.resubmit_due(now);
            self.cancel_samples(now);
            self.dispatch(now);
            self.make_room(now);
            self.watch_news(now);
            let wake_at = self.wake_at(now).into_iter().chain(self.resubmits.wake_at()).min();
            let mut next = match clock.receive_until(&self.inbox, wake_at) {
                Received::Message(command) => Some(command),
                Received::Deadline => None,
                Received::Disconnected => return,
            };
            while let Some(command) = next {
                if self.execute(command, clock.now()).is_break() {
                    return;
                }
                next = self.inbox.try_recv().ok();
            }
        }
    }

    fn phase(&self, ticket: Ticket) -> Option<&Phase> {
        let promise = self.promises.get(&ticket).map(|promise| &promise.phase);
        promise.or_else(|| self.sessions.get(&ticket).map(|session| &session.phase))
    }

    fn phase_mut(&mut self, ticket: Ticket) -> Option<&mut Phase> {
        match self.promises.get_mut(&ticket) {
            Some(promise) => Some(&mut promise.phase),
            None => self.sessions.get_mut(&ticket).map(|session| &mut session.phase),
        }
    }

    /// Executes one command. Breaks when the poller is to end.
    fn execute(&mut self, command: Command, now: Instant) -> ControlFlow<()> {
        match command {
            Command::Add { ticket, promise, waited } => self.add(ticket, promise, waited, now),
            Command::SetWaited { ticket, waited } => {
                self.queue.set_waited(ticket, waited);
                self.set_waited_in_session(ticket, waited);
            }
            Command::Abandon { ticket, expired } => self.abandon(ticket, expired, now),
            Command::Replied(ticket, reply) => {
                self.running -= 1;
                self.polling.remove(&ticket);
                if !self.cancelling.remove(&ticket) {
                    self.replied(ticket, reply, now);
                }
                self.give_up_silent(now);
            }
            Command::Succeeded { at } => {
                if self.recovery.record_success(at) {
                    self.recover(now);
                }
            }
            Command::Close => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    /// Has a promise polled: with the other samples of its session, or by itself.
    fn add(&mut self, ticket: Ticket, promise: Box<TrackedPromise>, waited: bool, now: Instant) {
        let target = promise.client.target.clone();
        self.promises.insert(ticket, promise);
        match target {
            Some(target) => self.join_session(ticket, &target, waited, now),
            None => self.poll_alone(ticket, waited, now),
        }
    }

    /// Has a promise polled by itself from this instant on.
    fn poll_alone(&mut self, ticket: Ticket, waited: bool, at: Instant) {
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        promise.phase = Phase::Queued;
        self.queue.insert(ticket, promise.client.id, promise.client.ordered, at);
        self.queue.set_waited(ticket, waited);
    }

    fn abandon(&mut self, ticket: Ticket, expired: bool, now: Instant) {
        self.queue.remove(ticket);
        self.polling.remove(&ticket);
        self.news.forget(ticket, false);
        let Some(promise) = self.promises.remove(&ticket) else { return };
        if let Phase::Resubmitting { at } = promise.phase {
            return self.resubmits.remove(at, ticket);
        }
        if expired {
            self.observer.resolved(&promise, Some(&Error::timeout(Limit::Operation)), now);
        } else if promise.kind == RequestKind::Sample && self.http.dynamic_config().sample_cancel_enabled {
            self.given_up.push_back((ticket, Arc::clone(&promise.request_id)));
        }
        if let Phase::Polling { request, .. } = &promise.phase {
            request.cancel();
        }
        self.release(promise.payload);
        self.leave_session(&promise, now);
    }

    /// Makes room for other results, now that this one is received or not wanted any more.
    fn release(&mut self, payload: Payload) {
        let Payload::Reserved(size) = payload else { return };
        self.budget.release(size);
        while let Some((ticket, size)) = self.budget.next() {
            match self.promises.get_mut(&ticket) {
                Some(promise) if promise.payload == Payload::Waiting => {
                    promise.payload = Payload::Reserved(size);
                    self.queue.set_due(ticket, promise.promised_at);
                }
                _ => self.budget.release(size),
            }
        }
    }

    /// Polls for a result of this size once there is room for it. The promise must be in the queue.
    fn fetch(&mut self, ticket: Ticket, size: u64) {
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        promise.phase = Phase::Queued;
        if self.budget.reserve(ticket, size) {
            promise.payload = Payload::Reserved(size);
            // As if it were due for long: a finished result comes before polls that will be held.
            self.queue.set_due(ticket, promise.promised_at);
        } else {
            promise.payload = Payload::Waiting;
            // Until `release` makes it due.
            self.queue.mark_polling(ticket);
        }
    }

    fn replied(&mut self, ticket: Ticket, reply: Reply, now: Instant) {
        let is_outdated = self.outdated.remove(&ticket);
        if self.sessions.contains_key(&ticket) {
            return self.session_replied(ticket, reply, is_outdated, now);
        }
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        let (outcome, held, trouble) = match reply {
            Reply::Polled { outcome, held, trouble } => (outcome, held, trouble),
            Reply::CutOff => {
                let at = now + promise.phase.away();
                return self.enqueue(ticket, at);
            }
            Reply::Panicked => return self.finish(ticket, Err(panicked())),
            Reply::SessionPolled { .. } | Reply::Cancelled => return,
        };
        if matches!(outcome, PollOutcome::NotReady(NotReady::Shortage)) && self.yield_descriptors(now) {
            return self.enqueue(ticket, now);
        }
        self.record(&outcome, now);
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        match outcome {
            PollOutcome::NotReady(NotReady::Measured { size }) if promise.payload == Payload::Unknown => {
                self.fetch(ticket, size);
            }
            PollOutcome::Ready(result) => self.finish(ticket, Ok(result)),
            PollOutcome::Failed(error) => self.finish(ticket, Err(error)),
            PollOutcome::Gone { detail } => self.expired(ticket, &detail, now),
            PollOutcome::NotReady(not_ready) => {
                let next = promise.schedule.next(&not_ready, held, now, fastrand::f64());
                let next = next.map(|at| if is_outdated { promise.schedule.due_after_recovery(at, now) } else { at });
                self.note_trouble(ticket, trouble, held, now);
                match next {
                    Some(at) => self.enqueue(ticket, at),
                    None => self.finish(ticket, Err(self.no_progress(ticket, None))),
                }
            }
        }
    }

    /// Polls a promise again, not before this instant.
    fn enqueue(&mut self, ticket: Ticket, at: Instant) {
        if let Some(promise) = self.promises.get_mut(&ticket) {
            promise.phase = Phase::Queued;
            self.queue.set_due(ticket, at);
        }
    }

    /// While the service responds to no poll at all, gives up the queued promises whose progress timeout has run out. With many
    /// promises, most would never be polled again and so never end.
    fn give_up_silent(&mut self, now: Instant) {
        if !self.outage.is_silent() {
            return;
        }
        let silence = |ticket| self.queue.due(ticket).map_or(Duration::ZERO, |due| self.outage.silence(due, now));
        let mut given_up = Vec::new();
        for (ticket, promise) in &self.promises {
            let silence = silence(*ticket);
            if !silence.is_zero() && promise.schedule.expires_after(silence) {
                given_up.push(*ticket);
            }
        }
        given_up.into_iter().for_each(|ticket| self.finish(ticket, Err(self.no_progress(ticket, None))));
    }

    /// The server no longer knows the promise. Its request is submitted again later, if it has a resubmission.
    fn expired(&mut self, ticket: Ticket, detail: &str, now: Instant) {
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        let Some(resubmission) = &promise.resubmission else {
            let message = format!("the server no longer knows the promise, so the outcome is unknown: {detail}");
            let error = Error::new(ErrorKind::Expired, message)
                .with_status(410)
                .with_hint("load the last checkpoint, or compare the model's state, before repeating the step");
            return self.finish(ticket, Err(error));
        };
        let wait = resubmission.wait();
        debug!("promise {} expired; resubmitting its request in {wait:?}", shown_id(&promise.request_id));
        let at = now + wait;
        promise.phase = Phase::Resubmitting { at };
        let payload = std::mem::replace(&mut promise.payload, Payload::Unknown);
        // Unlike the expired request, the new one can still be withdrawn.
        promise.completer.mark_unwritten();
        let (client, request_id) = (Arc::clone(&promise.client), Arc::clone(&promise.request_id));
        self.queue.remove(ticket);
        self.news.forget(ticket, false);
        self.resubmits.insert(at, ticket);
        self.release(payload);
        self.acknowledge(&client, &request_id, now);
    }

    fn resubmit_due(&mut self, now: Instant) {
        while let Some(ticket) = self.resubmits.pop_due(now) {
            let Some(promise) = self.promises.remove(&ticket) else { continue };
            let TrackedPromise { completer, resubmission, .. } = *promise;
            if let Some(resubmission) = resubmission {
                (resubmission.run)(completer);
            }
        }
    }

    fn finish(&mut self, ticket: Ticket, result: Result<Decoded>) {
        self.queue.remove(ticket);
        if let Some(promise) = self.promises.remove(&ticket) {
            let now = self.clock.now();
            let result = if result.is_err() && self.http.is_ending() { Err(Error::closed()) } else { result };
            // Before the result, so that the event is emitted before the caller continues.
            self.observer.resolved(&promise, result.as_ref().err(), now);
            self.release(promise.payload);
            self.leave_session(&promise, now);
            self.news.forget(ticket, true);
            promise.completer.complete(result);
        }
    }
}

#[cfg(test)]
mod tests;

//! The one thread that owns every promise of a session.
//!
//! It decides which promise is polled when, what an outcome leads to and who gets it; the rules are [`poll_schedule`],
//! [`poll_queue`] and [`outage`]. The polls themselves run on a pool, one long poll per thread, which also classifies and
//! decodes the responses.
//!
//! A promise is one [`TrackedPromise`] in one map. Everything else is a list of tickets.
//!
//! [`poll_schedule`]: crate::rules::poll_schedule
//! [`poll_queue`]: crate::rules::poll_queue
//! [`outage`]: crate::rules::outage

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::{debug, error, info, warn};

use super::call_state::Decoded;
use super::handle::PollerHandle;
use super::messages::{Command, Phase, Reply, TrackedPromise, panicked};
use super::observe::PromiseObserver;
use super::poll::{PollJob, ReplySender};
use super::resubmit::ResubmitQueue;
use crate::clock::{Clock, Received};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::http::{Http, RequestHandle};
use crate::rules::outage::{OutageChange, OutageDetector};
use crate::rules::poll_queue::{PollQueue, Ticket, time_slice};
use crate::rules::poll_response::{NotReady, PollOutcome};
use crate::session::{Dependent, Telemetry};
use crate::threads::{OwnedThread, Pool, panic_text};

/// The minimum time between two polls that are cut off for others: each cut costs a connection.
const MIN_BETWEEN_CUTS: Duration = Duration::from_millis(250);

/// Owns the poller's thread and pool.
pub(crate) struct Poller {
    handle: PollerHandle,
    thread: OwnedThread,
    pool: Arc<Pool<PollJob>>,
}

impl Poller {
    pub(crate) fn spawn(http: &Arc<Http>, telemetry: Telemetry) -> Result<Self> {
        let config = http.config();
        let (commands, inbox) = unbounded();
        let handle = PollerHandle::new(config.clock().clone(), commands.clone());
        let observer = Arc::new(PromiseObserver::new(http, telemetry));
        let max_polls = config.max_poll_connections();
        let pool = {
            let (http, observer) = (Arc::clone(http), Arc::clone(&observer));
            let run = move |job: PollJob| job.run(&http, &observer);
            Arc::new(Pool::new(&config.thread_options(), "poll", max_polls, run))
        };
        let flag = FlagPanic(handle.clone());
        let worker = Worker {
            clock: config.clock().clone(),
            inbox,
            replies: commands,
            pool: Arc::clone(&pool),
            observer,
            promises: HashMap::new(),
            queue: PollQueue::default(),
            polling: BTreeSet::new(),
            resubmits: ResubmitQueue::default(),
            outage: OutageDetector::default(),
            running: 0,
            max_polls,
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
    inbox: Receiver<Command>,
    replies: Sender<Command>,
    pool: Arc<Pool<PollJob>>,
    observer: Arc<PromiseObserver>,
    /// Boxed: there may be tens of thousands of promises, and a hash table keeps empty slots of their size.
    promises: HashMap<Ticket, Box<TrackedPromise>>,
    /// Those to be polled.
    queue: PollQueue,
    /// Those in [`Phase::Polling`].
    polling: BTreeSet<Ticket>,
    /// Those in [`Phase::Resubmitting`].
    resubmits: ResubmitQueue,
    outage: OutageDetector,
    /// The number of jobs that have not replied, those that were cut off included.
    running: usize,
    max_polls: usize,
    /// The earliest instant at which the next poll may be cut off.
    next_cut: Instant,
}

impl Worker {
    fn run(&mut self) {
        let clock = self.clock.clone();
        loop {
            // One instant for all steps: a promise that becomes due in between still counts as asleep, so it sets the alarm.
            let now = clock.now();
            self.resubmit_due(now);
            self.dispatch(now);
            self.make_room(now);
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

    /// When there is something to do, unless a command comes first.
    fn wake_at(&mut self, now: Instant) -> Option<Instant> {
        if self.running < self.max_polls {
            // Promises that are already due wait only for the end of an outage.
            let due = self.queue.next(now).and(self.outage.next());
            return due.into_iter().chain(self.queue.wake_at()).min();
        }
        let cut = self.starving(now).and_then(|_| self.next_to_cut_off()).map(|(at, _)| at);
        cut.into_iter().chain(self.queue.wake_at()).min()
    }

    /// A promise that someone waits for and that has no connection, unless one is about to become free after a cut.
    fn starving(&mut self, now: Instant) -> Option<Ticket> {
        let cut_off = self.running - self.polling.len();
        self.queue.next(now).filter(|ticket| cut_off == 0 && self.queue.is_waited(*ticket))
    }

    /// The running poll to cut off next, and the earliest instant for that.
    fn next_to_cut_off(&self) -> Option<(Instant, Ticket)> {
        let candidates = self.polling.iter().filter_map(|ticket| match self.promises.get(ticket)?.phase {
            Phase::Polling { began, .. } => {
                let waited = self.queue.is_waited(*ticket);
                Some((waited, (began + time_slice(waited)).max(self.next_cut), *ticket))
            }
            _ => None,
        });
        candidates.min().map(|(_, at, ticket)| (at, ticket))
    }

    /// Cuts a poll off when all connections are in use and someone waits for a promise without one.
    fn make_room(&mut self, now: Instant) {
        if self.running < self.max_polls || self.starving(now).is_none() {
            return;
        }
        let Some((_, ticket)) = self.next_to_cut_off().filter(|(at, _)| *at <= now) else { return };
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        if let Phase::Polling { request, .. } = &promise.phase {
            request.cancel();
            promise.phase = Phase::CutOff;
            promise.away = time_slice(self.queue.is_waited(ticket));
            self.polling.remove(&ticket);
            self.next_cut = now + MIN_BETWEEN_CUTS;
        }
    }

    /// Executes one command. Breaks when the poller is to end.
    fn execute(&mut self, command: Command, now: Instant) -> ControlFlow<()> {
        match command {
            Command::Add { ticket, promise, waited } => {
                self.queue.insert(ticket, promise.client.id, promise.client.ordered, now);
                self.queue.set_waited(ticket, waited);
                self.promises.insert(ticket, promise);
            }
            Command::SetWaited { ticket, waited } => self.queue.set_waited(ticket, waited),
            Command::Abandon { ticket, expired } => self.abandon(ticket, expired, now),
            Command::Replied(ticket, reply) => {
                self.running -= 1;
                self.polling.remove(&ticket);
                self.replied(ticket, reply, now);
                self.give_up_silent(now);
            }
            Command::Close => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn abandon(&mut self, ticket: Ticket, expired: bool, now: Instant) {
        self.queue.remove(ticket);
        self.polling.remove(&ticket);
        let Some(promise) = self.promises.remove(&ticket) else { return };
        if let Phase::Resubmitting { at } = promise.phase {
            return self.resubmits.remove(at, ticket);
        }
        if expired {
            self.observer.resolved(&promise, Some(&Error::timeout(Limit::Operation)), now);
        }
        if let Phase::Polling { request, .. } = &promise.phase {
            request.cancel();
        }
    }

    /// Starts as many polls as there are connections for.
    fn dispatch(&mut self, now: Instant) {
        while self.running < self.max_polls && self.outage.allows(now) {
            let Some(ticket) = self.queue.next(now) else { return };
            let Some(promise) = self.promises.get_mut(&ticket) else {
                self.queue.remove(ticket);
                continue;
            };
            if let Some(due) = self.queue.due(ticket) {
                promise.schedule.wait_in_silence(self.outage.silence(due, now));
            }
            let request = Arc::<RequestHandle>::default();
            let job = PollJob {
                operation: promise.completer.operation(),
                request_id: Arc::clone(&promise.request_id),
                kind: promise.kind,
                client: promise.client.id,
                round_trip: promise.round_trip,
                promised_at: promise.promised_at,
                iteration: promise.schedule.begin(),
                unreachable: promise.schedule.unreachable(),
                excuses_bad_request: promise.schedule.excuses_bad_request(),
                decode: promise.completer.decode(),
                request: Arc::clone(&request),
                reply: ReplySender::new(ticket, &self.replies),
            };
            promise.phase = Phase::Polling { request, began: now };
            self.queue.mark_polling(ticket);
            self.polling.insert(ticket);
            self.running += 1;
            self.outage.begin(now);
            if let Err((job, error)) = self.pool.submit(job) {
                job.reply.forget();
                self.running -= 1;
                self.polling.remove(&ticket);
                return self.not_polled(ticket, error, now);
            }
        }
    }

    /// The pool did not take a poll.
    fn not_polled(&mut self, ticket: Ticket, error: Error, now: Instant) {
        if error.kind() == ErrorKind::Closed {
            return self.finish(ticket, Err(error));
        }
        // The system could not start a thread. Later it may.
        warn!("{error}");
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        match promise.schedule.next(&NotReady::Unreachable, Duration::ZERO, now, fastrand::f64()) {
            Some(at) => self.enqueue(ticket, at),
            None => self.finish(ticket, Err(error)),
        }
    }

    fn replied(&mut self, ticket: Ticket, reply: Reply, now: Instant) {
        let Some(promise) = self.promises.get_mut(&ticket) else { return };
        let (outcome, held) = match reply {
            Reply::Polled { outcome, held } => (outcome, held),
            Reply::CutOff => {
                let at = now + promise.away;
                return self.enqueue(ticket, at);
            }
            Reply::Panicked => return self.finish(ticket, Err(panicked())),
        };
        match self.outage.record(&outcome, now) {
            Some(OutageChange::Began) => warn!("the service cannot be reached; polling continues until it can"),
            Some(OutageChange::Ended) => info!("the service can be reached again"),
            None => {}
        }
        match outcome {
            PollOutcome::Ready(result) => self.finish(ticket, Ok(result)),
            PollOutcome::Failed(error) => self.finish(ticket, Err(error)),
            PollOutcome::Gone { detail } => self.expired(ticket, &detail, now),
            PollOutcome::NotReady(not_ready) => match promise.schedule.next(&not_ready, held, now, fastrand::f64()) {
                Some(at) => self.enqueue(ticket, at),
                None => self.finish(ticket, Err(no_progress())),
            },
        }
    }

    /// Polls a promise again, not before this instant.
    fn enqueue(&mut self, ticket: Ticket, at: Instant) {
        if let Some(promise) = self.promises.get_mut(&ticket) {
            promise.phase = Phase::Queued;
            self.queue.set_due(ticket, at);
        }
    }

    /// While the service answers no poll at all, gives up the queued promises whose progress timeout has run out. With many
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
        given_up.into_iter().for_each(|ticket| self.finish(ticket, Err(no_progress())));
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
        debug!("promise {} expired; resubmitting its request in {:?}", promise.request_id, resubmission.wait);
        let at = now + resubmission.wait;
        promise.phase = Phase::Resubmitting { at };
        // Unlike the expired request, the new one can still be withdrawn.
        promise.completer.mark_unwritten();
        self.queue.remove(ticket);
        self.resubmits.insert(at, ticket);
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
            // Before the result, so that the event is emitted before the caller continues.
            self.observer.resolved(&promise, result.as_ref().err(), self.clock.now());
            promise.completer.complete(result);
        }
    }
}

fn no_progress() -> Error {
    let hint = "the service may be down; ServiceClient::pending can wait for the result again later";
    Error::timeout(Limit::Progress).with_hint(hint)
}

#[cfg(test)]
mod tests;

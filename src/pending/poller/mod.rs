//! The one thread that owns every unresolved promise of a client.
//!
//! It decides who is polled when, what an answer means and who gets it; the rules are [`rules::answer`], [`rules::poll`]
//! and [`rules::seats`]. The polls themselves run on a pool, one long poll a thread, which also decodes the answers.
//!
//! [`rules::answer`]: crate::rules::answer
//! [`rules::poll`]: crate::rules::poll
//! [`rules::seats`]: crate::rules::seats

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::{debug, error, warn};

use super::ask::{Command, PollerHandle, Promised, panicked};
use super::poll_job::{PollJob, Reply, ReplyTo};
use super::queue_watch::QueueWatch;
use super::reach::Reach;
use super::resubmit::{Later, Resubmit};
use super::slots::{Decoded, Part, Ticket};
use crate::clock::Received;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::http::{Http, RequestHandle};
use crate::rules::answer::Meaning;
use crate::rules::poll::{Next, PollState};
use crate::rules::seats::{GroupId, Seats, seat_time};
use crate::threads::{OwnedThread, Pool, panic_text};
use crate::types::RequestKind;

/// The least time between two polls that are cut off to make room: each costs a connection.
const MIN_BETWEEN_CUTS: Duration = Duration::from_millis(250);

/// Owns the poller's thread and pool.
pub(crate) struct Poller {
    handle: PollerHandle,
    thread: OwnedThread,
    pool: Arc<Pool<PollJob>>,
}

impl Poller {
    pub(crate) fn spawn(http: &Arc<Http>) -> Result<Self> {
        let config = http.config();
        let (commands, inbox) = unbounded();
        let handle = PollerHandle::new(commands.clone());
        let max = config.max_poll_connections();
        let pool = {
            let http = Arc::clone(http);
            Arc::new(Pool::new(&config.thread_options(), "poll", max, move |job: PollJob| job.run(&http)))
        };
        let flag = FlagPanic(handle.clone());
        let polls = Polls {
            config: config.clone(),
            inbox,
            replies: commands,
            pool: Arc::clone(&pool),
            watch: Arc::new(QueueWatch::new(http)),
            max,
            under_way: 0,
            seats: Seats::default(),
            open: HashMap::new(),
            flying: HashMap::new(),
            reach: Reach::default(),
            later: Later::default(),
            next_cut: config.clock().now(),
        };
        let thread = OwnedThread::spawn(&config.thread_options(), "poller", move || {
            // Unwinding drops the promises, which tells those who wait that a thread panicked.
            let run = AssertUnwindSafe(|| {
                let mut polls = polls;
                // Dropped with `polls`, after the flag is set: later promises learn of the panic from it.
                let _flag = flag;
                polls.run();
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

    /// Resolves everything with `Closed` and ends the threads; the connections must be shut down already.
    pub(crate) fn close(&self, deadline: Instant) {
        self.handle.tell(Command::Close);
        self.pool.close();
        self.thread.join_by(deadline);
        self.pool.join_by(deadline);
    }
}

struct FlagPanic(PollerHandle);

impl Drop for FlagPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.note_panic();
        }
    }
}

/// The state of the poller's thread.
struct Polls {
    config: Config,
    inbox: Receiver<Command>,
    replies: Sender<Command>,
    pool: Arc<Pool<PollJob>>,
    watch: Arc<QueueWatch>,
    max: usize,
    /// Jobs that have not replied.
    under_way: usize,
    seats: Seats,
    open: HashMap<Ticket, Box<Open>>,
    reach: Reach,
    later: Later,
    /// When the next poll may be cut off at the earliest.
    next_cut: Instant,
    /// The polls under way, except those that were cut off.
    flying: HashMap<Ticket, Flying>,
}

/// A promise. There may be tens of thousands of them, and a table has empty places: they are boxed.
struct Open {
    request_id: Arc<str>,
    kind: RequestKind,
    round_trip: Duration,
    client: GroupId,
    part: Part,
    resubmit: Option<Resubmit>,
    state: PollState,
    /// When the promise was there.
    asked: Instant,
    /// How long it stays away after its poll was cut off to make room.
    away: Duration,
}

struct Flying {
    handle: Arc<RequestHandle>,
    began: Instant,
}

impl Polls {
    fn run(&mut self) {
        let clock = self.config.clock().clone();
        loop {
            // One instant for all: a promise that becomes due meanwhile is still asleep, and rings the alarm.
            let now = clock.now();
            self.later.run_due(now);
            self.dispatch(now);
            self.make_room(now);
            let wake_at = self.wake_at(now).into_iter().chain(self.later.wake_at()).min();
            let mut next = match clock.receive_until(&self.inbox, wake_at) {
                Received::Message(command) => Some(command),
                Received::Deadline => None,
                Received::Disconnected => return,
            };
            while let Some(command) = next {
                if matches!(command, Command::Close) {
                    return;
                }
                self.carry_out(command, clock.now());
                next = self.inbox.try_recv().ok();
            }
        }
    }

    /// When something is to be done, if nothing is heard before.
    fn wake_at(&mut self, now: Instant) -> Option<Instant> {
        if self.under_way < self.max {
            // What is due already waits for the service to be back.
            let due = self.seats.next(now).and(self.reach.next());
            return due.into_iter().chain(self.seats.wake_at()).min();
        }
        let room = self.waits_for_room(now).and_then(|_| self.next_to_give_way()).map(|(at, _)| at);
        room.into_iter().chain(self.seats.wake_at()).min()
    }

    /// A promise that someone waits for and that has no connection, nor will get one that was just cut off.
    fn waits_for_room(&mut self, now: Instant) -> Option<Ticket> {
        let cut_off = self.under_way - self.flying.len();
        self.seats.next(now).filter(|ticket| cut_off == 0 && self.seats.is_waited(*ticket))
    }

    /// The poll under way that gives its connection up first, and when it may have to.
    fn next_to_give_way(&self) -> Option<(Instant, Ticket)> {
        let ends = |(ticket, flying): (&Ticket, &Flying)| {
            let waited = self.seats.is_waited(*ticket);
            (waited, (flying.began + seat_time(waited)).max(self.next_cut), *ticket)
        };
        self.flying.iter().map(ends).min().map(|(_, at, ticket)| (at, ticket))
    }

    /// Cuts off a poll when all connections are taken and someone waits for a promise without one.
    fn make_room(&mut self, now: Instant) {
        if self.under_way < self.max || self.waits_for_room(now).is_none() {
            return;
        }
        if let Some((_, ticket)) = self.next_to_give_way().filter(|(at, _)| *at <= now) {
            if let (Some(flying), Some(open)) = (self.flying.remove(&ticket), self.open.get_mut(&ticket)) {
                open.away = seat_time(self.seats.is_waited(ticket));
                self.next_cut = now + MIN_BETWEEN_CUTS;
                flying.handle.cancel();
            }
        }
    }

    fn carry_out(&mut self, command: Command, now: Instant) {
        match command {
            Command::Add(ticket, promised, waited) => {
                self.seats.insert(ticket, promised.group.client, promised.group.ordered, now);
                self.seats.set_waited(ticket, waited);
                let Promised { request_id, kind, round_trip, group, part, resubmit, timeout_progress } = *promised;
                let state = PollState::new(timeout_progress.unwrap_or(self.config.timeout_progress()));
                let (client, away) = (group.client, Duration::ZERO);
                let open = Open { request_id, kind, round_trip, client, part, resubmit, state, asked: now, away };
                self.open.insert(ticket, Box::new(open));
            }
            Command::Waited(ticket, waited) => self.seats.set_waited(ticket, waited),
            Command::Abandon(ticket, expired) => {
                self.seats.remove(ticket);
                self.later.remove(ticket);
                if let Some(open) = self.open.remove(&ticket).filter(|_| expired) {
                    open.tell_resolved(&self.watch, Some(&Error::timeout(Limit::Operation)), now);
                }
                if let Some(flying) = self.flying.remove(&ticket) {
                    flying.handle.cancel();
                }
            }
            Command::Replied(ticket, reply) => {
                self.under_way -= 1;
                self.flying.remove(&ticket);
                self.replied(ticket, reply, now);
                self.give_up_unheard(now);
            }
            Command::Close => {}
        }
    }

    /// Starts as many polls as there are connections for.
    fn dispatch(&mut self, now: Instant) {
        while self.under_way < self.max && self.reach.allows(now) {
            let Some(ticket) = self.seats.next(now) else { return };
            let Some(open) = self.open.get_mut(&ticket) else {
                self.seats.remove(ticket);
                continue;
            };
            if let Some(due) = self.seats.due(ticket) {
                open.state.wait_in_silence(self.reach.silence(due, now));
            }
            self.seats.mark_polling(ticket);
            let iteration = open.state.begin();
            let handle = Arc::<RequestHandle>::default();
            self.flying.insert(ticket, Flying { handle: Arc::clone(&handle), began: now });
            let job = PollJob {
                request_id: Arc::clone(&open.request_id),
                kind: open.kind,
                iteration,
                lost: open.state.lost(),
                asked: open.asked,
                round_trip: open.round_trip,
                operation: open.part.operation(),
                decode: open.part.decode(),
                handle,
                idle: self.config.timeout_poll(),
                client: open.client,
                watch: Arc::clone(&self.watch),
                reply: ReplyTo { ticket, replies: Some(self.replies.clone()) },
            };
            self.under_way += 1;
            self.reach.begin(now);
            if let Err((job, error)) = self.pool.submit(job) {
                job.reply.forget();
                self.under_way -= 1;
                self.flying.remove(&ticket);
                if error.kind() == ErrorKind::Closed {
                    self.finish(ticket, Err(error));
                } else {
                    // There is no thread for it now; perhaps there is one later.
                    warn!("{error}");
                    let held = Duration::ZERO;
                    match open.state.on_reply::<Decoded>(&Meaning::Disconnected, held, now, fastrand::f64()) {
                        Next::Poll(at) => self.seats.set_due(ticket, at),
                        Next::Finish | Next::GiveUp => self.finish(ticket, Err(error)),
                    }
                }
                return;
            }
        }
    }

    fn replied(&mut self, ticket: Ticket, reply: Reply, now: Instant) {
        let Some(open) = self.open.get_mut(&ticket) else { return };
        let (meaning, error, held) = match reply {
            Reply::Heard { meaning, error, held } => (meaning, error, held),
            Reply::CutOff => return self.seats.set_due(ticket, now + open.away),
            Reply::Panicked => return self.finish(ticket, Err(panicked())),
        };
        self.reach.note(&meaning, now);
        let Some(open) = self.open.get_mut(&ticket) else { return };
        match open.state.on_reply(&meaning, held, now, fastrand::f64()) {
            Next::Poll(at) => self.seats.set_due(ticket, at),
            Next::GiveUp => self.finish(ticket, Err(given_up())),
            Next::Finish => self.conclude(ticket, meaning, error, now),
        }
    }

    /// Ends what waits for its turn while the service answers nobody: with many promises, most would else never come to end by
    /// polls of their own.
    fn give_up_unheard(&mut self, now: Instant) {
        if !self.reach.is_silent() {
            return;
        }
        let silence = |ticket| self.seats.due(ticket).map_or(Duration::ZERO, |due| self.reach.silence(due, now));
        let mut unheard = Vec::new();
        for (ticket, open) in &self.open {
            let silence = silence(*ticket);
            if !silence.is_zero() && open.state.ends_with(silence) {
                unheard.push(*ticket);
            }
        }
        unheard.into_iter().for_each(|ticket| self.finish(ticket, Err(given_up())));
    }

    /// A final answer.
    fn conclude(&mut self, ticket: Ticket, meaning: Meaning<Decoded>, error: Option<Error>, now: Instant) {
        let outcome = match meaning {
            Meaning::Done(result) => Ok(result),
            Meaning::Expired { detail } => {
                if self.resubmit_later(ticket, now) {
                    return;
                }
                let message = format!("the service no longer knows the promise, the outcome is unknown: {detail}");
                Err(Error::new(ErrorKind::Expired, message)
                    .with_status(410)
                    .with_hint("load the last checkpoint, or compare the model's state, before making the step again"))
            }
            other => Err(error.unwrap_or_else(|| {
                Error::new(ErrorKind::Decode, format!("an answer that does not end the request: {other:?}"))
            })),
        };
        self.finish(ticket, outcome);
    }

    /// Sets an expired promise aside until its request is submitted anew; says whether it will be.
    fn resubmit_later(&mut self, ticket: Ticket, now: Instant) -> bool {
        let Some(resubmit) = self.open.get_mut(&ticket).and_then(|open| open.resubmit.take()) else {
            return false;
        };
        debug!("promise {} expired, submitted anew in {:?}", ticket.0, resubmit.wait);
        self.seats.remove(ticket);
        if let Some(open) = self.open.remove(&ticket) {
            // The new request, unlike the one that expired, can still be taken back.
            open.part.was_not_written();
            self.later.insert(ticket, resubmit, open.part, now);
        }
        true
    }

    fn finish(&mut self, ticket: Ticket, outcome: Result<Decoded>) {
        self.seats.remove(ticket);
        if let Some(open) = self.open.remove(&ticket) {
            // Before the result, so that whoever has it was told.
            open.tell_resolved(&self.watch, outcome.as_ref().err(), self.config.clock().now());
            open.part.resolve(outcome);
        }
    }
}

fn given_up() -> Error {
    let hint = "the service may be down; ask for the result again later with ServiceClient::pending";
    Error::timeout(Limit::Progress).with_hint(hint)
}

impl Open {
    fn tell_resolved(&self, watch: &QueueWatch, error: Option<&Error>, now: Instant) {
        watch.resolved(self.part.operation(), &self.request_id, self.kind, error, now - self.asked);
    }
}

#[cfg(test)]
mod tests;

//! The submissions of one training client, in order, one in flight.
//!
//! The order of the calls is their order in the queue, which each takes on the caller's thread under one lock. If a background
//! task took it, two calls made one after the other could be swapped. The thread ([`worker`]) sends the next request once the
//! promise of the last one has arrived; the poller gets the results. It gives out the sequence numbers as it writes the requests
//! ([`numbers`]). A call that makes requests of its own, a custom loss, holds its place in the order meanwhile ([`place`]).

mod numbers;
mod place;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::Mutex;
pub(super) use place::Place;
use worker::Worker;

use crate::clock::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Http, JSON, RequestHandle};
use crate::observer::WaitKind;
use crate::pending::{Completer, PollerHandle};
use crate::process::Process;
use crate::rules::wire_format::{Choice, Pass};
use crate::session::Dependent;
use crate::threads::{Budget, OnFull, OwnedThread, Reservation};
use crate::types::RequestKind;

/// A request that is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The path below `/api/v1/`.
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) content_encoding: Option<&'static str>,
    pub(super) body: Vec<u8>,
}

impl Message {
    pub(super) fn json(path: &'static str, body: Vec<u8>) -> Self {
        Message { path, content_type: JSON, content_encoding: None, body }
    }
}

/// The requests of a call, written when their turn comes.
pub(super) trait Requests: Send {
    /// The kind of pass, if this is one: the service may have to choose its format.
    fn pass(&self) -> Option<Pass> {
        None
    }

    /// Writes the next request with this sequence number, in the chosen format if it is a pass. May be called again, with another
    /// number or format, until the service accepts the request. A large one takes the buffer for its body, whatever is in it.
    fn write(&mut self, http: &Http, choice: Choice, seq_id: u64, buffer: &mut Vec<u8>) -> Result<Message>;

    /// Goes on to the request after the one that was accepted. Returns whether there is one.
    fn advance(&mut self) -> bool {
        false
    }
}

/// One call: one request or several, sent one after the other.
pub(super) struct Job {
    pub(super) kind: RequestKind,
    pub(super) deadline: Option<Deadline>,
    pub(super) requests: Box<dyn Requests>,
    /// For the first request.
    pub(super) completer: Completer,
    /// An estimate of the bytes that the queue holds for it.
    pub(super) bytes: usize,
}

/// What the thread finds in the queue. The space in the budget is free again once it is done.
enum Entry {
    Call {
        job: Job,
        /// How many submissions had been lost when the call was made: it cannot be the repetition of a later one.
        lost_before: u64,
        reservation: Option<Reservation>,
    },
    /// A place, through which its calls come until it is closed.
    Place(Receiver<Entry>, Option<Reservation>),
}

/// The ways into the queue. None are left when it is closed.
#[derive(Default)]
struct Senders {
    queue: Option<Sender<Entry>>,
    /// Those of the open places, by number.
    places: BTreeMap<u64, Sender<Entry>>,
    places_taken: u64,
}

/// The queue and its thread.
pub(super) struct TrainingQueue {
    process: Process,
    senders: Mutex<Senders>,
    budget: Budget,
    http: Arc<Http>,
    shared: Arc<Shared>,
    thread: OwnedThread,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// How many submissions were lost so far.
    lost: AtomicU64,
    /// The running submission.
    submission: Mutex<Option<Arc<RequestHandle>>>,
}

impl TrainingQueue {
    pub(super) fn spawn(http: &Arc<Http>, poller: &PollerHandle) -> Result<Self> {
        let config = http.config();
        let (sender, receiver) = unbounded();
        let senders = Senders { queue: Some(sender), ..Senders::default() };
        let shared = Arc::<Shared>::default();
        let worker = Worker::new(http, poller, &shared);
        Ok(TrainingQueue {
            process: Process::current(),
            senders: Mutex::new(senders),
            budget: Budget::new(config.clock().clone(), config.max_queued(), config.max_queued_bytes()),
            http: Arc::clone(http),
            shared,
            thread: OwnedThread::spawn(&config.thread_options(), "training", move || worker.run(&receiver))?,
        })
    }

    /// Queues a call. Calls made one after the other are sent in that order, from whichever threads; those of a thread that fills
    /// a place are sent in that place.
    pub(super) fn submit(&self, job: Job, on_full: OnFull) -> Result<()> {
        self.process.check()?;
        let place = place::filled(self);
        let reservation = self.reserve(place, job.completer.operation(), job.bytes, on_full)?;
        let lost_before = self.shared.lost.load(Ordering::Acquire);
        self.send(place, Entry::Call { job, lost_before, reservation })
    }

    /// Takes a place, for calls of this size altogether.
    #[cfg_attr(not(feature = "ndarray"), expect(dead_code, reason = "custom losses need ndarray"))]
    pub(super) fn take_place(self: &Arc<Self>, bytes: usize, on_full: OnFull) -> Result<Place> {
        self.process.check()?;
        let outer = place::filled(self);
        let reservation = self.reserve(outer, "forward_backward_custom", bytes, on_full)?;
        let (sender, receiver) = unbounded();
        let mut senders = self.senders.lock();
        let id = senders.places_taken;
        senders.places_taken += 1;
        senders.places.insert(id, sender);
        drop(senders);
        let place = Place::new(self, id);
        self.send(outer, Entry::Place(receiver, reservation))?;
        Ok(place)
    }

    /// Reserves space for a call, unless it belongs to a place, which has reserved its own: it would wait for calls that wait for
    /// the place.
    fn reserve(
        &self,
        place: Option<u64>,
        operation: &'static str,
        bytes: usize,
        on_full: OnFull,
    ) -> Result<Option<Reservation>> {
        let reserve = |on_full| self.budget.reserve(bytes, on_full);
        let wait = || self.http.wait_for_room(WaitKind::Submission, operation, on_full, reserve);
        place.is_none().then(wait).transpose()
    }

    fn send(&self, place: Option<u64>, entry: Entry) -> Result<()> {
        let senders = self.senders.lock();
        let sender = match place {
            Some(id) => senders.places.get(&id),
            None => senders.queue.as_ref(),
        };
        let open = sender.is_some();
        let refused = match sender {
            Some(sender) => sender.send(entry).err().map(|refused| refused.0),
            None => Some(entry),
        };
        drop(senders);
        match refused {
            None => Ok(()),
            // Only a panic ends the thread while the sender exists.
            Some(_) if open => Err(Error::new(ErrorKind::Panicked, "the training client's thread panicked")
                .with_hint("see the log for the panic; create a new training client from a checkpoint")),
            Some(_) => Err(Error::closed()),
        }
    }

    fn close_place(&self, id: u64) {
        self.senders.lock().places.remove(&id);
    }
}

impl Dependent for TrainingQueue {
    /// Requests that are not sent yet end with `Closed`. Does nothing in a fork.
    fn close(&self, deadline: Instant) {
        if !self.process.is_current() {
            return;
        }
        self.shared.stopping.store(true, Ordering::Release);
        *self.senders.lock() = Senders::default();
        self.budget.close();
        let submission = self.shared.submission.lock().take();
        if let Some(submission) = submission {
            submission.cancel();
        }
        self.thread.join_by(deadline);
    }
}

#[cfg(test)]
mod tests;

//! The submissions of one training client, in order, one in flight.
//!
//! The order is the place in the queue, taken in the caller under one lock. The thread gives out the sequence numbers as it
//! writes, and sends the next request when the last one's promise is there; the results are the poller's matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::warn;
use parking_lot::Mutex;

use crate::clock::Received;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Call, Deadline, Flight, Http, Purpose, Repeat};
use crate::pending::{Part, PollGroup, PollerHandle, Promised};
use crate::rules::seats::GroupId;
use crate::session::Dependent;
use crate::types::{Promise, RequestKind};
use crate::worker::{Budget, OwnedThread, Reservation, Room};

/// Writes a request's body with its sequence number.
pub(crate) type Body = Box<dyn FnOnce(u64) -> Result<Vec<u8>> + Send>;

/// One call: one request or several, sent one after the other.
pub(crate) struct Job {
    /// The path below `/api/v1/`.
    pub(crate) path: &'static str,
    pub(crate) kind: RequestKind,
    pub(crate) requests: Vec<(Body, Part)>,
    /// An estimate of the bytes that wait in the queue.
    pub(crate) bytes: usize,
    pub(crate) deadline: Option<Deadline>,
}

/// The queue and its thread.
pub(crate) struct TrainingQueue {
    sender: Mutex<Option<Sender<(Job, Reservation)>>>,
    budget: Budget,
    shared: Arc<Shared>,
    thread: OwnedThread,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    /// The request that is being submitted.
    flight: Mutex<Option<Arc<Flight>>>,
}

impl TrainingQueue {
    pub(crate) fn spawn(http: &Arc<Http>, poller: &PollerHandle, client: GroupId) -> Result<Self> {
        let config = http.config();
        let (sender, receiver) = unbounded();
        let shared = Arc::<Shared>::default();
        let worker = Worker {
            http: Arc::clone(http),
            poller: poller.clone(),
            group: PollGroup { client, ordered: true },
            shared: Arc::clone(&shared),
            next_seq_id: 1,
        };
        Ok(TrainingQueue {
            sender: Mutex::new(Some(sender)),
            budget: Budget::new(config.clock().clone(), config.max_queued(), config.max_queued_bytes()),
            shared,
            thread: OwnedThread::spawn(config, "training", move || worker.run(&receiver))?,
        })
    }

    /// Queues a call. Calls made one after the other, by whichever threads, are sent in that order.
    pub(crate) fn submit(&self, job: Job, room: Room) -> Result<()> {
        let reservation = self.budget.reserve(job.bytes, room)?;
        let sender = self.sender.lock();
        let refused = match &*sender {
            Some(sender) => sender.send((job, reservation)).map_err(|refused| refused.0),
            None => Err((job, reservation)),
        };
        let open = sender.is_some();
        drop(sender);
        match refused {
            Ok(()) => Ok(()),
            // Only a panic ends the thread before the sender is dropped.
            Err(_) if open => Err(Error::new(ErrorKind::Panicked, "the training client's thread panicked")
                .hint("see the log for the panic; create the training client anew from a checkpoint")),
            Err(_) => Err(Error::closed()),
        }
    }
}

impl Dependent for TrainingQueue {
    /// What is not sent yet is answered with `Closed`.
    fn close(&self, deadline: Instant) {
        self.shared.stopping.store(true, Ordering::Release);
        self.sender.lock().take();
        self.budget.close();
        if let Some(flight) = self.shared.flight.lock().take() {
            flight.cut();
        }
        self.thread.join_by(deadline);
    }
}

/// The state of the thread.
struct Worker {
    http: Arc<Http>,
    poller: PollerHandle,
    group: PollGroup,
    shared: Arc<Shared>,
    /// Counts the requests that were written, from 1.
    next_seq_id: u64,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<(Job, Reservation)>) {
        let clock = self.http.config().clock().clone();
        let mut unsent = 0;
        while let Received::Message((job, reservation)) = clock.receive_until(jobs, None) {
            if self.shared.stopping.load(Ordering::Acquire) {
                unsent += job.requests.len();
            } else {
                self.carry_out(job);
            }
            drop(reservation);
        }
        if unsent > 0 {
            warn!("the training client was closed with {unsent} requests unsent");
        }
    }

    /// Sends the requests of a call; the first that fails takes the rest with it.
    fn carry_out(&mut self, job: Job) {
        let mut failed: Option<Error> = None;
        for (body, part) in job.requests {
            let sent = match failed.clone() {
                None => self.send(job.path, job.kind, job.deadline, body, part),
                Some(error) => Err((error, part)),
            };
            if let Err((error, part)) = sent {
                part.resolve(Err(error.clone()));
                failed = Some(error);
            }
        }
    }

    fn send(
        &mut self,
        path: &'static str,
        kind: RequestKind,
        deadline: Option<Deadline>,
        body: Body,
        part: Part,
    ) -> Result<(), (Error, Part)> {
        if let Err(error) = part.begin() {
            return Err((error, part));
        }
        let body = match body(self.next_seq_id) {
            Ok(body) => body,
            Err(error) => {
                part.was_not_written();
                return Err((error, part));
            }
        };
        let config = self.http.config();
        let call = Call {
            repeat: Repeat::Window,
            deadline,
            ..Call::post(part.operation(), Purpose::Training, path, config.timeout_idle(), &body)
        };
        *self.shared.flight.lock() = Some(Arc::clone(&call.flight));
        let began = config.clock().now();
        let answer = self.http.send(&call);
        self.shared.flight.lock().take();
        if call.flight.was_written() {
            // A written number is never used again, whatever came of it.
            self.next_seq_id += 1;
        } else {
            part.was_not_written();
        }
        match answer.and_then(|answer| answer.json::<Promise>(call.operation).map_err(|error| error.with_effect(true)))
        {
            Ok(promise) => {
                self.poller.ask(Promised {
                    request_id: promise.request_id.into(),
                    kind,
                    round_trip: config.clock().now() - began,
                    group: self.group,
                    part,
                    resubmit: None,
                });
                Ok(())
            }
            Err(error) => Err((error, part)),
        }
    }
}

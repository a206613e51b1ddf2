//! How clients and waiting threads reach the poller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::Sender;

use super::messages::{Command, PollClient, SamplingTarget, TrackedPromise, panicked};
use crate::clock::Clock;
use crate::process::Process;
use crate::rules::poll_queue::{ClientId, Ticket};

/// How many sequence numbers each of the clients has that share a sampling session.
const NUMBERS_PER_CLONE: u64 = 1_000_000_000;

/// Hands promises to the poller. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PollerHandle(Arc<Shared>);

struct Shared {
    clock: Clock,
    process: Process,
    commands: Sender<Command>,
    next_ticket: AtomicU64,
    next_client: AtomicU64,
    panicked: AtomicBool,
}

impl PollerHandle {
    /// A handle that sends its commands to this channel.
    pub(super) fn new(clock: Clock, commands: Sender<Command>) -> Self {
        let (next_ticket, next_client) = (AtomicU64::new(0), AtomicU64::new(0));
        let (process, panicked) = (Process::current(), AtomicBool::new(false));
        PollerHandle(Arc::new(Shared { clock, process, commands, next_ticket, next_client, panicked }))
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The process that has the poller.
    pub(super) fn process(&self) -> Process {
        self.0.process
    }

    /// Registers a client, which takes its turns in the poll queue. The promises of an `ordered` one finish in the order in
    /// which they were made.
    pub(crate) fn new_client(&self, ordered: bool) -> Arc<PollClient> {
        Arc::new(PollClient { id: self.new_client_id(), ordered, target: None })
    }

    /// Registers a sampling client whose samples are polled together, and whose sequence numbers begin with this one.
    pub(crate) fn new_sampler(&self, sampling_session_id: &str, first_seq_id: u64) -> Arc<PollClient> {
        let target = SamplingTarget {
            sampling_session_id: sampling_session_id.into(),
            clone_number: first_seq_id / NUMBERS_PER_CLONE,
            ticket: self.new_ticket(),
            cursor: AtomicU64::new(0),
            is_single: AtomicBool::new(false),
        };
        Arc::new(PollClient { id: self.new_client_id(), ordered: false, target: Some(Arc::new(target)) })
    }

    fn new_client_id(&self) -> ClientId {
        ClientId(self.0.next_client.fetch_add(1, Ordering::Relaxed))
    }

    fn new_ticket(&self) -> Ticket {
        Ticket(self.0.next_ticket.fetch_add(1, Ordering::Relaxed))
    }

    /// Has a promise polled until its result is ready or nobody wants it any more. In a fork, it ends with an error.
    pub(crate) fn track(&self, promise: TrackedPromise) {
        if let Err(error) = self.0.process.check() {
            return promise.completer.complete(Err(error));
        }
        let ticket = self.new_ticket();
        let state = Arc::clone(promise.completer.state());
        let promise = Box::new(promise);
        let unsent = {
            // The lock is held until the poller has the promise. Otherwise a thread that starts to wait, or abandons the
            // call, could send this ticket before the promise, and the poller would ignore it.
            let mut state = state.lock();
            match promise.completer.record_promise(&mut state, &promise.request_id, ticket) {
                Some(waited) => self.0.commands.send(Command::Add { ticket, promise, waited }).map_err(|e| e.0),
                None => Err(Command::Add { ticket, promise, waited: false }),
            }
        };
        // Outside the lock: a completer takes it when it completes or drops.
        if let Err(Command::Add { promise, .. }) = unsent {
            if self.0.panicked.load(Ordering::Acquire) {
                promise.completer.complete(Err(panicked()));
            }
        }
    }

    /// Sets whether someone waits for the result. Promises that someone waits for are polled first.
    pub(super) fn set_waited(&self, ticket: Ticket, waited: bool) {
        self.send(Command::SetWaited { ticket, waited });
    }

    /// Stops the polls: nobody will take the result. `expired` is whether the caller's timeout is the reason.
    pub(super) fn abandon(&self, ticket: Ticket, expired: bool) {
        self.send(Command::Abandon { ticket, expired });
    }

    /// Records that the poller has panicked: later promises complete with an error.
    pub(super) fn mark_panicked(&self) {
        self.0.panicked.store(true, Ordering::Release);
    }

    /// A poller that has ended has completed everything, so a command that it no longer receives does not matter.
    pub(super) fn send(&self, command: Command) {
        self.0.commands.send(command).ok();
    }
}

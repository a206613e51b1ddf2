//! How promises get to the poller, and what it is told of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::poll_job::Reply;
use super::resubmit::Resubmit;
use super::slots::{Asks, Part, Ticket};
use crate::error::{Error, ErrorKind};
use crate::rules::seats::{GroupId, Id};
use crate::types::RequestKind;

/// Whose promise it is: clients take turns, and those of a training client are resolved in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PollGroup {
    pub(crate) client: GroupId,
    pub(crate) ordered: bool,
}

/// A promise of the server, and who waits for it.
pub(crate) struct Promised {
    pub(crate) request_id: Arc<str>,
    pub(crate) kind: RequestKind,
    /// How long the submission took until the promise was there.
    pub(crate) round_trip: Duration,
    pub(crate) group: PollGroup,
    pub(crate) part: Part,
    /// What to do when the promise has expired; without it that is an error.
    pub(crate) resubmit: Option<Resubmit>,
    /// How long nothing may be heard of it; the configuration's limit without.
    pub(crate) timeout_progress: Option<Duration>,
}

/// Hands promises to the poller.
#[derive(Clone)]
pub(crate) struct PollerHandle(Arc<Shared>);

struct Shared {
    commands: Sender<Command>,
    next_ticket: AtomicU64,
    panicked: AtomicBool,
}

/// What the poller is told.
pub(super) enum Command {
    Add(Ticket, Box<Promised>, bool),
    Waited(Ticket, bool),
    /// Nobody asks for it any more; whether that is because the time for it was over.
    Abandon(Ticket, bool),
    Replied(Ticket, Reply),
    Close,
}

impl PollerHandle {
    /// A handle that sends its commands there.
    pub(super) fn new(commands: Sender<Command>) -> Self {
        PollerHandle(Arc::new(Shared { commands, next_ticket: AtomicU64::new(0), panicked: AtomicBool::new(false) }))
    }

    /// Asks for the result of a promise until it is there or nobody wants it any more.
    pub(crate) fn ask(&self, promised: Promised) {
        let ticket = Id(self.0.next_ticket.fetch_add(1, Ordering::Relaxed));
        let board = Arc::clone(promised.part.board());
        let unsent = {
            // Under the lock, so that nobody can refer to the ticket before the poller knows it.
            let mut board = board.lock();
            let asks = Arc::clone(&self.0) as Arc<dyn Asks>;
            match promised.part.promised(&mut board, &promised.request_id, ticket, asks) {
                Some(waited) => self.0.commands.send(Command::Add(ticket, Box::new(promised), waited)).map_err(|e| e.0),
                None => Err(Command::Add(ticket, Box::new(promised), false)),
            }
        };
        if let Err(Command::Add(_, promised, _)) = unsent {
            if self.0.panicked.load(Ordering::Acquire) {
                promised.part.resolve(Err(panicked()));
            }
        }
    }

    /// Later promises are resolved with an error: the poller has panicked.
    pub(super) fn note_panic(&self) {
        self.0.panicked.store(true, Ordering::Release);
    }

    pub(super) fn tell(&self, command: Command) {
        self.0.tell(command);
    }
}

impl Shared {
    /// A poller that has ended has resolved all it had.
    fn tell(&self, command: Command) {
        self.commands.send(command).ok();
    }
}

impl Asks for Shared {
    fn waited(&self, ticket: Ticket, waited: bool) {
        self.tell(Command::Waited(ticket, waited));
    }

    fn abandon(&self, ticket: Ticket, expired: bool) {
        self.tell(Command::Abandon(ticket, expired));
    }
}

/// What becomes of a promise when the poller, or the thread that polls it, has panicked.
pub(super) fn panicked() -> Error {
    Error::new(ErrorKind::Panicked, "a thread of the client panicked")
        .with_hint("see the log for the panic; the result may be asked for again with ServiceClient::pending")
}

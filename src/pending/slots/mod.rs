//! Where the parts of one call's result come together.
//!
//! A call is one request or several (the chunks of a batch). Each has a [`Part`], which travels with the request through
//! queue, submission and polling, and is resolved exactly once; one that is dropped on the way resolves itself with an
//! error, so that whoever waits always gets an answer. The [`Board`] is what the waiting side looks at. There may be tens of
//! thousands of them, so what few calls need is made when it is asked for.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::warn;
use serde::de::DeserializeOwned;

use crate::clock::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::http::RequestHandle;
use crate::rules::seats::Id;

/// A decoded result on its way from a pool thread to its caller.
pub(crate) type Decoded = Box<dyn Any + Send>;

/// Decodes the bytes of a result.
pub(crate) type Decode = fn(&[u8]) -> Result<Decoded, String>;

/// The poller's name for one promise.
pub(crate) type Ticket = Id;

/// Who asks for the results of promises, as their board sees it.
pub(super) trait Asks: Send + Sync {
    /// Somebody waits for the result, or nobody does any more.
    fn waited(&self, ticket: Ticket, waited: bool);

    /// Nobody will ever take the result.
    fn abandon(&self, ticket: Ticket, expired: bool);
}

/// What is known of a call.
#[derive(Default)]
pub(crate) struct Board {
    parts: Vec<PartState>,
    unresolved: usize,
    /// The error of the first part that failed.
    error: Option<Error>,
    /// Nobody will ask for the result.
    abandoned: bool,
    waiting: usize,
    listeners: Option<Box<Listeners>>,
    asks: Option<Arc<dyn Asks>>,
}

/// Who is told when the result is there.
#[derive(Default)]
struct Listeners {
    /// When the result is there, it gets one message and loses its sender.
    ready: Option<(Option<Sender<()>>, Receiver<()>)>,
    /// Who waits for several calls, and this call's place among them.
    watchers: Vec<(usize, Sender<usize>)>,
}

#[derive(Default)]
struct PartState {
    request_id: Option<Arc<str>>,
    /// The submission under way, where it can be cut off.
    request: Option<Arc<RequestHandle>>,
    ticket: Option<Ticket>,
    result: Option<Decoded>,
    written: bool,
    resolved: bool,
}

impl Board {
    pub(super) fn is_ready(&self) -> bool {
        self.unresolved == 0 || self.error.is_some()
    }

    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Whether any request of the call was written, so that it may have an effect.
    pub(crate) fn was_written(&self) -> bool {
        self.parts.iter().any(|part| part.written)
    }

    /// The id of the first promise whose result has not come, else of the first promise.
    pub(super) fn request_id(&self) -> Option<Arc<str>> {
        let open = self.parts.iter().find(|part| !part.resolved && part.request_id.is_some());
        open.or(self.parts.first()).and_then(|part| part.request_id.clone())
    }

    /// A channel that has a message, or is disconnected, when the result is there.
    pub(super) fn ready(&mut self) -> Receiver<()> {
        let listeners = self.listeners.get_or_insert_default();
        let (_, receiver) = listeners.ready.get_or_insert_with(|| {
            let (sender, receiver) = bounded(1);
            (Some(sender), receiver)
        });
        let receiver = receiver.clone();
        if self.is_ready() {
            self.tell_ready();
        }
        receiver
    }

    fn tell_ready(&mut self) {
        let Some(listeners) = &mut self.listeners else { return };
        let sender = listeners.ready.as_mut().and_then(|(sender, _)| sender.take());
        if let Some(sender) = sender {
            sender.try_send(()).ok();
        }
        for (index, watcher) in listeners.watchers.drain(..) {
            watcher.send(index).ok();
        }
    }

    /// Sends this index when the result is there.
    pub(super) fn watch(&mut self, index: usize, watcher: &Sender<usize>) {
        self.listeners.get_or_insert_default().watchers.push((index, watcher.clone()));
        if self.is_ready() {
            self.tell_ready();
        }
    }

    pub(super) fn unwatch(&mut self, watcher: &Sender<usize>) {
        if let Some(listeners) = &mut self.listeners {
            listeners.watchers.retain(|(_, other)| !other.same_channel(watcher));
        }
    }

    /// Somebody begins or ends to wait: what is waited for is polled first.
    pub(super) fn waited(&mut self, more: bool) {
        let before = self.waiting > 0;
        self.waiting = if more { self.waiting + 1 } else { self.waiting.saturating_sub(1) };
        let after = self.waiting > 0;
        if before != after {
            self.each_open(|asks, ticket| asks.waited(ticket, after));
        }
    }

    /// Nobody asks for the result any more: its polls stop. Returns the submissions to cut off, without the lock.
    #[must_use]
    pub(super) fn abandon(&mut self) -> Vec<Arc<RequestHandle>> {
        self.abandoned = true;
        let expired = self.error.as_ref().is_some_and(Error::is_timeout);
        self.each_open(|asks, ticket| asks.abandon(ticket, expired));
        self.parts.iter_mut().filter_map(|part| part.request.take()).collect()
    }

    /// Ends the call for its caller, whatever becomes of its requests.
    pub(super) fn fail(&mut self, error: Error) {
        if !self.is_ready() {
            self.error = Some(error);
            self.tell_ready();
        }
    }

    fn each_open(&self, act: impl Fn(&dyn Asks, Ticket)) {
        if let Some(asks) = &self.asks {
            let open = self.parts.iter().filter(|part| !part.resolved);
            open.filter_map(|part| part.ticket).for_each(|ticket| act(&**asks, ticket));
        }
    }

    /// The results of the parts, in order, once all are there; taken once.
    pub(super) fn take<R: 'static>(&mut self) -> Result<Vec<R>> {
        let results = self.parts.iter_mut().filter_map(|part| part.result.take());
        results
            .map(|result| match result.downcast::<R>() {
                Ok(result) => Ok(*result),
                Err(_) => Err(Error::new(ErrorKind::Decode, "the result was decoded into another type than asked for")),
            })
            .collect()
    }
}

/// The results of a call's parts, all of one type.
pub(crate) struct Slots<R> {
    pub(super) board: Arc<Monitor<Board>>,
    of: PhantomData<fn() -> R>,
}

impl<R: DeserializeOwned + Send + 'static> Slots<R> {
    /// Slots for a call of so many parts, and the parts.
    pub(crate) fn new(operation: &'static str, count: usize) -> (Self, Vec<Part>) {
        let parts = std::iter::repeat_with(PartState::default).take(count).collect();
        let board = Monitor::new(Board { parts, unresolved: count, ..Board::default() });
        let part = |index| Part { operation, index, decode: decode::<R>, board: Arc::clone(&board), resolved: false };
        let parts = (0..count).map(part).collect();
        (Slots { board, of: PhantomData }, parts)
    }

    /// Somebody waits from the beginning: the caller itself submits, and its promise must not look idle until it gets to wait.
    pub(crate) fn waited_for(&self) {
        self.board.lock().waited(true);
    }
}

fn decode<R: DeserializeOwned + Send + 'static>(bytes: &[u8]) -> Result<Decoded, String> {
    match serde_json::from_slice::<R>(bytes) {
        Ok(result) => Ok(Box::new(result)),
        Err(error) => Err(error.to_string()),
    }
}

/// One request of a call, to be resolved.
pub(crate) struct Part {
    operation: &'static str,
    index: usize,
    decode: Decode,
    board: Arc<Monitor<Board>>,
    resolved: bool,
}

impl Part {
    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    pub(crate) fn decode(&self) -> Decode {
        self.decode
    }

    pub(crate) fn board(&self) -> &Arc<Monitor<Board>> {
        &self.board
    }

    /// An error when nobody will ever ask for the result.
    pub(crate) fn wanted(&self) -> Result<()> {
        let board = self.board.lock();
        if board.abandoned || board.error.is_some() { Err(given_up()) } else { Ok(()) }
    }

    /// Cancels this submission if nobody will ever ask for its result.
    pub(crate) fn cancels(&self, request: &Arc<RequestHandle>) {
        let mut board = self.board.lock();
        board.parts[self.index].request = (!board.abandoned).then(|| Arc::clone(request));
        if board.abandoned {
            drop(board);
            request.cancel();
        }
    }

    /// The request is about to be written, unless its caller gave the call up before any of it was.
    pub(crate) fn begin(&self) -> Result<()> {
        let mut board = self.board.lock();
        if board.error.is_some() && !board.was_written() {
            return Err(given_up());
        }
        board.parts[self.index].written = true;
        Ok(())
    }

    /// The request never reached the server after all.
    pub(crate) fn was_not_written(&self) {
        self.board.lock().parts[self.index].written = false;
    }

    /// The server promised a result, which the poller will ask for under this ticket. Returns whether somebody waits for it
    /// already, or `None` when nobody ever will. The caller holds the board's lock until the poller knows the ticket.
    pub(super) fn promised(
        &self,
        board: &mut Board,
        request_id: &Arc<str>,
        ticket: Ticket,
        asks: Arc<dyn Asks>,
    ) -> Option<bool> {
        board.asks.get_or_insert(asks);
        let part = &mut board.parts[self.index];
        part.written = true;
        part.request_id = Some(Arc::clone(request_id));
        (part.ticket, part.request) = (Some(ticket), None);
        (!board.abandoned).then_some(board.waiting > 0)
    }

    /// Hands over the result.
    pub(crate) fn resolve(mut self, outcome: Result<Decoded>) {
        let unheard = self.settle(outcome.map_err(|error| error.with_operation(self.operation)));
        // Without the lock: a logger may be the program's, and use the client.
        if let Some(error) = unheard.filter(|error| error.kind() != ErrorKind::Cancelled) {
            warn!("{error}; nobody waits for its result");
        }
    }

    /// Returns an error that nobody will be told.
    fn settle(&mut self, outcome: Result<Decoded>) -> Option<Error> {
        self.resolved = true;
        let mut board = self.board.lock();
        let others_written = board.parts.iter().enumerate().any(|(index, part)| index != self.index && part.written);
        let part = &mut board.parts[self.index];
        (part.resolved, part.request) = (true, None);
        let request_id = part.request_id.clone();
        let mut unheard = None;
        board.unresolved = board.unresolved.saturating_sub(1);
        match outcome {
            Ok(result) => board.parts[self.index].result = Some(result),
            Err(error) => {
                let error = match request_id {
                    Some(id) => error.with_request_id(id),
                    None => error,
                };
                // A promised request may have been carried out, unless the service itself says that it failed; so may the
                // other requests of the call.
                let promised = error.request_id().is_some() && error.kind() != ErrorKind::RequestFailed;
                let error = if promised || others_written { error.with_effect(true) } else { error };
                unheard = board.abandoned.then(|| error.clone());
                board.error.get_or_insert(error);
            }
        }
        let ready = board.is_ready();
        if ready {
            board.tell_ready();
        }
        drop(board);
        if ready {
            self.board.notify_all();
        }
        unheard
    }
}

fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "given up by its caller")
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.resolved {
            let written = self.board.lock().parts[self.index].written;
            let error = if std::thread::panicking() {
                Error::new(ErrorKind::Panicked, "a thread of the client panicked")
                    .with_hint("see the log for the panic; close the client and connect again")
            } else {
                Error::closed()
            };
            // Nobody is told what nobody waits for: the poller drops what was abandoned.
            drop(self.settle(Err(error.with_operation(self.operation).with_effect(written))));
        }
    }
}

#[cfg(test)]
mod tests;

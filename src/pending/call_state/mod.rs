//! The state of one call, shared by the requests that it consists of and the threads that wait for it.
//!
//! A call is one request or several (the chunks of a batch). Each has a [`Completer`], which travels with the request through
//! queue, submission and polling, and is completed exactly once. One that is dropped on the way completes itself with an
//! error, so no thread waits forever. [`CallState`] is what the waiting side looks at. There may be tens of thousands of
//! them, so what few calls need is allocated on demand.
//!
//! Lock order: no other lock is taken while the state is locked. Commands are sent to the poller under it, so that the poller
//! gets them in the order of the changes; that channel is unbounded, so a send never blocks. Submissions are cancelled and the
//! log is written only after it is released: cancelling takes the lock of the monitor on which the request may be waiting, and
//! the program's logger may call this client.

mod last_word;
mod received;

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;
use std::{iter, mem};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::warn;

pub(crate) use last_word::LastWord;
pub(super) use last_word::Submission;
pub(crate) use received::Received;
pub(super) use received::WRONG_RESULT;

use crate::clock::Monitor;
use crate::error::{Error, ErrorKind, Result};
use crate::http::RequestHandle;
use crate::rules::json_numbers;
use crate::rules::poll_queue::Ticket;
use crate::threads::Slot;
use crate::types::PromiseResult;

/// A decoded result on its way from a pool thread to the caller.
pub(crate) type Decoded = Box<dyn Any + Send>;

/// Decodes a result.
pub(crate) type Decode = fn(ResultBody<'_>) -> Result<Decoded, String>;

/// The body of a result.
pub(crate) enum ResultBody<'a> {
    Json(&'a [u8]),
    /// Owned, since the decoded result is built from parts of it.
    Protobuf(Vec<u8>),
}

/// The state of a call.
#[derive(Default)]
pub(crate) struct CallState {
    /// Most calls have one request, which then needs no memory of its own.
    first: RequestState,
    /// The further ones, in order.
    more: Vec<RequestState>,
    incomplete: u32,
    /// The error of the first request that failed.
    error: Option<Error>,
    /// Nobody will take the result.
    abandoned: bool,
    /// The number of waiting threads.
    waiters: u32,
    listeners: Option<Box<Listeners>>,
}

/// Channels that get a message when the call is finished.
#[derive(Default)]
struct Listeners {
    /// When the call is finished, it gets one message and loses its sender.
    ready: Option<(Option<Sender<()>>, Receiver<()>)>,
    /// Of threads that wait for several calls, each with the index of this call among theirs.
    watchers: Vec<(usize, Sender<usize>)>,
}

#[derive(Default)]
struct RequestState {
    request_id: Option<Arc<str>>,
    /// The running submission, or the last polls that failed.
    attempts: Option<Arc<RequestHandle>>,
    ticket: Option<Ticket>,
    result: Option<Decoded>,
    /// The ids that the promise gave the parts of the result.
    part_ids: Box<[String]>,
    written: bool,
    completed: bool,
    /// Whether abandoning the call cancels the submission.
    is_withdrawn: bool,
}

impl CallState {
    fn requests(&self) -> impl Iterator<Item = &RequestState> {
        iter::once(&self.first).chain(&self.more)
    }

    fn requests_mut(&mut self) -> impl Iterator<Item = &mut RequestState> {
        iter::once(&mut self.first).chain(&mut self.more)
    }

    /// The request with this number, from 0.
    fn request(&mut self, index: u32) -> &mut RequestState {
        match index {
            0 => &mut self.first,
            _ => &mut self.more[index as usize - 1],
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.incomplete == 0 || self.error.is_some()
    }

    pub(super) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Whether any request of the call was written and may have an effect.
    pub(crate) fn was_written(&self) -> bool {
        self.requests().any(|request| request.written)
    }

    /// The id of the first promise without a result, else of the first promise.
    pub(super) fn request_id(&self) -> Option<Arc<str>> {
        let open = self.requests().find(|request| !request.completed && request.request_id.is_some());
        open.unwrap_or(&self.first).request_id.clone()
    }

    /// A channel that has a message, or is disconnected, when the call is finished.
    pub(super) fn ready(&mut self) -> Receiver<()> {
        let listeners = self.listeners.get_or_insert_default();
        let (_, receiver) = listeners.ready.get_or_insert_with(|| {
            let (sender, receiver) = bounded(1);
            (Some(sender), receiver)
        });
        let receiver = receiver.clone();
        if self.is_ready() {
            self.notify_listeners();
        }
        receiver
    }

    fn notify_listeners(&mut self) {
        let Some(listeners) = &mut self.listeners else { return };
        let sender = listeners.ready.as_mut().and_then(|(sender, _)| sender.take());
        if let Some(sender) = sender {
            sender.try_send(()).ok();
        }
        for (index, watcher) in listeners.watchers.drain(..) {
            watcher.send(index).ok();
        }
    }

    /// Sends this index when the call is finished.
    pub(super) fn watch(&mut self, index: usize, watcher: &Sender<usize>) {
        self.listeners.get_or_insert_default().watchers.push((index, watcher.clone()));
        if self.is_ready() {
            self.notify_listeners();
        }
    }

    pub(super) fn unwatch(&mut self, watcher: &Sender<usize>) {
        if let Some(listeners) = &mut self.listeners {
            listeners.watchers.retain(|(_, other)| !other.same_channel(watcher));
        }
    }

    /// Counts a thread that starts to wait. If it is the first, returns the open promises, which are now waited for.
    pub(super) fn start_waiting(&mut self) -> impl Iterator<Item = Ticket> {
        self.waiters += 1;
        let is_first = self.waiters == 1;
        self.open_tickets().filter(move |_| is_first)
    }

    /// Counts a thread that stops waiting. If it was the last, returns the open promises, which nobody waits for any more.
    pub(super) fn stop_waiting(&mut self) -> impl Iterator<Item = Ticket> {
        let was_last = self.waiters == 1;
        self.waiters = self.waiters.saturating_sub(1);
        self.open_tickets().filter(move |_| was_last)
    }

    /// Marks that nobody will take the result. Returns the promises to abandon.
    pub(super) fn abandon(&mut self) -> impl Iterator<Item = Ticket> {
        self.abandoned = true;
        self.open_tickets()
    }

    /// Takes the submissions that end with the call, to be ended without the lock.
    pub(super) fn take_submissions(&mut self) -> Vec<Submission> {
        let has_ended = self.has_ended_unaccepted();
        let ended = self.requests_mut().filter(|request| request.is_withdrawn || has_ended);
        let submission = |request: &mut RequestState| {
            Some(Submission { request: request.attempts.take()?, is_withdrawn: request.is_withdrawn })
        };
        ended.filter_map(submission).collect()
    }

    /// Whether the call has failed for its caller, and the server has accepted none of its requests. Otherwise the rest are
    /// sent: half a batch would be a different step.
    fn has_ended_unaccepted(&self) -> bool {
        self.error.is_some() && self.requests().all(|request| request.request_id.is_none())
    }

    /// Ends the call for its caller, whatever happens to its requests.
    pub(super) fn fail(&mut self, error: Error) {
        if !self.is_ready() {
            self.error = Some(error);
            self.notify_listeners();
        }
    }

    fn open_tickets(&self) -> impl Iterator<Item = Ticket> {
        self.requests().filter(|request| !request.completed).filter_map(|request| request.ticket)
    }

    /// The results of the requests, in order, once all are complete. They can be taken once.
    pub(super) fn take<R: 'static>(&mut self) -> Result<Vec<Received<R>>> {
        let results = self.requests_mut().filter_map(|request| Some((request.result.take()?, request)));
        results
            .map(|(result, request)| match result.downcast::<R>() {
                Ok(result) => {
                    let (request_id, part_ids) = (request.request_id.clone(), mem::take(&mut request.part_ids));
                    Ok(Received { result: *result, request_id, part_ids })
                }
                Err(_) => Err(Error::new(
                    ErrorKind::Decode,
                    "the result was decoded into a type other than the requested one",
                )),
            })
            .collect()
    }
}

/// The caller's side of a call, whose requests all have results of one type.
pub(crate) struct CallHandle<R> {
    pub(super) state: Arc<Monitor<CallState>>,
    result: PhantomData<fn() -> R>,
}

impl<R: PromiseResult> CallHandle<R> {
    /// A call of one request, and its completer. [`Completer::add_request`] adds more.
    pub(crate) fn new(operation: &'static str) -> (Self, Completer) {
        let state = Monitor::new(CallState { incomplete: 1, ..CallState::default() });
        let decode = decode::<R>;
        let completer =
            Completer { operation, index: 0, decode, state: Arc::clone(&state), completed: false, held: None };
        (CallHandle { state, result: PhantomData }, completer)
    }

    /// The caller counts as waiting from the start. It submits the request itself, and the promise must not look idle to the
    /// poller before the caller gets to wait.
    pub(crate) fn wait_from_start(&self) {
        // No request has a ticket yet, so the poller has nothing to learn.
        drop(self.state.lock().start_waiting());
    }
}

fn decode<R: PromiseResult>(body: ResultBody<'_>) -> Result<Decoded, String> {
    let result = match body {
        ResultBody::Json(bytes) => {
            let result = match R::HAS_FLOATS {
                true => json_numbers::read::<R>(bytes),
                false => json_numbers::read_without_floats(bytes),
            };
            result.map_err(|error| error.to_string()).and_then(|result| result.check().map(|()| result))
        }
        // No message of the protocol begins with this byte.
        ResultBody::Protobuf(bytes) if bytes.first() == Some(&b'{') => {
            Err("the content-type says protobuf, but the response is JSON".to_owned())
        }
        ResultBody::Protobuf(bytes) => {
            R::from_protobuf(bytes).map_err(|why| format!("the result in protobuf is not valid: {why}"))
        }
    };
    Ok(Box::new(result?))
}

/// Completes one request of a call, with a result or an error.
pub(crate) struct Completer {
    operation: &'static str,
    index: u32,
    decode: Decode,
    state: Arc<Monitor<CallState>>,
    completed: bool,
    /// Freed when the request is completed.
    held: Option<Slot>,
}

impl Completer {
    /// Holds a slot until the request is completed.
    pub(crate) fn hold(&mut self, slot: Slot) {
        self.held = Some(slot);
    }

    /// Whether it holds a slot.
    pub(crate) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    pub(super) fn decode(&self) -> Decode {
        self.decode
    }

    pub(super) fn state(&self) -> &Arc<Monitor<CallState>> {
        &self.state
    }

    /// Fails if nobody will take the result.
    pub(crate) fn check_wanted(&self) -> Result<()> {
        let state = self.state.lock();
        if state.abandoned || state.error.is_some() { Err(abandoned()) } else { Ok(()) }
    }

    /// Lets the caller cancel this submission by abandoning the call.
    pub(crate) fn set_submission(&self, submission: &Arc<RequestHandle>) {
        let mut state = self.state.lock();
        let attempts = (!state.abandoned).then(|| Arc::clone(submission));
        let request = state.request(self.index);
        (request.attempts, request.is_withdrawn) = (attempts, true);
        if state.abandoned {
            drop(state);
            submission.cancel();
        }
    }

    /// Marks the request as written, just before it is. Fails if the call ended before any of its requests was written. After
    /// that all are written: half a batch would be a different step.
    pub(crate) fn begin_write(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.error.is_some() && !state.was_written() {
            return Err(abandoned());
        }
        state.request(self.index).written = true;
        Ok(())
    }

    /// Adds one more request to the call, after the others, and returns its completer. This one must not be complete yet.
    pub(crate) fn add_request(&self) -> Completer {
        let mut state = self.state.lock();
        state.more.push(RequestState::default());
        state.incomplete += 1;
        let index = state.more.len() as u32;
        drop(state);
        let (operation, decode, state) = (self.operation, self.decode, Arc::clone(&self.state));
        Completer { operation, index, decode, state, completed: false, held: None }
    }

    /// Takes the mark back: nothing of the request has reached the server.
    pub(crate) fn mark_unwritten(&self) {
        self.state.lock().request(self.index).written = false;
    }

    /// Records the ids that the promise gave the parts of the result.
    pub(crate) fn name_parts(&self, ids: Box<[String]>) {
        self.state.lock().request(self.index).part_ids = ids;
    }

    /// Records the promise of the server, and the ticket under which the poller will know it. Returns whether someone waits
    /// for it already, or `None` if nobody ever will. The caller keeps the state locked until the poller has the promise.
    pub(super) fn record_promise(&self, state: &mut CallState, request_id: &Arc<str>, ticket: Ticket) -> Option<bool> {
        let request = state.request(self.index);
        request.written = true;
        request.request_id = Some(Arc::clone(request_id));
        (request.ticket, request.attempts, request.is_withdrawn) = (Some(ticket), None, false);
        (!state.abandoned).then_some(state.waiters > 0)
    }

    /// Hands the result or the error over.
    pub(crate) fn complete(mut self, result: Result<Decoded>) {
        if let Some(error) = self.settle(result.map_err(|error| error.with_operation(self.operation))) {
            warn!("{error}; nobody waits for its result");
        }
    }

    /// Returns the error if nobody will get it, unless the caller asked for it.
    fn settle(&mut self, result: Result<Decoded>) -> Option<Error> {
        self.completed = true;
        let mut state = self.state.lock();
        let others_written = (0..).zip(state.requests()).any(|(index, request)| index != self.index && request.written);
        let request = state.request(self.index);
        (request.completed, request.attempts) = (true, None);
        let request_id = request.request_id.clone();
        let mut unheard = None;
        state.incomplete = state.incomplete.saturating_sub(1);
        match result {
            Ok(result) => state.request(self.index).result = Some(result),
            Err(error) => {
                let error = match request_id {
                    Some(id) => error.with_request_id(id),
                    None => error,
                };
                // A promised request may have taken effect, unless the service itself says that it failed. So may the other
                // requests of the call.
                let promised = error.request_id().is_some() && error.kind() != ErrorKind::RequestFailed;
                let error = if promised || others_written { error.with_effect(true) } else { error };
                unheard = (state.abandoned && error.kind() != ErrorKind::Cancelled).then(|| error.clone());
                state.error.get_or_insert(error);
            }
        }
        let is_ready = state.is_ready();
        if is_ready {
            state.notify_listeners();
        }
        drop(state);
        if is_ready {
            self.state.notify_all();
        }
        unheard
    }
}

fn abandoned() -> Error {
    Error::new(ErrorKind::Cancelled, "abandoned by the caller")
}

impl Drop for Completer {
    fn drop(&mut self) {
        if !self.completed {
            let written = self.state.lock().request(self.index).written;
            let error = if std::thread::panicking() {
                Error::new(ErrorKind::Panicked, "a thread of the client panicked")
                    .with_hint("see the log for the panic; close the client and connect again")
            } else {
                Error::closed()
            };
            // If nobody gets the error, it is not logged: the poller drops abandoned promises, and that is no failure.
            drop(self.settle(Err(error.with_operation(self.operation).with_effect(written))));
        }
    }
}

#[cfg(test)]
mod tests;

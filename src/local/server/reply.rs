//! The way from a handler or a worker back to the connection that waits for the answer.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

use mio::Waker;
use parking_lot::Mutex;

use super::faults::Delivery;
use super::http::Response;

/// What the threads of the server tell the event loop.
#[derive(Debug)]
pub(super) enum Message {
    /// The answer to a request.
    Answer { to: Address, response: Response, delivery: Delivery },
    /// A request's answer will come later; at `until`, if ever, this one is sent instead.
    Hold { to: Address, until: Option<Instant>, otherwise: Response, delivery: Delivery },
    /// Close the listener and every connection, then tell.
    Pause(crossbeam_channel::Sender<io::Result<()>>),
    /// Listen again, then tell.
    Resume(crossbeam_channel::Sender<io::Result<()>>),
    /// End the loop.
    Stop,
}

/// One request of one connection. A message for a request that is no longer the connection's last is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) connection: usize,
    pub(super) exchange: u64,
}

/// Messages to the event loop, which is woken for them.
#[derive(Debug)]
pub(super) struct Mailbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
}

impl Mailbox {
    pub(super) fn new(waker: Waker) -> Self {
        Mailbox { messages: Mutex::default(), waker }
    }

    pub(super) fn send(&self, message: Message) {
        self.messages.lock().push(message);
        if let Err(error) = self.waker.wake() {
            log::error!("the server's event loop could not be woken: {error}");
        }
    }

    pub(super) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.messages.lock())
    }
}

/// Answers one request, from any thread.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) to: Address,
    /// How the answer leaves the server, when a fault was asked for.
    pub(super) delivery: Delivery,
    /// The connection holds the other end for as long as it waits for this answer.
    pub(super) awaited: Weak<()>,
}

impl Reply {
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.strong_count() > 0
    }

    pub(super) fn answer(&self, response: Response) {
        self.mailbox.send(Message::Answer { to: self.to, response, delivery: self.delivery });
    }

    /// Answers at `until`, if ever, unless [`answer`](Reply::answer) came first.
    pub(super) fn hold(&self, until: Option<Instant>, otherwise: Response) {
        self.mailbox.send(Message::Hold { to: self.to, until, otherwise, delivery: self.delivery });
    }
}

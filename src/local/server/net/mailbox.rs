//! Messages from any thread of the server back to the event loop, and so to the connection that waits for a response.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::Sender;
use mio::Waker;
use parking_lot::Mutex;

use super::delivery::Delivery;
use crate::local::server::http1::Response;

/// A message to the event loop.
#[derive(Debug)]
pub(crate) enum Message {
    /// The response to a request.
    Respond { to: ExchangeId, response: Response, delivery: Delivery },
    /// The response will come later. If it has not come by `until`, send `fallback` instead; `None` waits without limit.
    Hold { to: ExchangeId, until: Option<Instant>, fallback: Response, delivery: Delivery },
    /// Close the listener and every connection, then report the result.
    Pause(Sender<io::Result<()>>),
    /// Listen again, then report the result.
    Resume(Sender<io::Result<()>>),
    /// End the loop.
    Stop,
}

/// One request of one connection. A message about any but the connection's latest request is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeId {
    pub(crate) connection: usize,
    /// Number of the request on its connection.
    pub(crate) request: u64,
}

/// Messages to the event loop; sending one wakes it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    messages: Mutex<Vec<Message>>,
    waker: Waker,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Self {
        Mailbox { messages: Mutex::default(), waker }
    }

    pub(crate) fn send(&self, message: Message) {
        self.messages.lock().push(message);
        if let Err(error) = self.waker.wake() {
            log::error!("failed to wake the event loop of the local server: {error}");
        }
    }

    pub(crate) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.messages.lock())
    }
}

/// Responds to one request, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) to: ExchangeId,
    /// How the response leaves the server; set by an injected fault.
    pub(crate) delivery: Delivery,
    /// Expires when the connection no longer waits for this response.
    pub(crate) awaited: Weak<()>,
}

impl Responder {
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.strong_count() > 0
    }

    pub(crate) fn respond(&self, response: Response) {
        self.mailbox.send(Message::Respond { to: self.to, response, delivery: self.delivery });
    }

    /// Sends `fallback` at `until` unless [`respond`](Responder::respond) is called first.
    pub(crate) fn hold(&self, until: Option<Instant>, fallback: Response) {
        self.mailbox.send(Message::Hold { to: self.to, until, fallback, delivery: self.delivery });
    }
}

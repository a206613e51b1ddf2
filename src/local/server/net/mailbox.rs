//! Messages from any thread of the server back to the event loop, and so to the connection that waits for a response.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::Sender;
use mio::Waker;
use parking_lot::Mutex;

use super::awaited::Awaited;
use super::delivery::Delivery;
use super::stream::Backlog;
use crate::local::server::http1::Response;

/// A message to the event loop.
#[derive(Debug)]
pub(crate) enum Message {
    /// The response to a request.
    Respond { to: ExchangeId, response: Response, delivery: Delivery },
    /// The response will come later. If it has not come by `until`, send `fallback` instead; `None` waits without limit.
    Hold { to: ExchangeId, until: Option<Instant>, fallback: Response, delivery: Delivery },
    /// The response is not wanted once the client closes its sending side.
    Watch { to: ExchangeId },
    /// The response comes in pieces: its head.
    Begin { to: ExchangeId, response: Response, backlog: Backlog, delivery: Delivery },
    /// A piece of the body, or its end.
    Piece { to: ExchangeId, piece: Option<Vec<u8>> },
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
    /// What every response gets besides its own headers.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Expires when the connection no longer waits for this response.
    pub(super) awaited: Weak<Awaited>,
}

impl Responder {
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.strong_count() > 0
    }

    pub(crate) fn respond(&self, response: Response) {
        let response = self.with_headers(response);
        self.mailbox.send(Message::Respond { to: self.to, response, delivery: self.delivery });
    }

    /// Sends `fallback` at `until` unless [`respond`](Responder::respond) is called first.
    pub(crate) fn hold(&self, until: Option<Instant>, fallback: Response) {
        self.mailbox.send(Message::Hold { to: self.to, until, fallback, delivery: self.delivery });
    }

    /// Calls `hook` on the thread of the event loop when the connection has the response or closes, or at once if it did. Until then
    /// it watches for a client that closes its side.
    pub(crate) fn when_unwanted(&self, hook: Box<dyn FnOnce() + Send>) {
        Awaited::when_dropped(&self.awaited, hook);
        self.mailbox.send(Message::Watch { to: self.to });
    }

    /// Begins a response with this head, whose body follows in pieces. A [`respond`](Responder::respond) in place of the next piece
    /// ends it early, so that the client notices.
    pub(crate) fn begin(&self, response: Response) -> StreamResponder {
        let (response, backlog) = (self.with_headers(response), Backlog::default());
        let (to, delivery) = (self.to, self.delivery);
        self.mailbox.send(Message::Begin { to, response, backlog: backlog.clone(), delivery });
        StreamResponder { responder: self.clone(), backlog }
    }

    fn with_headers(&self, response: Response) -> Response {
        self.headers.iter().fold(response, |response, (name, value)| response.header(name, value))
    }
}

/// Sends a response in pieces, from any thread.
#[derive(Clone, Debug)]
pub(crate) struct StreamResponder {
    responder: Responder,
    backlog: Backlog,
}

impl StreamResponder {
    /// Whether the client has taken most of what was sent: a slow one should get its next piece later.
    pub(crate) fn has_room(&self) -> bool {
        self.backlog.has_room()
    }

    pub(crate) fn send(&self, piece: Vec<u8>) {
        self.backlog.add(piece.len());
        self.responder.mailbox.send(Message::Piece { to: self.responder.to, piece: Some(piece) });
    }

    pub(crate) fn end(&self) {
        self.responder.mailbox.send(Message::Piece { to: self.responder.to, piece: None });
    }
}

//! One connection: a state machine over a non-blocking socket.
//!
//! A connection reads a request, dispatches it, waits for the response, writes it, and starts over. It never blocks: the
//! event loop calls it when the socket is ready, a message arrives or a deadline passes, and takes the next step that it
//! returns.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::SockRef;

use super::awaited::Awaited;
use super::counted::Counted;
use super::delivery::{Delivery, DeliveryMode};
use super::stream::{Backlog, Flow, Stream};
use crate::local::server::activity::Traffic;
use crate::local::server::http1::{Parsed, Parser, Request, Response};
use crate::local::server::time::wall_clock;

/// How long a client may keep sending after the last response before its connection is reset.
const LINGER: Duration = Duration::from_secs(2);

/// Limits that apply to every connection.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Maximum size of a request body, in bytes.
    pub(crate) max_body: usize,
    /// Time from the first byte of a request to the end of its headers.
    pub(crate) timeout_header: Duration,
    /// Time without a byte between requests, within a body, or while a response is written.
    pub(crate) timeout_idle: Duration,
}

/// What the event loop does next for a connection.
#[derive(Debug)]
pub(super) enum NextStep {
    Wait,
    /// Hand the request to a handler thread.
    Dispatch(Request),
    Close,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: Counted,
    parser: Parser,
    limits: Limits,
    phase: Phase,
    /// When the current phase times out.
    pub(super) deadline: Option<Instant>,
    /// Number of the latest request, from 1.
    pub(super) request_number: u64,
    /// Present while the latest request has no response.
    awaited: Option<Arc<Awaited>>,
    /// Whether the connection closes when the client closes its sending side before the response is ready.
    is_watched: bool,
    keep_alive: bool,
    /// Whether the client of the latest request reads a body in chunks.
    takes_chunks: bool,
    /// The latest request is a HEAD request.
    is_head: bool,
    /// The client has closed its sending side.
    read_closed: bool,
}

#[derive(Debug)]
enum Phase {
    /// Waiting for a request, or reading one.
    Reading,
    /// A handler thread has the request.
    Handling,
    /// A long poll: waiting for the response, or for the deadline, when this one is sent.
    Held(Response, Delivery),
    /// The response is ready, and a fault withholds it until the deadline.
    Delayed(Response, DeliveryMode),
    Writing(Output),
    /// The response is written while it is made.
    Streaming(Stream),
    /// A fault suppresses the response.
    Silent,
    /// A fault resets the connection at the next byte from the client.
    ResetPending,
    /// Everything is written and the sending side closed. Reads and discards what the client still sends: closing with
    /// unread bytes would reset the connection and could destroy the response on its way (RFC 9112, 9.6).
    Draining,
}

#[derive(Debug)]
struct Output {
    head: Vec<u8>,
    body: Arc<Vec<u8>>,
    /// Number of bytes of the body to write.
    body_length: usize,
    written: usize,
    then: AfterWrite,
}

#[derive(Clone, Copy, Debug)]
enum AfterWrite {
    Read,
    Drain,
    Close,
    Reset,
    ResetOnNextRequest,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, limits: Limits, now: Instant) -> Self {
        Connection {
            stream: Counted::new(stream),
            parser: Parser::new(limits.max_body),
            phase: Phase::Reading,
            deadline: now.checked_add(limits.timeout_idle),
            limits,
            request_number: 0,
            awaited: None,
            is_watched: false,
            keep_alive: true,
            takes_chunks: true,
            is_head: false,
            read_closed: false,
        }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream.stream
    }

    /// The bytes that went through the connection since the last call.
    pub(super) fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.stream.traffic)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Held(..))
    }

    /// A reference that expires once the latest request has its response.
    pub(super) fn awaited(&self) -> Weak<Awaited> {
        self.awaited.as_ref().map_or_else(Weak::new, Arc::downgrade)
    }

    /// The socket may have bytes to read, or the end of the stream.
    pub(super) fn on_readable(&mut self, now: Instant) -> NextStep {
        let mut buffer = [0; 16 * 1024];
        let mut dispatch = None;
        loop {
            if let Phase::Reading = self.phase {
                match self.advance(now) {
                    NextStep::Dispatch(request) => dispatch = Some(request),
                    NextStep::Wait => {}
                    NextStep::Close => return NextStep::Close,
                }
            }
            if self.parser.is_full() && !matches!(self.phase, Phase::Reading | Phase::Draining) {
                break;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    self.read_closed = true;
                    break;
                }
                Ok(_) if matches!(self.phase, Phase::Draining) => {}
                Ok(_) if matches!(self.phase, Phase::ResetPending) => return self.reset(),
                Ok(length) => self.on_bytes(&buffer[..length], now),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return NextStep::Close,
            }
        }
        match (dispatch, &self.phase) {
            (Some(request), _) => NextStep::Dispatch(request),
            (None, Phase::Handling) if !self.is_watched => NextStep::Wait,
            (None, Phase::Writing(_)) => NextStep::Wait,
            (None, _) if self.read_closed => NextStep::Close,
            (None, _) => NextStep::Wait,
        }
    }

    fn on_bytes(&mut self, bytes: &[u8], now: Instant) {
        let was_idle = self.parser.is_idle();
        self.parser.push(bytes);
        // One deadline covers all headers from their first byte, against clients that drip them; a body only has to make
        // progress.
        if was_idle && matches!(self.phase, Phase::Reading) {
            self.deadline = now.checked_add(self.limits.timeout_header);
        }
    }

    /// Parses the next request from the bytes received so far.
    fn advance(&mut self, now: Instant) -> NextStep {
        loop {
            match self.parser.next() {
                Ok(None) => {
                    if self.parser.is_in_body() {
                        self.deadline = now.checked_add(self.limits.timeout_idle);
                    }
                    return NextStep::Wait;
                }
                Ok(Some(Parsed::ExpectContinue)) => {
                    // So few bytes fit into the send buffer; if not, clients send the body anyway after a short wait.
                    let _ = self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                Ok(Some(Parsed::Request(request))) => {
                    self.keep_alive = request.keep_alive;
                    self.takes_chunks = request.takes_chunks;
                    self.is_head = request.method == "HEAD";
                    self.request_number += 1;
                    self.awaited = Some(Arc::default());
                    self.is_watched = false;
                    self.enter(Phase::Handling, None);
                    return NextStep::Dispatch(request);
                }
                Err(response) => {
                    self.keep_alive = false;
                    return self.deliver(response, DeliveryMode::Complete, now);
                }
            }
        }
    }

    /// The response to a request is ready.
    pub(super) fn on_response(
        &mut self,
        request_number: u64,
        response: Response,
        delivery: Delivery,
        now: Instant,
    ) -> NextStep {
        match self.phase {
            _ if request_number != self.request_number => return NextStep::Wait,
            Phase::Handling | Phase::Held(..) => {}
            // Whoever made the body failed: only a body that ends early tells the client.
            Phase::Streaming(_) => return NextStep::Close,
            _ => return NextStep::Wait,
        }
        self.awaited = None;
        if delivery.delay > Duration::ZERO {
            self.enter(Phase::Delayed(response, delivery.mode), now.checked_add(delivery.delay));
            return NextStep::Wait;
        }
        self.deliver(response, delivery.mode, now)
    }

    /// The response to a request will come later.
    pub(super) fn on_hold(
        &mut self,
        request_number: u64,
        until: Option<Instant>,
        fallback: Response,
        delivery: Delivery,
    ) -> NextStep {
        if request_number != self.request_number || !matches!(self.phase, Phase::Handling) {
            return NextStep::Wait;
        }
        if self.read_closed {
            return NextStep::Close;
        }
        self.enter(Phase::Held(fallback, delivery), until);
        NextStep::Wait
    }

    /// Nobody wants the response to a request any more once the client closes its sending side.
    pub(super) fn on_watch(&mut self, request_number: u64) -> NextStep {
        if request_number != self.request_number || !matches!(self.phase, Phase::Handling) {
            return NextStep::Wait;
        }
        self.is_watched = true;
        if self.read_closed { NextStep::Close } else { NextStep::Wait }
    }

    /// The response to a request will come in pieces.
    pub(super) fn on_begin(
        &mut self,
        request_number: u64,
        response: &Response,
        backlog: Backlog,
        delivery: Delivery,
        now: Instant,
    ) -> NextStep {
        if request_number != self.request_number || !matches!(self.phase, Phase::Handling) {
            return NextStep::Wait;
        }
        match delivery.mode {
            _ if self.read_closed => return NextStep::Close,
            DeliveryMode::Reset => return self.reset(),
            DeliveryMode::Never => {
                self.enter(Phase::Silent, None);
                return NextStep::Wait;
            }
            _ => {}
        }
        // Without chunks, only the end of the connection ends the body.
        self.keep_alive &= self.takes_chunks;
        let head = response.stream_head(self.keep_alive, wall_clock());
        let stream = Stream::new(head, self.keep_alive, backlog, delivery, now);
        let withheld_until = stream.withheld_until();
        self.enter(Phase::Streaming(stream), withheld_until);
        self.on_writable(now)
    }

    /// A piece of the response that has begun, or its end.
    pub(super) fn on_piece(&mut self, request_number: u64, piece: Option<&[u8]>, now: Instant) -> NextStep {
        match &mut self.phase {
            Phase::Streaming(stream) if request_number == self.request_number => match piece {
                Some(piece) => stream.push(piece),
                None => {
                    stream.end();
                    self.awaited = None;
                }
            },
            _ => return NextStep::Wait,
        }
        self.on_writable(now)
    }

    pub(super) fn on_deadline(&mut self, now: Instant) -> NextStep {
        self.deadline = None;
        match std::mem::replace(&mut self.phase, Phase::Silent) {
            Phase::Held(fallback, delivery) => {
                self.phase = Phase::Handling;
                self.on_response(self.request_number, fallback, delivery, now)
            }
            Phase::Delayed(response, mode) => self.deliver(response, mode, now),
            Phase::Streaming(mut stream) if stream.withheld_until().is_some() => {
                stream.release();
                self.phase = Phase::Streaming(stream);
                self.on_writable(now)
            }
            Phase::Reading if !self.parser.is_idle() => {
                self.keep_alive = false;
                self.deliver(Response::temporary(408, "the request timed out"), DeliveryMode::Complete, now)
            }
            _ => NextStep::Close,
        }
    }

    fn deliver(&mut self, response: Response, mode: DeliveryMode, now: Instant) -> NextStep {
        // These responses end with their headers: a client would take a body for the next response (RFC 9112, 6.3).
        let without_body = self.is_head || matches!(response.status, 204 | 304);
        let full_length = if without_body { 0 } else { response.body.len() };
        let body_length = match mode {
            DeliveryMode::Complete | DeliveryMode::ResetAfter => full_length,
            DeliveryMode::Truncated | DeliveryMode::ResetDuring => full_length / 2,
            DeliveryMode::Malformed => {
                // The prefix makes any JSON invalid; content-length counts it.
                let body = Arc::new([b"<", response.body.as_slice()].concat());
                return self.deliver(Response { body, ..response }, DeliveryMode::Complete, now);
            }
            DeliveryMode::Reset => return self.reset(),
            DeliveryMode::Never if self.read_closed => return NextStep::Close,
            DeliveryMode::Never => {
                self.enter(Phase::Silent, None);
                return NextStep::Wait;
            }
        };
        let head = response.head(self.keep_alive, wall_clock());
        let then = self.after_delivery(mode);
        let output = Output { head, body: response.body, body_length, written: 0, then };
        self.enter(Phase::Writing(output), now.checked_add(self.limits.timeout_idle));
        self.on_writable(now)
    }

    /// The socket may accept more bytes.
    pub(super) fn on_writable(&mut self, now: Instant) -> NextStep {
        let output = match &mut self.phase {
            Phase::Writing(output) => output,
            Phase::Streaming(_) => return self.write_stream(now),
            _ => return NextStep::Wait,
        };
        let then = output.then;
        match output.write(&mut self.stream) {
            Ok(true) => {}
            Ok(false) => {
                self.deadline = now.checked_add(self.limits.timeout_idle);
                return NextStep::Wait;
            }
            Err(_) => return NextStep::Close,
        }
        self.after_write(then, now)
    }

    fn write_stream(&mut self, now: Instant) -> NextStep {
        let Phase::Streaming(stream) = &mut self.phase else { return NextStep::Wait };
        if stream.withheld_until().is_some() {
            return NextStep::Wait;
        }
        match stream.write(&mut self.stream) {
            Ok(Flow::Drained) => self.deadline = None,
            Ok(Flow::Blocked { progress }) => {
                if progress || self.deadline.is_none() {
                    self.deadline = now.checked_add(self.limits.timeout_idle);
                }
            }
            Ok(Flow::Ended) => {
                let mode = stream.mode();
                return self.after_write(self.after_delivery(mode), now);
            }
            Err(_) => return NextStep::Close,
        }
        NextStep::Wait
    }

    /// What follows a response that is delivered in this way.
    fn after_delivery(&self, mode: DeliveryMode) -> AfterWrite {
        match mode {
            DeliveryMode::Truncated => AfterWrite::Close,
            DeliveryMode::ResetDuring => AfterWrite::Reset,
            DeliveryMode::ResetAfter => AfterWrite::ResetOnNextRequest,
            _ if self.keep_alive => AfterWrite::Read,
            _ => AfterWrite::Drain,
        }
    }

    fn after_write(&mut self, then: AfterWrite, now: Instant) -> NextStep {
        match then {
            AfterWrite::Read if !self.read_closed => {
                self.enter(Phase::Reading, now.checked_add(self.limits.timeout_idle));
                self.on_readable(now)
            }
            AfterWrite::Drain if !self.read_closed && self.stream.stream.shutdown(Shutdown::Write).is_ok() => {
                self.enter(Phase::Draining, now.checked_add(LINGER));
                self.on_readable(now)
            }
            AfterWrite::Reset => self.reset(),
            AfterWrite::ResetOnNextRequest if !self.read_closed => {
                self.enter(Phase::ResetPending, None);
                self.on_readable(now)
            }
            _ => NextStep::Close,
        }
    }

    /// Closing with a linger time of zero sends a reset, which may also discard bytes written before.
    fn reset(&mut self) -> NextStep {
        if let Err(error) = SockRef::from(&self.stream.stream).set_linger(Some(Duration::ZERO)) {
            log::warn!("failed to reset a connection, closing it instead: {error}");
        }
        NextStep::Close
    }

    fn enter(&mut self, phase: Phase, deadline: Option<Instant>) {
        self.phase = phase;
        self.deadline = deadline;
    }
}

impl Output {
    /// Writes as much as the socket accepts; returns whether everything is written.
    fn write(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        let total = self.head.len() + self.body_length;
        while self.written < total {
            let head = self.head.get(self.written..).unwrap_or_default();
            let body = &self.body[self.written.saturating_sub(self.head.len())..self.body_length];
            match stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

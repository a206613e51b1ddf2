//! One connection: what it is doing, and what the next event makes of it.
//!
//! A connection reads a request, hands it over, waits for the answer, writes it, and begins again. It never blocks; the
//! event loop calls it when the socket, a message or a deadline has news, and does what it returns.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use socket2::SockRef;

use super::faults::{Delivery, How};
use super::http::{Event, Parser, Request, Response};
use super::wall;

/// How long a client that was told to go away may go on sending before its connection is reset.
const LINGER: Duration = Duration::from_secs(2);

/// The limits of every connection.
#[derive(Clone, Debug)]
pub(in crate::local) struct Limits {
    /// The longest body of a request.
    pub(in crate::local) max_body: usize,
    /// From the first byte of a request to the end of its headers.
    pub(in crate::local) timeout_header: Duration,
    /// Without a byte between requests, within a body, or while an answer is written.
    pub(in crate::local) timeout_idle: Duration,
}

/// What the event loop has to do.
#[derive(Debug)]
pub(super) enum Next {
    Wait,
    /// Have the request carried out, and bring the answer.
    Dispatch(Request),
    Close,
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    parser: Parser,
    limits: Limits,
    phase: Phase,
    /// When the phase ends by itself.
    pub(super) deadline: Option<Instant>,
    /// The number of the last request.
    pub(super) exchange: u64,
    /// Exists while the last request is unanswered.
    awaited: Option<Arc<()>>,
    keep_alive: bool,
    /// The last request wants to know of an answer without getting its body.
    is_head: bool,
    /// The client will send nothing more.
    ended: bool,
}

#[derive(Debug)]
enum Phase {
    /// Waits for a request, or is in the middle of one.
    Reading,
    /// A request is being carried out.
    Handling,
    /// A request's answer will come later, or else this one at the deadline.
    Held(Response, Delivery),
    /// The answer is there and leaves at the deadline.
    Late(Response, How),
    Writing(Output),
    /// Was told never to answer.
    Silent,
    /// Was told to answer with a reset what comes next.
    Doomed,
    /// Has said everything and reads on, so that what the client still sends does not reset the connection under the
    /// answer.
    Draining,
}

#[derive(Debug)]
struct Output {
    head: Vec<u8>,
    body: Arc<Vec<u8>>,
    /// How much of the body is to be written.
    length: usize,
    written: usize,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Read,
    Drain,
    Close,
    Reset,
    ResetLater,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, limits: Limits, now: Instant) -> Self {
        Connection {
            stream,
            parser: Parser::new(limits.max_body),
            phase: Phase::Reading,
            deadline: now.checked_add(limits.timeout_idle),
            limits,
            exchange: 0,
            awaited: None,
            keep_alive: true,
            is_head: false,
            ended: false,
        }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.phase, Phase::Held(..))
    }

    /// Lives as long as the last request is unanswered.
    pub(super) fn awaited(&self) -> Weak<()> {
        self.awaited.as_ref().map_or_else(Weak::new, Arc::downgrade)
    }

    /// The socket may have bytes, or its end.
    pub(super) fn on_readable(&mut self, now: Instant) -> Next {
        let mut piece = [0; 16 * 1024];
        let mut dispatch = None;
        loop {
            if let Phase::Reading = self.phase {
                match self.advance(now) {
                    Next::Dispatch(request) => dispatch = Some(request),
                    Next::Wait => {}
                    Next::Close => return Next::Close,
                }
            }
            if self.parser.is_full() && !matches!(self.phase, Phase::Reading | Phase::Draining) {
                break;
            }
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(_) if matches!(self.phase, Phase::Draining) => {}
                Ok(_) if matches!(self.phase, Phase::Doomed) => return self.reset(),
                Ok(length) => self.on_bytes(&piece[..length], now),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Next::Close,
            }
        }
        match (dispatch, &self.phase) {
            (Some(request), _) => Next::Dispatch(request),
            (None, Phase::Handling | Phase::Writing(_)) => Next::Wait,
            (None, _) if self.ended => Next::Close,
            (None, _) => Next::Wait,
        }
    }

    fn on_bytes(&mut self, bytes: &[u8], now: Instant) {
        let was_idle = self.parser.is_idle();
        self.parser.push(bytes);
        // The headers have one deadline from their first byte; a body only has to make progress.
        if was_idle && matches!(self.phase, Phase::Reading) {
            self.deadline = now.checked_add(self.limits.timeout_header);
        }
    }

    /// Takes the next request out of the bytes that are there.
    fn advance(&mut self, now: Instant) -> Next {
        loop {
            match self.parser.next() {
                Ok(None) => {
                    if self.parser.is_in_body() {
                        self.deadline = now.checked_add(self.limits.timeout_idle);
                    }
                    return Next::Wait;
                }
                Ok(Some(Event::Continue)) => {
                    // A fresh connection has room for these few bytes; if not, the client goes on by itself after a
                    // moment.
                    let _ = self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                Ok(Some(Event::Request(request))) => {
                    self.keep_alive = request.keep_alive;
                    self.is_head = request.method == "HEAD";
                    self.exchange += 1;
                    self.awaited = Some(Arc::new(()));
                    self.enter(Phase::Handling, None);
                    return Next::Dispatch(request);
                }
                Err(refusal) => {
                    self.keep_alive = false;
                    return self.deliver(refusal, How::Whole, now);
                }
            }
        }
    }

    /// The answer to a request has come.
    pub(super) fn on_answer(&mut self, exchange: u64, response: Response, delivery: Delivery, now: Instant) -> Next {
        if exchange != self.exchange || !matches!(self.phase, Phase::Handling | Phase::Held(..)) {
            return Next::Wait;
        }
        self.awaited = None;
        if delivery.delay > Duration::ZERO {
            self.enter(Phase::Late(response, delivery.how), now.checked_add(delivery.delay));
            return Next::Wait;
        }
        self.deliver(response, delivery.how, now)
    }

    /// The answer to a request will come later.
    pub(super) fn on_hold(
        &mut self,
        exchange: u64,
        until: Option<Instant>,
        otherwise: Response,
        delivery: Delivery,
    ) -> Next {
        if exchange != self.exchange || !matches!(self.phase, Phase::Handling) {
            return Next::Wait;
        }
        if self.ended {
            return Next::Close;
        }
        self.enter(Phase::Held(otherwise, delivery), until);
        Next::Wait
    }

    pub(super) fn on_deadline(&mut self, now: Instant) -> Next {
        self.deadline = None;
        match std::mem::replace(&mut self.phase, Phase::Silent) {
            Phase::Held(otherwise, delivery) => {
                self.phase = Phase::Handling;
                self.on_answer(self.exchange, otherwise, delivery, now)
            }
            Phase::Late(response, how) => self.deliver(response, how, now),
            Phase::Reading if !self.parser.is_idle() => {
                self.keep_alive = false;
                self.deliver(Response::detail(408, "the request did not arrive in time"), How::Whole, now)
            }
            _ => Next::Close,
        }
    }

    fn deliver(&mut self, response: Response, how: How, now: Instant) -> Next {
        // Here an answer ends with its headers, and a body would be taken for the next one (RFC 9112, 6.3).
        let bodiless = self.is_head || matches!(response.status, 204 | 304);
        let whole = if bodiless { 0 } else { response.body.len() };
        let (length, then) = match how {
            How::Whole => (whole, if self.keep_alive { Then::Read } else { Then::Drain }),
            How::Malformed => {
                // As long as it says, but no JSON, whatever it was before.
                let body = Arc::new([b"<", response.body.as_slice()].concat());
                return self.deliver(Response { body, ..response }, How::Whole, now);
            }
            How::Truncated => (whole / 2, Then::Close),
            How::ResetDuring => (whole / 2, Then::Reset),
            How::ResetAfter => (whole, Then::ResetLater),
            How::Reset => return self.reset(),
            How::Never if self.ended => return Next::Close,
            How::Never => {
                self.enter(Phase::Silent, None);
                return Next::Wait;
            }
        };
        let head = response.head(self.keep_alive, wall());
        let output = Output { head, body: response.body, length, written: 0, then };
        self.enter(Phase::Writing(output), now.checked_add(self.limits.timeout_idle));
        self.on_writable(now)
    }

    /// The socket may have room for more.
    pub(super) fn on_writable(&mut self, now: Instant) -> Next {
        let Phase::Writing(output) = &mut self.phase else { return Next::Wait };
        let then = output.then;
        match output.write(&mut self.stream) {
            Ok(true) => {}
            Ok(false) => {
                self.deadline = now.checked_add(self.limits.timeout_idle);
                return Next::Wait;
            }
            Err(_) => return Next::Close,
        }
        match then {
            Then::Read if !self.ended => {
                self.enter(Phase::Reading, now.checked_add(self.limits.timeout_idle));
                self.on_readable(now)
            }
            Then::Drain if !self.ended && self.stream.shutdown(Shutdown::Write).is_ok() => {
                self.enter(Phase::Draining, now.checked_add(LINGER));
                self.on_readable(now)
            }
            Then::Reset => self.reset(),
            Then::ResetLater if !self.ended => {
                self.enter(Phase::Doomed, None);
                self.on_readable(now)
            }
            _ => Next::Close,
        }
    }

    /// A connection that is closed without lingering is reset; what was written before may be lost with it.
    fn reset(&mut self) -> Next {
        if let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            log::warn!("a connection is closed instead of reset: {error}");
        }
        Next::Close
    }

    fn enter(&mut self, phase: Phase, deadline: Option<Instant>) {
        self.phase = phase;
        self.deadline = deadline;
    }
}

impl Output {
    /// Writes what the socket takes; whether that was everything.
    fn write(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let total = self.head.len() + self.length;
        while self.written < total {
            let head = self.head.get(self.written..).unwrap_or_default();
            let body = &self.body[self.written.saturating_sub(self.head.len())..self.length];
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

//! One request on its way: what became of it, and how another thread cuts it off.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ureq::Error;
use ureq::unversioned::transport::ShutdownHandle;

use super::secrets::SecretLines;
use crate::clock::Monitor;

/// One request on its way, over all its attempts: what became of it, and the means to cut it off from another thread.
#[derive(Default)]
pub(crate) struct Flight(Mutex<FlightState>);

#[derive(Default)]
struct FlightState {
    cut: bool,
    attempts: u32,
    /// In any exchange.
    written: bool,
    /// In any exchange: it was written, and what the server made of it is unknown.
    unanswered: bool,
    written_now: bool,
    heard: bool,
    reused: bool,
    socket: Option<Socket>,
    /// What the request waits at between two attempts.
    waits_at: Option<Arc<Monitor<bool>>>,
}

/// A connection's means of shutting down. Weak: the connection closes as usual when it is dropped.
pub(super) type Socket = Weak<dyn ShutdownHandle>;

impl Flight {
    /// Ends the request: it fails at once, and its connection is freed.
    pub(crate) fn cut(&self) {
        let mut state = self.0.lock();
        state.cut = true;
        if let Some(socket) = state.socket.take().and_then(|socket| socket.upgrade()) {
            socket.shutdown();
        }
        let waits_at = state.waits_at.take();
        // Whoever waits looks at this flight with the monitor locked.
        drop(state);
        if let Some(monitor) = waits_at {
            drop(monitor.lock());
            monitor.notify_all();
        }
    }

    /// Makes a cut wake those who wait at this monitor.
    pub(super) fn waits(&self, monitor: &Arc<Monitor<bool>>) {
        self.0.lock().waits_at = Some(Arc::clone(monitor));
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.lock().cut
    }

    /// Whether the server may have seen the request: some of it was written, in this attempt or an earlier one.
    pub(crate) fn was_written(&self) -> bool {
        self.0.lock().written
    }

    /// Whether some of it was written in this exchange.
    pub(super) fn was_written_now(&self) -> bool {
        self.0.lock().written_now
    }

    /// This exchange brought no answer that tells what became of the request.
    pub(super) fn note_unanswered(&self) {
        let mut state = self.0.lock();
        state.unanswered |= state.written_now;
    }

    /// Whether it was written without such an answer, in this attempt or an earlier one.
    pub(super) fn is_unanswered(&self) -> bool {
        self.0.lock().unanswered
    }

    /// Begins an attempt, of any number of exchanges. Returns its number, from 0.
    pub(super) fn begin_attempt(&self) -> u32 {
        let mut state = self.0.lock();
        state.attempts += 1;
        state.attempts - 1
    }

    /// Some of it is written, over a connection that served before or not.
    pub(super) fn note_written(&self, reused: bool) {
        let mut state = self.0.lock();
        (state.written, state.written_now, state.reused) = (true, true, reused);
    }

    pub(super) fn note_heard(&self) {
        self.0.lock().heard = true;
    }

    /// How many attempts were begun.
    pub(crate) fn attempts(&self) -> u32 {
        self.0.lock().attempts
    }

    /// Whether the first byte of an answer came.
    pub(crate) fn was_heard(&self) -> bool {
        self.0.lock().heard
    }

    /// Whether it was sent over a connection that had served before, and that the server may have closed meanwhile.
    pub(crate) fn was_reused(&self) -> bool {
        self.0.lock().reused
    }

    /// Makes this the request of the calling thread, with these secrets in its head, until the guard drops.
    pub(super) fn take_off(self: &Arc<Self>, secrets: SecretLines) -> InTheAir {
        {
            let mut state = self.0.lock();
            let FlightState { cut, attempts, written, unanswered, .. } = *state;
            *state = FlightState { cut, attempts, written, unanswered, ..FlightState::default() };
        }
        CURRENT.set(Some(Current { flight: Arc::clone(self), secrets: Some(secrets), revealed: false }));
        InTheAir
    }

    /// Uses this connection from now on, unless it was cut.
    pub(super) fn attach(&self, socket: &Socket) -> Result<(), Error> {
        let mut state = self.0.lock();
        if state.cut {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
        }
        state.socket = Some(Weak::clone(socket));
        Ok(())
    }

    /// Uses no connection any more.
    pub(super) fn land(&self) {
        self.0.lock().socket = None;
    }

    /// Forgets what was said while the connection was made: words with a proxy are no part of the request.
    pub(super) fn connected(&self, written_before: bool) {
        let mut state = self.0.lock();
        (state.written, state.written_now, state.heard, state.reused) = (written_before, false, false, false);
    }
}

struct Current {
    flight: Arc<Flight>,
    /// Until the head is written.
    secrets: Option<SecretLines>,
    /// Some of them are written: this is the head of the request, not of words with a proxy.
    revealed: bool,
}

thread_local! {
    /// ureq calls connectors and transports on the requesting thread and hands them nothing of the request.
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Acts on the flight of the calling thread, if there is one.
pub(super) fn current<R>(act: impl FnOnce(&Flight) -> R) -> Option<R> {
    CURRENT.with_borrow(|current| current.as_ref().map(|current| act(&current.flight)))
}

/// Puts the secrets of the calling thread's request into what is about to leave, as long as that is its head.
pub(super) fn reveal(output: &mut [u8]) {
    CURRENT.with_borrow_mut(|current| {
        let Some(current) = current else { return };
        let Some(secrets) = &current.secrets else { return };
        current.revealed |= secrets.reveal(output);
        if current.revealed && output.ends_with(b"\r\n\r\n") {
            current.secrets = None;
        }
    });
}

/// While it lives, the connections that the thread uses belong to a flight.
pub(super) struct InTheAir;

impl Drop for InTheAir {
    fn drop(&mut self) {
        if let Some(current) = CURRENT.take() {
            current.flight.land();
        }
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Flight").field("cut", &state.cut).field("written", &state.written).finish_non_exhaustive()
    }
}

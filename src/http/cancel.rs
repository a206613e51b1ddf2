//! A request as other threads see it: how to cancel it, and how far it got.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ureq::unversioned::transport::ShutdownHandle;

use crate::clock::Monitor;
use crate::error::{Error, ErrorKind};
use crate::rules::effect::may_have_run;

/// The error of a request that was cancelled.
pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the request was cancelled")
}

/// Cancels one request from another thread, and records how far it got over all its attempts.
#[derive(Default)]
pub(crate) struct RequestHandle(Mutex<State>);

#[derive(Default)]
struct State {
    cancelled: bool,
    /// No attempt follows the current one.
    retries_ended: bool,
    attempts: u32,
    /// Why the last attempt failed that is followed by another.
    failure: Option<Arc<str>>,
    /// Some of the request was written, in any round trip.
    written: bool,
    /// A failed round trip may have run it.
    may_have_run: bool,
    /// It gave its connection up for another request.
    yielded: bool,
    round_trip: RoundTrip,
    /// The connection in use.
    connection: Option<ConnectionShutdown>,
    /// Where the request waits between two attempts.
    waits_at: Option<Arc<Monitor<bool>>>,
}

/// The current round trip.
#[derive(Default)]
struct RoundTrip {
    written: bool,
    response_started: bool,
    /// Of the response that came.
    status: Option<u16>,
    /// The connection had served another request before.
    reused: bool,
    /// The connection, also when it is back in the pool.
    connection: Option<ConnectionShutdown>,
}

/// Shuts a connection down. Weak: the connection closes as usual when it is dropped.
pub(super) type ConnectionShutdown = Weak<dyn ShutdownHandle>;

impl RequestHandle {
    /// Cancels the request: it fails at once, and its connection is freed.
    pub(crate) fn cancel(&self) {
        let mut state = self.0.lock();
        state.cancelled = true;
        if let Some(connection) = state.connection.take().and_then(|connection| connection.upgrade()) {
            connection.shutdown();
        }
        let waits_at = state.waits_at.take();
        // Lock order: the monitor first, then this state. A waiting thread calls `is_cancelled` with the monitor locked.
        drop(state);
        wake(waits_at);
    }

    /// Lets the running attempt finish, and ends the request with its failure if it fails.
    pub(crate) fn end_retries(&self) {
        let mut state = self.0.lock();
        state.retries_ended = true;
        let waits_at = state.waits_at.clone();
        drop(state);
        wake(waits_at);
    }

    /// Whether no attempt follows the current one.
    pub(crate) fn has_ended_retries(&self) -> bool {
        self.0.lock().retries_ended
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.lock().cancelled
    }

    /// Makes a cancellation notify this monitor.
    pub(super) fn wake_on_cancel(&self, monitor: &Arc<Monitor<bool>>) {
        self.0.lock().waits_at = Some(Arc::clone(monitor));
    }

    /// How many attempts were started.
    pub(crate) fn attempts(&self) -> u32 {
        self.0.lock().attempts
    }

    /// Stands for attempts that have failed, the last for this reason.
    pub(crate) fn failed(reason: Arc<str>, attempts: u32) -> Self {
        RequestHandle(Mutex::new(State { attempts, failure: Some(reason), ..State::default() }))
    }

    /// An attempt failed for this reason, and another follows.
    pub(super) fn mark_failure(&self, reason: &Arc<str>) {
        self.0.lock().failure = Some(Arc::clone(reason));
    }

    /// Why the last attempt failed that is followed by another.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        self.0.lock().failure.clone()
    }

    /// Starts an attempt, of any number of round trips. Returns its number, from 0.
    pub(super) fn start_attempt(&self) -> u32 {
        let mut state = self.0.lock();
        state.attempts += 1;
        state.attempts - 1
    }

    /// Starts a round trip: forgets the connection and the progress of the last one, but not what was written before.
    pub(super) fn start_round_trip(&self) {
        let mut state = self.0.lock();
        (state.round_trip, state.connection, state.waits_at) = (RoundTrip::default(), None, None);
    }

    /// Uses this connection from now on. Fails if the request is cancelled.
    pub(super) fn use_connection(&self, connection: &ConnectionShutdown) -> Result<(), ureq::Error> {
        let mut state = self.0.lock();
        if state.cancelled {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
        }
        state.connection = Some(Weak::clone(connection));
        state.round_trip.connection = Some(Weak::clone(connection));
        Ok(())
    }

    /// Shuts the connection of this round trip down, so that no other request uses it. One that got it from the pool meanwhile
    /// takes it for stale.
    pub(super) fn shut_down_connection(&self) {
        let connection = self.0.lock().round_trip.connection.take();
        if let Some(connection) = connection.and_then(|connection| connection.upgrade()) {
            connection.shutdown();
        }
    }

    /// Ends a round trip whose response has not started: another request needs the descriptor. Returns whether that was possible.
    pub(super) fn yield_connection(&self) -> bool {
        let mut state = self.0.lock();
        if state.round_trip.response_started {
            return false;
        }
        let Some(connection) = state.connection.take().and_then(|connection| connection.upgrade()) else {
            return false;
        };
        state.yielded = true;
        connection.shutdown();
        true
    }

    /// Whether it failed because it gave its connection up for another request.
    pub(crate) fn has_yielded(&self) -> bool {
        self.0.lock().yielded
    }

    /// Lets go of the connection: cancelling the request no longer shuts it down.
    pub(super) fn release_connection(&self) {
        self.0.lock().connection = None;
    }

    /// Forgets what was written and read while connecting: the handshake with a proxy is not part of the request.
    pub(super) fn connected(&self, written_before: bool) {
        let mut state = self.0.lock();
        (state.written, state.round_trip) = (written_before, RoundTrip::default());
    }

    /// Some of the request is written. `reused`: the connection had served another request before.
    pub(super) fn mark_written(&self, reused: bool) {
        let mut state = self.0.lock();
        (state.written, state.round_trip.written, state.round_trip.reused) = (true, true, reused);
    }

    /// Whether the server may have seen the request: some of it was written, in this attempt or an earlier one.
    pub(crate) fn was_written(&self) -> bool {
        self.0.lock().written
    }

    /// Whether some of it was written in this round trip.
    pub(crate) fn was_written_now(&self) -> bool {
        self.0.lock().round_trip.written
    }

    pub(super) fn mark_response_started(&self) {
        self.0.lock().round_trip.response_started = true;
    }

    /// Whether the first byte of a response came in this round trip.
    pub(crate) fn has_response_started(&self) -> bool {
        self.0.lock().round_trip.response_started
    }

    /// Whether a failure of the connection says nothing about the service: it was reused, and the server may have closed it
    /// before it saw this request.
    pub(super) fn is_connection_stale(&self) -> bool {
        let state = self.0.lock();
        state.round_trip.reused && !state.round_trip.response_started && !state.yielded
    }

    /// A response with this status came.
    pub(super) fn mark_status(&self, status: u16) {
        self.0.lock().round_trip.status = Some(status);
    }

    /// The status of the response in the last round trip, if one came. The status of an error may be that of another request, which
    /// was to get the credential for this one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.0.lock().round_trip.status
    }

    /// This round trip failed with this status, or without a response that can be read.
    pub(super) fn mark_failed(&self, status: Option<u16>) {
        let mut state = self.0.lock();
        state.may_have_run |= may_have_run(state.round_trip.written, status);
    }

    /// Whether a failed attempt, this one or one before, may have been run.
    pub(crate) fn may_have_run(&self) -> bool {
        self.0.lock().may_have_run
    }
}

/// Wakes the threads that wait at this monitor.
fn wake(monitor: Option<Arc<Monitor<bool>>>) {
    if let Some(monitor) = monitor {
        monitor.wake_all();
    }
}

impl fmt::Debug for RequestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("RequestHandle")
            .field("cancelled", &state.cancelled)
            .field("written", &state.written)
            .finish_non_exhaustive()
    }
}

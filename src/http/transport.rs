//! Watches each connection, so that one request can be cut off without touching the others of its agent.
//!
//! ureq can shut down an agent as a whole. Here a connector wraps ureq's own, keeps each connection's shutdown handle,
//! and lends it to the [`Flight`] of the request that uses the connection, also when it comes from the pool. The same
//! wrapper notes whether a request was written, and lets an answer be read after a failed write: a server that refuses a
//! large body answers and closes while the body is still on its way.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, ShutdownHandle, Transport,
};

use super::resolver::CachingResolver;

/// One request on its way, over all its attempts: what became of it, and the means to cut it off from another thread.
#[derive(Default)]
pub(crate) struct Flight(Mutex<FlightState>);

#[derive(Default)]
struct FlightState {
    cut: bool,
    attempts: u32,
    /// In any attempt.
    written: bool,
    heard: bool,
    reused: bool,
    socket: Option<Socket>,
}

/// A connection's means of shutting down. Weak: the connection closes as usual when it is dropped.
type Socket = Weak<dyn ShutdownHandle>;

impl Flight {
    /// Ends the request: it fails at once, and its connection is freed.
    pub(crate) fn cut(&self) {
        let mut state = self.0.lock();
        state.cut = true;
        if let Some(socket) = state.socket.take().and_then(|socket| socket.upgrade()) {
            socket.shutdown();
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.lock().cut
    }

    /// Whether the server may have seen the request: some of it was written, in this attempt or an earlier one.
    pub(crate) fn was_written(&self) -> bool {
        self.0.lock().written
    }

    /// Begins an attempt, of any number of exchanges. Returns its number, from 0.
    pub(super) fn begin_attempt(&self) -> u32 {
        let mut state = self.0.lock();
        state.attempts += 1;
        state.attempts - 1
    }

    /// Whether the first byte of an answer came.
    pub(crate) fn was_heard(&self) -> bool {
        self.0.lock().heard
    }

    /// Whether it was sent over a connection that had served before, and that the server may have closed meanwhile.
    pub(crate) fn was_reused(&self) -> bool {
        self.0.lock().reused
    }

    /// Makes this the request of the calling thread, until the guard drops.
    pub(super) fn take_off(self: &Arc<Self>) -> InTheAir {
        {
            let mut state = self.0.lock();
            let FlightState { cut, attempts, written, .. } = *state;
            *state = FlightState { cut, attempts, written, ..FlightState::default() };
        }
        CURRENT.set(Some(Arc::clone(self)));
        InTheAir
    }

    fn attach(&self, socket: &Socket) -> Result<(), Error> {
        let mut state = self.0.lock();
        if state.cut {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
        }
        state.socket = Some(Weak::clone(socket));
        Ok(())
    }

    fn land(&self) {
        self.0.lock().socket = None;
    }

    /// Forgets what was said while the connection was made: words with a proxy are no part of the request.
    fn connected(&self, written_before: bool) {
        let mut state = self.0.lock();
        (state.written, state.heard, state.reused) = (written_before, false, false);
    }
}

thread_local! {
    /// ureq calls connectors and transports on the requesting thread and hands them nothing of the request.
    static CURRENT: RefCell<Option<Arc<Flight>>> = const { RefCell::new(None) };
}

fn current<R>(act: impl FnOnce(&Flight) -> R) -> Option<R> {
    CURRENT.with_borrow(|flight| flight.as_deref().map(act))
}

/// While it lives, the connections that the thread uses belong to a flight.
pub(super) struct InTheAir;

impl Drop for InTheAir {
    fn drop(&mut self) {
        if let Some(flight) = CURRENT.take() {
            flight.land();
        }
    }
}

/// ureq's connector, watched.
#[derive(Debug)]
pub(super) struct WatchingConnector {
    inner: DefaultConnector,
    addresses: CachingResolver,
}

impl WatchingConnector {
    pub(super) fn new(addresses: CachingResolver) -> Self {
        WatchingConnector { inner: DefaultConnector::new(), addresses }
    }
}

impl Connector<()> for WatchingConnector {
    type Out = WatchedTransport;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        let socket = Arc::new(Mutex::new(None::<Socket>));
        let (seen, register) = (Arc::clone(&socket), Arc::clone(&details.register_shutdown));
        let details = ConnectionDetails {
            uri: details.uri,
            addrs: details.addrs.clone(),
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: Arc::clone(&details.current_time),
            run_connector: Arc::clone(&details.run_connector),
            register_shutdown: Arc::new(move |handle: Socket| {
                *seen.lock() = Some(Weak::clone(&handle));
                current(|flight| flight.attach(&handle)).transpose()?;
                register(handle)
            }),
        };
        let written = current(Flight::was_written).unwrap_or_default();
        let connected = self.inner.connect(&details, chained);
        current(|flight| flight.connected(written));
        let inner = connected.inspect_err(|_| self.addresses.forget(details.uri))?;
        let socket = socket.lock().take();
        Ok(inner.map(|inner| WatchedTransport { inner, socket, used: false, broken: false, write_error: None }))
    }
}

/// A connection that tells the current flight what happens on it.
pub(super) struct WatchedTransport {
    inner: Box<dyn Transport>,
    socket: Option<Socket>,
    /// Whether an answer was read from it before.
    used: bool,
    /// A write has failed. What follows is not written, and the answer, if there is one, is read.
    broken: bool,
    /// Why it failed, until an answer is heard.
    write_error: Option<io::Error>,
}

impl Transport for WatchedTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if self.broken {
            return Ok(());
        }
        if let Some(socket) = &self.socket {
            current(|flight| flight.attach(socket)).transpose()?;
        }
        // Also when the write fails: some of it may have left.
        current(|flight| {
            let mut state = flight.0.lock();
            (state.written, state.reused) = (true, self.used);
        });
        match self.inner.transmit_output(amount, timeout) {
            Err(Error::Io(error)) if is_closed_by_peer(&error) => {
                (self.broken, self.write_error) = (true, Some(error));
                Ok(())
            }
            other => other,
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        match (self.inner.await_input(timeout), self.write_error.take()) {
            (Ok(true), _) => {
                self.used = true;
                current(|flight| flight.0.lock().heard = true);
                Ok(true)
            }
            (_, Some(write_error)) => Err(write_error.into()),
            (other, None) => other,
        }
    }

    /// Asked before the connection goes into the pool, and when it comes out: from then on a cut of the flight that used it
    /// must not hit whoever uses it next.
    fn is_open(&mut self) -> bool {
        current(Flight::land);
        !self.broken && self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

fn is_closed_by_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionReset | ConnectionAborted)
}

impl fmt::Debug for WatchedTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Flight").field("cut", &state.cut).field("written", &state.written).finish_non_exhaustive()
    }
}

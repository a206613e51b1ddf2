//! Watches each connection, so that one request can be cut off without touching the others of its agent.
//!
//! ureq can shut down an agent as a whole. Here a connector wraps ureq's own, keeps each connection's shutdown handle,
//! and lends it to the [`Flight`] of the request that uses the connection, also when it comes from the pool. The same
//! wrapper notes whether a request was written, and puts the request's secrets into its head.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};

use super::early::EarlyAnswers;
use super::flight::{Flight, Socket, current, reveal};
use super::resolver::CachingResolver;

/// ureq's connectors, watched.
#[derive(Debug)]
pub(super) struct WatchingConnector<C> {
    inner: C,
    addresses: CachingResolver,
}

/// Connects by TCP, through a proxy and with TLS where that is configured, and watches the connections.
pub(super) fn watching_connector(addresses: CachingResolver) -> impl Connector<()> {
    let inner = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(EarlyAnswers);
    #[cfg(feature = "rustls")]
    let inner = inner.chain(ureq::unversioned::transport::RustlsConnector::default());
    #[cfg(feature = "native-tls")]
    let inner = inner.chain(ureq::unversioned::transport::NativeTlsConnector::default());
    WatchingConnector { inner, addresses }
}

impl<C: Connector<()>> Connector<()> for WatchingConnector<C> {
    type Out = WatchedTransport<C::Out>;

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
        let inner = connected.inspect_err(|_| {
            if !current(Flight::is_cut).unwrap_or_default() {
                self.addresses.forget(details.uri);
            }
        })?;
        let socket = socket.lock().take();
        Ok(inner.map(|inner| WatchedTransport { inner, socket, used: false }))
    }
}

/// A connection that tells the current flight what happens on it.
pub(super) struct WatchedTransport<T> {
    inner: T,
    socket: Option<Socket>,
    /// Whether an answer was read from it before.
    used: bool,
}

impl<T: Transport> Transport for WatchedTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if let Some(socket) = &self.socket {
            current(|flight| flight.attach(socket)).transpose()?;
        }
        // Also when the write fails: some of it may have left.
        current(|flight| flight.note_written(self.used));
        reveal(&mut self.inner.buffers().output()[..amount]);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let heard = self.inner.await_input(timeout)?;
        if heard {
            self.used = true;
            current(Flight::note_heard);
        }
        Ok(heard)
    }

    /// Asked before the connection goes into the pool, and when it comes out: from then on a cut of the flight that used it
    /// must not hit whoever uses it next.
    fn is_open(&mut self) -> bool {
        current(Flight::land);
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl<T: fmt::Debug> fmt::Debug for WatchedTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use ureq::unversioned::transport::{LazyBuffers, ShutdownHandle};

    use super::*;
    use crate::clock::ManualClock;
    use crate::config::{Config, ConfigBuilder, Proxy};
    use crate::error::ErrorKind;
    use crate::http::secrets::SecretLines;
    use crate::http::{Call, Http, Purpose};

    fn config(listener: &TcpListener) -> ConfigBuilder {
        let url = format!("http://{}", listener.local_addr().unwrap());
        Config::builder().api_key("tml-k").base_url(url).proxy(Proxy::Off)
    }

    fn client() -> (Http, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (Http::new(&config(&listener).build_with(|_| None).unwrap()).unwrap(), listener)
    }

    fn call(flight: &Arc<Flight>) -> Call<'static> {
        let idle = Duration::from_secs(30);
        Call { flight: Arc::clone(flight), ..Call::get("test", Purpose::Futures, "x", idle) }
    }

    fn read_request(stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    }

    fn respond(mut stream: &TcpStream) {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    }

    fn nobody_connects(listener: &TcpListener) -> bool {
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn a_cut_ends_its_request_and_leaves_the_agents_others_alone() {
        let (http, listener) = client();
        let (first, second) = (Arc::<Flight>::default(), Arc::<Flight>::default());
        thread::scope(|scope| {
            let cut = scope.spawn(|| http.once(&call(&first)).map(drop));
            let mut first_stream = listener.accept().unwrap().0;
            read_request(&first_stream);
            let kept = scope.spawn(|| http.once(&call(&second)).map(drop));
            let second_stream = listener.accept().unwrap().0;
            read_request(&second_stream);
            first.cut();
            assert_eq!(cut.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
            assert_eq!(first_stream.read(&mut [0]).unwrap(), 0, "the connection is still open");
            respond(&second_stream);
            kept.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_cut_ends_an_answer_that_is_being_read() {
        let (http, listener) = client();
        let flight = Arc::<Flight>::default();
        thread::scope(|scope| {
            let cut = scope.spawn(|| http.once(&call(&flight)).map(drop));
            let mut stream = listener.accept().unwrap().0;
            read_request(&stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{").unwrap();
            flight.cut();
            assert_eq!(cut.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        });
    }

    #[test]
    fn a_cut_after_the_answer_leaves_the_pooled_connection_to_the_next_request() {
        let (http, listener) = client();
        let (first, second) = (Arc::<Flight>::default(), Arc::<Flight>::default());
        thread::scope(|scope| {
            let done = scope.spawn(|| http.once(&call(&first)).map(drop));
            let stream = listener.accept().unwrap().0;
            read_request(&stream);
            respond(&stream);
            done.join().unwrap().unwrap();
            let next = scope.spawn(|| http.once(&call(&second)).map(drop));
            read_request(&stream);
            first.cut();
            respond(&stream);
            next.join().unwrap().unwrap();
        });
        assert!(nobody_connects(&listener));
    }

    #[test]
    fn a_cut_before_connecting_refuses() {
        let (http, listener) = client();
        let flight = Arc::<Flight>::default();
        flight.cut();
        assert_eq!(http.once(&call(&flight)).unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(http.send(&call(&flight)).unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(nobody_connects(&listener));
        assert!(!flight.was_written());
    }

    #[test]
    fn a_cut_ends_the_wait_between_two_attempts() {
        let manual = ManualClock::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = Http::new(&config(&listener).clock(manual.clock()).build_with(|_| None).unwrap()).unwrap();
        let flight = Arc::<Flight>::default();
        thread::scope(|scope| {
            let cut = scope.spawn(|| http.send(&call(&flight)).map(drop));
            drop(listener.accept().unwrap());
            manual.until_waiting(|waits| waits.len() == 1);
            flight.cut();
            let error = cut.join().unwrap().unwrap_err();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Cancelled, Some("test")));
        });
    }

    #[test]
    fn each_attempt_fails_for_its_own_reason() {
        let manual = ManualClock::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = config(&listener).max_retries(1).clock(manual.clock());
        let http = Http::new(&config.build_with(|_| None).unwrap()).unwrap();
        let idle = Duration::from_secs(30);
        thread::scope(|scope| {
            let call = scope.spawn(|| http.send(&Call::post("test", Purpose::Training, "x", idle, b"")).map(drop));
            let mut stream = listener.accept().unwrap().0;
            read_request(&stream);
            drop(listener);
            stream.write_all(b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
            manual.until_waiting(|waits| waits.len() == 1);
            manual.advance(Duration::from_secs(1));
            let error = call.join().unwrap().unwrap_err();
            assert!(error.to_string().starts_with("test: no connection to"), "{error}");
            // The only request that was written was answered with a refusal.
            assert!(!error.may_have_taken_effect());
        });
    }

    /// A connection that takes everything and says when it was shut down.
    #[derive(Debug)]
    struct Endless {
        buffers: LazyBuffers,
    }

    impl Transport for Endless {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.buffers
        }

        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
            Ok(())
        }

        fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
            Ok(true)
        }

        fn is_open(&mut self) -> bool {
            true
        }
    }

    #[derive(Default)]
    struct Handle(AtomicBool);

    impl ShutdownHandle for Handle {
        fn shutdown(&self) {
            self.0.store(true, Ordering::Release);
        }
    }

    #[test]
    fn a_connection_no_longer_belongs_to_a_flight_once_it_goes_back_to_the_pool() {
        for (goes_back, shut) in [(false, true), (true, false)] {
            let handle = Arc::<Handle>::default();
            let socket: Socket = Arc::downgrade(&(Arc::clone(&handle) as Arc<dyn ShutdownHandle>));
            let mut connection = WatchedTransport {
                inner: Endless { buffers: LazyBuffers::new(1, 1) },
                socket: Some(socket),
                used: false,
            };
            let flight = Arc::<Flight>::default();
            let _in_the_air = flight.take_off(SecretLines::default());
            connection.transmit_output(0, NextTimeout::default()).unwrap();
            assert!(connection.await_input(NextTimeout::default()).unwrap());
            if goes_back {
                // As the pool asks before it takes a connection.
                assert!(connection.is_open());
            }
            flight.cut();
            assert_eq!(handle.0.load(Ordering::Acquire), shut);
        }
    }
}

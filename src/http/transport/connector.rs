//! Ties each connection to the request that uses it, so that one request can be cancelled without touching others.
//!
//! ureq can only shut down a whole agent. This connector wraps ureq's own, keeps each connection's shutdown handle, and
//! lends it to the [`RequestHandle`] of the request that uses the connection, also when it was idle before. The same
//! wrapper records whether a request was written, and puts the request's secrets into its head.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, NextTimeout, SocksConnector, TcpConnector, Transport,
};

use super::super::cancel::{ConnectionShutdown, RequestHandle};
use super::apart;
use super::connect_error::ConnectError;
use super::current::{unmask_current, unveiled, veil_current, with_current};
use super::early_response::EarlyResponses;
use super::pooling::copy_of;
use super::resolver::CachingResolver;
use super::security::Security;
use crate::process::Process;
use crate::rules::connection_failure::ConnectionStage;
use crate::threads::ThreadOptions;

/// ureq's connectors, with their connections tied to requests.
#[derive(Debug)]
pub(super) struct RequestConnector<R, S> {
    /// By TCP, and through a proxy.
    route: Arc<R>,
    /// TLS over the route.
    security: S,
    addresses: CachingResolver,
    threads: ThreadOptions,
}

/// Connects by TCP, through a proxy and with TLS if configured.
pub(super) fn connector(addresses: CachingResolver, security: Security, threads: ThreadOptions) -> impl Connector<()> {
    let proxies = ().chain(SocksConnector::default()).chain(ConnectProxyConnector::default());
    let route = Arc::new(proxies.chain(TcpConnector::default()).chain(EarlyResponses));
    RequestConnector { route, security, addresses, threads }
}

impl<R, S> Connector<()> for RequestConnector<R, S>
where
    R: Connector<()>,
    S: Connector<R::Out>,
{
    type Out = RequestTransport<S::Out>;

    fn connect(&self, details: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, Error> {
        let shutdown = Arc::new(Mutex::new(None::<ConnectionShutdown>));
        let (seen, register) = (Arc::clone(&shutdown), Arc::clone(&details.register_shutdown));
        let mut details = copy_of(details);
        details.register_shutdown = Arc::new(move |handle: ConnectionShutdown| {
            *seen.lock() = Some(Weak::clone(&handle));
            register(handle)
        });
        let written = with_current(RequestHandle::was_written).unwrap_or_default();
        let connected = unveiled(|| {
            apart::connect(&self.route, &details, &self.addresses, &self.threads)
                .map_err(|error| ConnectError::on_route(error, details.config))
                .and_then(|route| {
                    if let Some(shutdown) = &*shutdown.lock() {
                        with_current(|request| request.use_connection(shutdown)).transpose()?;
                    }
                    let secured = self.security.connect(&details, route);
                    secured.map_err(|error| ConnectError::at(ConnectionStage::Tls, error))
                })
        });
        with_current(|request| request.connected(written));
        let inner = connected.inspect_err(|_| {
            // A cancelled connect says nothing about the address.
            if !with_current(RequestHandle::is_cancelled).unwrap_or_default() {
                self.addresses.forget(details.uri);
            }
        })?;
        let shutdown = shutdown.lock().take();
        let process = Process::current();
        Ok(inner.map(|inner| RequestTransport { inner, shutdown, used: false, process }))
    }
}

/// A connection that records what happens on it with the current request.
pub(super) struct RequestTransport<T> {
    inner: T,
    shutdown: Option<ConnectionShutdown>,
    /// Whether a response was read from it before.
    used: bool,
    process: Process,
}

impl<T: Transport> Transport for RequestTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        if let Some(shutdown) = &self.shutdown {
            with_current(|request| request.use_connection(shutdown)).transpose()?;
        }
        // Before the write, since some of it may have left even if it fails.
        with_current(|request| request.mark_written(self.used));
        unmask_current(&mut self.inner.buffers().output()[..amount]);
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let before = self.inner.buffers().input().len();
        let received = unveiled(|| self.inner.await_input(timeout))?;
        if received {
            if !self.used && is_tls_record(self.inner.buffers().input()) {
                return Err(ConnectError::tls_record());
            }
            self.used = true;
            with_current(RequestHandle::mark_response_started);
            veil_current(self.inner.buffers(), before);
        }
        Ok(received)
    }

    /// Asked before the connection becomes idle, and when it is taken again. From then on, cancelling the request that used it
    /// must not shut it down for the next one.
    fn is_open(&mut self) -> bool {
        with_current(RequestHandle::release_connection);
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Ends the connection, of which a fork may keep a copy open. The drop of such a copy ends nothing.
impl<T> Drop for RequestTransport<T> {
    fn drop(&mut self) {
        let shutdown = self.shutdown.take().filter(|_| self.process.is_current());
        if let Some(shutdown) = shutdown.and_then(|shutdown| shutdown.upgrade()) {
            shutdown.shutdown();
        }
    }
}

/// Whether a response starts as a TLS server responds to plain HTTP: with an alert or a handshake record.
fn is_tls_record(input: &[u8]) -> bool {
    matches!(input, [0x15 | 0x16, 0x03, ..])
}

impl<T: fmt::Debug> fmt::Debug for RequestTransport<T> {
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
    use crate::http::transport::{CurrentRequest, SecretLines};
    use crate::http::{Http, Limits, Purpose, Request};

    fn config(listener: &TcpListener) -> ConfigBuilder {
        let url = format!("http://{}", listener.local_addr().unwrap());
        Config::builder().api_key("tml-k").base_url(url).proxy(Proxy::Off)
    }

    fn client() -> (Http, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (Http::new(&config(&listener).build_with(|_| None).unwrap()).unwrap(), listener)
    }

    fn get() -> Request<'static> {
        Request::get("x")
    }

    fn limits(http: &Http, handle: &Arc<RequestHandle>) -> Limits {
        Limits { handle: Arc::clone(handle), ..http.limits("test", Purpose::Futures) }
    }

    fn read_request(stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines();
        while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    }

    fn respond(mut stream: &TcpStream) {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    }

    fn is_untouched(listener: &TcpListener) -> bool {
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn cancelling_ends_only_its_own_request() {
        let (http, listener) = client();
        let (first, second) = (Arc::<RequestHandle>::default(), Arc::<RequestHandle>::default());
        thread::scope(|scope| {
            let cancelled = scope.spawn(|| http.send_once(&get(), &limits(&http, &first)).map(drop));
            let mut first_stream = listener.accept().unwrap().0;
            read_request(&first_stream);
            let kept = scope.spawn(|| http.send_once(&get(), &limits(&http, &second)).map(drop));
            let second_stream = listener.accept().unwrap().0;
            read_request(&second_stream);
            first.cancel();
            assert_eq!(cancelled.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
            assert_eq!(first_stream.read(&mut [0]).unwrap(), 0, "the connection is still open");
            respond(&second_stream);
            kept.join().unwrap().unwrap();
        });
    }

    #[test]
    fn cancelling_ends_a_response_being_read() {
        let (http, listener) = client();
        let handle = Arc::<RequestHandle>::default();
        thread::scope(|scope| {
            let cancelled = scope.spawn(|| http.send_once(&get(), &limits(&http, &handle)).map(drop));
            let mut stream = listener.accept().unwrap().0;
            read_request(&stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{").unwrap();
            handle.cancel();
            assert_eq!(cancelled.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        });
    }

    #[test]
    fn cancelling_later_leaves_the_pooled_connection_alone() {
        let (http, listener) = client();
        let (first, second) = (Arc::<RequestHandle>::default(), Arc::<RequestHandle>::default());
        thread::scope(|scope| {
            let done = scope.spawn(|| http.send_once(&get(), &limits(&http, &first)).map(drop));
            let stream = listener.accept().unwrap().0;
            read_request(&stream);
            respond(&stream);
            done.join().unwrap().unwrap();
            let next = scope.spawn(|| http.send_once(&get(), &limits(&http, &second)).map(drop));
            read_request(&stream);
            first.cancel();
            respond(&stream);
            next.join().unwrap().unwrap();
        });
        assert!(is_untouched(&listener));
    }

    #[test]
    fn a_cancelled_request_never_connects() {
        let (http, listener) = client();
        let handle = Arc::<RequestHandle>::default();
        handle.cancel();
        assert_eq!(http.send_once(&get(), &limits(&http, &handle)).unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(http.send(&get(), &limits(&http, &handle)).unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(is_untouched(&listener));
        assert!(!handle.was_written());
    }

    #[test]
    fn cancelling_ends_the_wait_between_attempts() {
        let manual = ManualClock::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let http = Http::new(&config(&listener).clock(manual.clock()).build_with(|_| None).unwrap()).unwrap();
        let handle = Arc::<RequestHandle>::default();
        thread::scope(|scope| {
            let cancelled = scope.spawn(|| http.send(&get(), &limits(&http, &handle)).map(drop));
            drop(listener.accept().unwrap());
            manual.until_waiting(|waits| waits.len() == 1);
            handle.cancel();
            let error = cancelled.join().unwrap().unwrap_err();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::Cancelled, Some("test")));
        });
    }

    /// The error of a POST whose first attempt gets this status, and whose second one is refused.
    fn refused_after(status: u16) -> crate::error::Error {
        let manual = ManualClock::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = config(&listener).max_retries(1).clock(manual.clock());
        let http = Http::new(&config.build_with(|_| None).unwrap()).unwrap();
        thread::scope(|scope| {
            let limits = http.limits("test", Purpose::Training);
            let sent = scope.spawn(move || http.send(&Request::post("x", b""), &limits).map(drop));
            let mut stream = listener.accept().unwrap().0;
            read_request(&stream);
            drop(listener);
            let head = format!("HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            manual.until_waiting(|waits| waits.len() == 1);
            manual.advance(Duration::from_secs(1));
            sent.join().unwrap().unwrap_err()
        })
    }

    #[test]
    fn each_attempt_fails_for_its_own_reason() {
        for (status, effect) in [(503, true), (504, true), (429, false)] {
            let error = refused_after(status);
            assert!(error.to_string().starts_with("test: cannot connect to"), "{error}");
            assert_eq!(error.may_have_taken_effect(), effect, "{status}");
        }
    }

    /// A connection that accepts everything.
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
    fn a_pooled_connection_belongs_to_no_request() {
        for (goes_back, shut) in [(false, true), (true, false)] {
            let handle = Arc::<Handle>::default();
            let shutdown: ConnectionShutdown = Arc::downgrade(&(Arc::clone(&handle) as Arc<dyn ShutdownHandle>));
            let mut connection = RequestTransport {
                inner: Endless { buffers: LazyBuffers::new(1, 1) },
                shutdown: Some(shutdown),
                used: false,
                process: Process::current(),
            };
            let request = Arc::<RequestHandle>::default();
            let _current = CurrentRequest::set(&request, SecretLines::default());
            connection.transmit_output(0, NextTimeout::default()).unwrap();
            assert!(connection.await_input(NextTimeout::default()).unwrap());
            if goes_back {
                // As the pool asks before it takes a connection.
                assert!(connection.is_open());
            }
            request.cancel();
            assert_eq!(handle.0.load(Ordering::Acquire), shut);
        }
    }
}

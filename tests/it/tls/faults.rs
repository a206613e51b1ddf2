//! Permanent faults of TLS, of names and of protocols end at once, or after a second attempt.

use std::sync::atomic::{AtomicUsize, Ordering};

use tinkex::clock::ManualClock;
use tinkex::{ConfigBuilder, ConnectionFault, Error};

use super::*;
use crate::support::advance_past_wait;

/// A listener at this address, in front of another one, that counts its connections.
pub fn counted(address: &str, port: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let outside = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    thread::spawn(move || {
        for mut client in listener.incoming().map(Result::unwrap) {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut to).ok());
            thread::spawn(move || {
                io::copy(&mut server, &mut client).ok();
                client.shutdown(std::net::Shutdown::Both).ok();
            });
        }
    });
    (outside, count)
}

/// The error of a client with all its retries, whose clock stands still: a wait before a retry would last for ever.
fn refused(config: ConfigBuilder) -> Error {
    let clock = ManualClock::new();
    let config = config.api_key("tml-k").proxy(Proxy::Off).clock(clock.clock());
    ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap_err()
}

#[test]
fn an_untrusted_certificate_ends_at_once() {
    let service = Service::start(healthy_service);
    let (port, count) = counted("127.0.0.1", tls_in_front_of(&service, false).0);
    let server = format!("https://localhost:{port}");
    let error = refused(Config::builder().base_url(&server));
    let message = format!("cannot connect to {server}: certificate not trusted: ");
    assert!(error.message().starts_with(&message) && error.message().contains("unknown issuer"), "{error}");
    assert_eq!((error.kind(), error.connection_fault()), (ErrorKind::Connect, Some(ConnectionFault::Certificate)));
    assert!(error.hint().unwrap().contains("SSL_CERT_FILE") && !error.is_retryable(), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_certificate_of_another_host_ends_at_once() {
    let service = Service::start(healthy_service);
    let (port, count) = counted("127.0.0.2", tls_in_front_of(&service, false).0);
    let error = refused(Config::builder().base_url(format!("https://127.0.0.2:{port}")).root_certificate(ROOT));
    assert!(error.message().contains("certificate not trusted: it is that of another host"), "{error}");
    assert!(error.hint().unwrap().contains("TINKER_BASE_URL"), "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert!(service.requests().is_empty());
}

#[test]
fn an_expired_certificate_ends_at_once() {
    let service = Service::start(healthy_service);
    let port = expired_tls_in_front_of(&service);
    let error = refused(Config::builder().base_url(format!("https://localhost:{port}")).root_certificate(EXPIRED_ROOT));
    assert!(error.message().ends_with("certificate not trusted: it has expired"), "{error}");
    assert!(error.hint().unwrap().contains("clock"), "{error}");
}

#[test]
fn the_wrong_protocol_ends_at_once() {
    let service = Service::start(healthy_service);
    let plain = service.url().rsplit(':').next().unwrap().parse().unwrap();
    let (plain, plain_count) = counted("127.0.0.1", plain);
    let error = refused(Config::builder().base_url(format!("https://127.0.0.1:{plain}")));
    assert_eq!(error.message(), format!("cannot connect to https://127.0.0.1:{plain}: the port does not speak TLS"));
    assert!(error.hint().unwrap().contains("http://"), "{error}");

    let (tls, tls_count) = counted("127.0.0.1", tls_in_front_of(&service, false).0);
    let error = refused(Config::builder().base_url(format!("http://127.0.0.1:{tls}")));
    assert_eq!(error.message(), format!("cannot connect to http://127.0.0.1:{tls}: the port speaks TLS"));
    assert!(error.hint().unwrap().contains("https://"), "{error}");
    assert_eq!([plain_count, tls_count].map(|count| count.load(Ordering::SeqCst)), [1, 1]);
}

/// A label of a name has at most 63 letters, so no question leaves this machine.
#[test]
fn an_unknown_host_gets_two_attempts() {
    let name = format!("{}.test", "x".repeat(64));
    let clock = ManualClock::new();
    let config = Config::builder().api_key("tml-k").base_url(format!("http://{name}")).proxy(Proxy::Off);
    let config = config.clock(clock.clock()).build_with(|_| None).unwrap();
    let error = thread::scope(|scope| {
        let connecting = scope.spawn(|| ServiceClient::connect(config).unwrap_err());
        advance_past_wait(&clock, 1..=1000);
        connecting.join().unwrap()
    });
    let (message, time) = error.message().split_once(" in ").unwrap();
    assert_eq!(message, format!("cannot connect to http://{name}: no such host, 2 tries"));
    assert!(time.ends_with(" s"), "{time}");
    assert_eq!(error.connection_fault(), Some(ConnectionFault::Name));
    assert!(!error.is_retryable());
}

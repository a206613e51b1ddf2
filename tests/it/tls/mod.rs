//! TLS with a private certificate authority, to the service and to a proxy, with the TLS library of this build.

pub mod faults;
#[cfg(feature = "rustls")]
mod resumption;
mod roots;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use tinkex::api::Api;
use tinkex::types::{AdamParams, LoraConfig};
use tinkex::{Config, ConfigBuilder, ErrorKind, Proxy, ServiceClient};

use crate::support::{Gate, Service, Tunnels, healthy_service, tunnelling_proxy};

/// The authority that signed the certificate of `localhost` below. Its key was not kept.
pub const ROOT: &str = include_str!("root.pem");

/// A certificate and its key, as PEM.
type Identity = (&'static [u8], &'static [u8]);

const SERVER: Identity = (include_bytes!("server.pem"), include_bytes!("server.key"));

fn server_config((certificate, key): Identity, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(certificate).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key).unwrap();
    let builder = ServerConfig::builder_with_protocol_versions(versions).with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}

/// Terminates TLS in front of a service. With `is_proxy`, a CONNECT comes first. Returns its port.
pub fn tls_in_front_of(service: &Service, is_proxy: bool) -> (u16, Tunnels) {
    tls_with(SERVER, service, is_proxy)
}

/// The authority of a certificate of `localhost` that has expired.
pub const EXPIRED_ROOT: &str = include_str!("expired_root.pem");

/// Like [`tls_in_front_of`], with that certificate.
pub fn expired_tls_in_front_of(service: &Service) -> u16 {
    tls_with((include_bytes!("expired.pem"), include_bytes!("expired.key")), service, false).0
}

fn tls_with(identity: Identity, service: &Service, is_proxy: bool) -> (u16, Tunnels) {
    terminated(server_config(identity, ALL_VERSIONS), service, is_proxy, |_| {})
}

/// `opened` gets each connection, once its first request has come.
fn terminated(
    config: Arc<ServerConfig>,
    service: &Service,
    is_proxy: bool,
    opened: impl Fn(&ServerConnection) + Send + Sync + 'static,
) -> (u16, Tunnels) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = service.url().replace("http://", "");
    let tunnels = Tunnels::default();
    let (seen, opened) = (Arc::clone(&tunnels), Arc::new(opened));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (target, seen, opened) = (target.clone(), Arc::clone(&seen), Arc::clone(&opened));
            let stream = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream.unwrap());
            thread::spawn(move || serve(stream, &target, is_proxy.then_some(&seen), &*opened).ok());
        }
    });
    (port, tunnels)
}

fn serve(
    mut outside: StreamOwned<ServerConnection, TcpStream>,
    target: &str,
    tunnels: Option<&Tunnels>,
    opened: &dyn Fn(&ServerConnection),
) -> io::Result<()> {
    if let Some(tunnels) = tunnels {
        let head = read_message(&mut outside)?;
        tunnels.lock().unwrap().push(String::from_utf8(head).unwrap());
        outside.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    }
    let mut inside = TcpStream::connect(target)?;
    let mut request = read_message(&mut outside)?;
    opened(&outside.conn);
    loop {
        inside.write_all(&request)?;
        outside.write_all(&read_message(&mut inside)?)?;
        request = read_message(&mut outside)?;
    }
}

/// A head, and the body of the length in it.
fn read_message(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    while !message.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        message.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&message).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let end = message.len();
    message.resize(end + length.unwrap_or(0), 0);
    stream.read_exact(&mut message[end..])?;
    Ok(message)
}

fn connect(config: ConfigBuilder) -> tinkex::Result<ServiceClient> {
    ServiceClient::connect(config.api_key("tml-k").max_retries(0).build_with(|_| None).unwrap())
}

#[test]
fn a_configured_root_certificate_is_trusted() {
    let service = Service::start(healthy_service);
    let (port, _) = tls_in_front_of(&service, false);
    for host in ["localhost", "127.0.0.1"] {
        let config = Config::builder().base_url(format!("https://{host}:{port}")).proxy(Proxy::Off);
        connect(config.root_certificate(ROOT)).unwrap();
    }
}

#[test]
fn an_untrusted_certificate_is_refused() {
    let service = Service::start(healthy_service);
    let (port, _) = tls_in_front_of(&service, false);
    let error = connect(Config::builder().base_url(format!("https://localhost:{port}")).proxy(Proxy::Off)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(!error.may_have_taken_effect());
    let reason = std::error::Error::source(&error).unwrap().to_string();
    // rustls and OpenSSL.
    assert!(["UnknownIssuer", "certificate verify failed"].iter().any(|words| reason.contains(words)), "{reason}");
    assert!(service.requests().is_empty());
}

#[test]
fn an_https_proxy_may_need_a_password() {
    let service = Service::start(healthy_service);
    let (port, tunnels) = tls_in_front_of(&service, true);
    let proxy = Proxy::Url(format!("https://me:w%40rd@localhost:{port}"));
    let config = Config::builder().base_url("http://service.invalid:8123").proxy(proxy);
    connect(config.root_certificate(ROOT)).unwrap();
    let tunnel = tunnels.lock().unwrap()[0].to_ascii_lowercase();
    assert!(tunnel.starts_with("connect service.invalid:8123 http/1.1\r\n"), "{tunnel}");
    // me:w@rd
    assert!(tunnel.contains("proxy-authorization: basic bwu6d0byza==\r\n"), "{tunnel}");
    assert!(!tunnel.contains("x-api-key"), "{tunnel}");
    assert_eq!(service.requests()[0].path, "create_session");
    assert_eq!(service.requests()[0].header("proxy-authorization"), None);
}

#[test]
fn tls_is_tunnelled_through_a_plain_proxy() {
    let service = Service::start(healthy_service);
    let (port, _) = tls_in_front_of(&service, false);
    let (proxy_port, tunnels) = tunnelling_proxy(str::to_owned);
    let proxy = Proxy::Url(format!("http://me:word@127.0.0.1:{proxy_port}"));
    let config = Config::builder().base_url(format!("https://localhost:{port}")).proxy(proxy);
    connect(config.root_certificate(ROOT)).unwrap();
    let tunnel = tunnels.lock().unwrap()[0].to_ascii_lowercase();
    assert!(tunnel.starts_with(&format!("connect localhost:{port} http/1.1\r\n")), "{tunnel}");
    assert!(tunnel.contains("proxy-authorization: basic ") && !tunnel.contains("x-api-key"), "{tunnel}");
    let seen = &service.requests()[0];
    assert_eq!((seen.path.as_str(), seen.header("x-api-key")), ("create_session", Some("tml-k")));
    assert_eq!(seen.header("proxy-authorization"), None);
}

#[test]
fn small_stacks_have_room_for_unoptimized_tls() {
    let service = Service::start(healthy_service);
    let (port, _) = tls_in_front_of(&service, false);
    let config = Config::builder().base_url(format!("https://localhost:{port}")).proxy(Proxy::Off);
    let client = connect(config.root_certificate(ROOT).thread_stack_size(192 * 1024)).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    trainer.optim_step(AdamParams::default()).unwrap();
    assert!(!service.requests_to("retrieve_future").is_empty());
}

/// What the server does after its early response.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Closes, which resets the connection, since part of the body was not read.
    Close,
    /// Stops reading.
    Hold,
}

/// Responds to the head of each request, and does not read its body.
fn responding_early(then: Then) -> (u16, Arc<Gate>) {
    const RESPONSE: &str = "HTTP/1.1 413 Large\r\nx-kept: yes\r\ncontent-length: 21\r\n\r\n{\"detail\":\"too much\"}";
    let listener = crate::support::listener_with_small_buffers();
    let port = listener.local_addr().unwrap().port();
    let gate = Arc::new(Gate::default());
    let opened = Arc::clone(&gate);
    thread::spawn(move || {
        let mut connection = StreamOwned::new(
            ServerConnection::new(server_config(SERVER, ALL_VERSIONS)).unwrap(),
            listener.accept().unwrap().0,
        );
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        connection.write_all(RESPONSE.as_bytes()).unwrap();
        connection.flush().unwrap();
        if then == Then::Hold {
            opened.pass();
        }
    });
    (port, gate)
}

/// In real time: 150 ms, if the server stops reading.
#[test]
fn an_early_response_is_read_over_tls() {
    for then in [Then::Close, Then::Hold] {
        let (port, gate) = responding_early(then);
        let config = Config::builder().base_url(format!("https://localhost:{port}")).proxy(Proxy::Off);
        let config = config.root_certificate(ROOT).timeout_idle(Duration::from_millis(150));
        let api = Api::new(config.api_key("tml-k").max_retries(0).build_with(|_| None).unwrap()).unwrap();
        let error = api.post("/api/v1/x").body(vec![b'x'; 1 << 20]).send().unwrap_err();
        gate.open();
        assert_eq!((error.status(), error.header("x-kept")), (Some(413), Some("yes")), "{then:?}: {error}");
        assert_eq!(error.body(), Some("{\"detail\":\"too much\"}"), "{then:?}");
        assert!(!error.may_have_taken_effect(), "{then:?}");
    }
}

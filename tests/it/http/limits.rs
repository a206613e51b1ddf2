//! Timeouts of the socket, in real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tinkex::api::Api;
use tinkex::{Error, ErrorKind, Limit, Proxy};

use super::{connect, ms, refused_session, replying};
use crate::support::{Reply, Service, TRIES, healthy_service};

fn assert_limit(error: &Error, operation: &str, limit: Limit) {
    assert_eq!(error.kind(), ErrorKind::Timeout(limit), "{error}");
    assert!(error.is_timeout() && error.is_retryable());
    assert_eq!(error.operation(), Some(operation));
    assert!(error.to_string().contains(limit.setting()), "{error}");
}

#[test]
fn a_silent_proxy_is_a_connect_timeout() {
    let proxy = Service::start(|_| Reply::Silence);
    let config = proxy.config().base_url("http://service.invalid").proxy(Proxy::Url(proxy.url())).max_retries(0);
    let error = connect(config.timeout_connect(ms(100))).unwrap_err();
    assert_limit(&error, "client_config", Limit::Connect);
    let address = proxy.url().replace("http://", "");
    let message = format!("cannot connect to http://service.invalid: proxy {address}: timed out (timeout_connect)");
    assert_eq!(error.message(), message);
    assert!(error.hint().unwrap().contains("HTTPS_PROXY"), "{error}");
    assert!(!error.may_have_taken_effect());
}

#[test]
fn a_silent_server_is_a_wait_timeout() {
    let error = refused_session(|config| config.timeout_idle(ms(100)), || Reply::Silence);
    assert_limit(&error, "create_session", Limit::Wait);
    assert!(error.may_have_taken_effect());
}

#[test]
fn a_stalled_response_is_a_read_timeout() {
    let stop = || Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"session".into());
    // On a busy machine even the start may take longer than the timeout.
    let mut tries = (0..TRIES).map(|_| refused_session(|config| config.timeout_idle(ms(100)), stop));
    let error = tries.find(|error| error.kind() != ErrorKind::Timeout(Limit::Wait)).unwrap();
    assert_limit(&error, "create_session", Limit::Read);
    assert!(error.may_have_taken_effect());
    assert_eq!((error.status(), error.body()), (Some(200), Some("{\"session")));
}

#[test]
fn the_deadline_is_an_operation_timeout() {
    let service = replying([Reply::Silence]);
    let client = connect(service.config()).unwrap().with_timeout_operation(Some(ms(100)));
    let error = client.health().unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Timeout(Limit::Operation), Some("health")));
}

#[test]
fn a_steady_response_may_exceed_the_idle_timeout() {
    let body = json!({"session_id": "s", "info_message": "x".repeat(20)}).to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    // The head and the body take more than 200 ms each, byte by byte; the timeout is 200 ms.
    assert!(head.len() > 36 && body.len() > 36);
    let pieces: Vec<_> = [head, body].concat().bytes().map(|byte| vec![byte]).collect();
    let service = Service::start(move |_| Reply::Drip(pieces.clone(), ms(6)));
    // On a busy machine a pause may take longer than the timeout.
    let config = || service.config().max_retries(0).timeout_idle(ms(200));
    assert!((0..TRIES).any(|_| connect(config()).is_ok()));
}

#[test]
fn a_steady_upload_may_exceed_the_idle_timeout() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    // The first 6 MiB in chunks of 256 KiB, 10 ms apart, take 240 ms; the timeout is 200 ms.
    let service = Service::start_slow(256 << 10, ms(10), move |request| {
        counted.store(request.raw.len(), Ordering::Relaxed);
        healthy_service(request)
    });
    let api = Api::new(service.config().max_retries(0).timeout_idle(ms(200)).build_with(|_| None).unwrap()).unwrap();
    // On a busy machine a pause may take longer than the timeout.
    let upload = || api.post("/api/v1/session_heartbeat").body(vec![b'x'; 10 << 20]).send();
    let response = (0..TRIES).find_map(|_| upload().ok()).unwrap();
    assert!(response.elapsed() > ms(200));
    assert_eq!(taken.load(Ordering::Relaxed), 10 << 20);
}

//! Connections that are reused, closed or refused.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig};
use tinkex::{ErrorKind, Proxy};

use super::{connect, error_reply, quiet, replying, through_waits};
use crate::support::{Reply, Service, healthy_service};

#[test]
fn a_connection_is_reused_after_any_status() {
    let service = replying([error_reply(404, &[]), Reply::ok(json!({"status": "ok"})), error_reply(422, &[])]);
    let client = connect(service.config()).unwrap();
    for ok in [false, true, false, true] {
        assert_eq!(client.health().is_ok(), ok);
    }
    assert_eq!(service.requests().iter().map(|request| request.connection).collect::<Vec<_>>(), [0; 5]);
}

#[test]
fn a_closed_connection_is_replaced_without_a_retry() {
    let closing = || Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}".into());
    let service = replying([closing(), closing()]);
    // Without retries, each call has one attempt.
    let client = connect(service.config().max_retries(0)).unwrap();
    for connection in 0..3 {
        client.health().unwrap();
        if connection < 2 {
            service.wait_for_disconnect(connection);
        }
    }
    assert_eq!(service.requests_to("healthz").iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_stale_connection_costs_a_post_no_retry() {
    let clock = ManualClock::new();
    // The server closes when the request arrives, like one whose idle timeout has just expired.
    let closed = AtomicUsize::new(0);
    let service = Service::start(move |request| match request.path.as_str() {
        "get_info" if request.connection > 0 && closed.fetch_add(1, Ordering::Relaxed) == 1 => Reply::Close,
        _ => healthy_service(request),
    });
    let client = connect(quiet(&service, &clock).max_retries(0)).unwrap();
    // A client asks only once.
    let trainers = [(); 2].map(|()| client.create_lora_training_client("base", LoraConfig::default()).unwrap());
    trainers.iter().for_each(|trainer| drop(trainer.get_info().unwrap()));
    let seen = service.requests_to("get_info");
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].connection, seen[1].connection);
    assert_ne!(seen[1].connection, seen[2].connection);
    assert_eq!(seen[1].header("x-idempotency-key"), seen[2].header("x-idempotency-key"));
    assert_eq!(
        (seen[1].header("x-stainless-retry-count"), seen[2].header("x-stainless-retry-count")),
        (Some("0"), Some("0"))
    );
}

#[test]
fn a_refusing_proxy_means_nothing_was_sent() {
    let proxy = Service::start(|_| error_reply(502, &[]));
    let config = proxy.config().base_url("http://service.invalid").proxy(Proxy::Url(proxy.url())).max_retries(0);
    let error = connect(config).unwrap_err();
    assert_eq!(proxy.requests()[0].method, "CONNECT");
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(!error.may_have_taken_effect());
    assert!(error.to_string().starts_with("client_config: cannot connect to http://service.invalid"), "{error}");
}

#[test]
fn an_unreachable_service_means_nothing_was_sent() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = tinkex::Config::builder().api_key("tml-k").base_url(format!("http://{address}")).proxy(Proxy::Off);
    let error = connect(config.max_retries(0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(!error.may_have_taken_effect() && error.is_retryable());
    assert!(error.to_string().contains(&format!("cannot connect to http://{address}")), "{error}");
}

#[test]
fn an_empty_400_is_a_lost_connection() {
    let seen = AtomicUsize::new(0);
    let service = Service::start(move |request| match request.path.as_str() {
        // Scenario 72 of the client 0.38.0.
        "optim_step" if seen.fetch_add(1, Ordering::SeqCst) < 2 => {
            Reply::Full { status: 400, headers: Vec::new(), body: Vec::new() }
        }
        _ => healthy_service(request),
    });
    let clock = ManualClock::new();
    let client = connect(quiet(&service, &clock)).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let (_, step) = through_waits(&clock, 2, || trainer.optim_step(AdamParams::default()));
    step.unwrap();
    let steps = service.requests_to("optim_step");
    let connections: HashSet<_> = steps.iter().map(|request| request.connection).collect();
    assert_eq!((steps.len(), connections.len()), (3, 3), "each attempt has a connection of its own");
    assert!(steps.iter().all(|request| request.raw == steps[0].raw));
}

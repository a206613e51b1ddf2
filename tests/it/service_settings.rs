//! The settings of the service, `client/config` and `client/dynamic_config`: asked where they exist, missed by nobody elsewhere.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tinkex::clock::ManualClock;
use tinkex::{ErrorKind, ServiceClient};

use crate::support::{RecordedRequest, Reply, Service, connect, healthy_service};

const SECOND: Duration = Duration::from_secs(1);

fn paths(service: &Service) -> Vec<String> {
    service.requests().into_iter().map(|request| request.path).collect()
}

/// A service whose settings are these; the rest is healthy.
fn with_settings(settings: impl Fn(&RecordedRequest) -> Option<Reply> + Send + Sync + 'static) -> Service {
    Service::start_current(move |request| match &*request.path {
        "client/config" | "client/dynamic_config" => settings(request).unwrap_or_else(|| Reply::ok(json!({}))),
        path if path.ends_with("/finish") => Reply::no_content(),
        _ => healthy_service(request),
    })
}

#[test]
fn settings_are_asked_before_the_session() {
    let service = with_settings(|_| None);
    let _client = connect(service.config());
    let requests = service.requests();
    assert_eq!(paths(&service), ["client/config", "client/dynamic_config", "create_session"]);
    for request in &requests[..2] {
        assert_eq!(request.body, json!({"sdk_version": requests[2].body["sdk_version"]}));
    }
}

#[test]
fn a_refusal_of_settings_means_none() {
    for status in [301, 400, 401, 403, 404, 405, 410, 422, 501] {
        let service = with_settings(move |_| Some(Reply::Json(status, json!({"detail": "no"}))));
        let _client = connect(service.config());
        assert_eq!(paths(&service), ["client/config", "create_session"], "{status}");
    }
    for body in ["<html></html>", "[]", r#"{"fwdbwd_max_chunk_len": "many"}"#, ""] {
        let service = with_settings(move |_| {
            Some(Reply::Full { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() })
        });
        let _client = connect(service.config());
        assert_eq!(paths(&service), ["client/config", "create_session"], "{body}");
    }
}

#[test]
fn settings_that_fail_with_500_are_missed() {
    let service = with_settings(|_| Some(Reply::Json(500, json!({"detail": "no such path"}))));
    let _client = connect(service.config().retry_base(Duration::from_millis(1)).retry_cap(Duration::from_millis(1)));
    assert_eq!(paths(&service), ["client/config", "client/config", "client/config", "create_session"]);
    let keys: Vec<_> =
        service.requests_to("client/config").iter().map(|r| r.header("x-idempotency-key").map(str::to_owned)).collect();
    assert!(keys[0].is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[test]
fn a_busy_service_is_asked_again() {
    let times = AtomicUsize::new(0);
    let service = with_settings(move |request| {
        let is_busy = request.path == "client/config" && times.fetch_add(1, Ordering::SeqCst) < 3;
        is_busy.then(|| Reply::Json(503, json!({"detail": "busy"})))
    });
    let config = || service.config().retry_base(Duration::from_millis(1)).retry_cap(Duration::from_millis(1));
    let error = ServiceClient::connect(config().max_retries(1).build_with(|_| None).unwrap()).unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), error.operation()),
        (ErrorKind::Status, Some(503), Some("client_config"))
    );
    let _client = connect(config());
    assert_eq!(paths(&service)[4..], ["client/dynamic_config", "create_session"]);
}

#[test]
fn changing_settings_are_asked_again() {
    let asked = AtomicU64::new(0);
    let service = with_settings(move |request| {
        (request.path == "client/dynamic_config").then(|| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::ok(json!({"refresh_interval_sec": 20})),
            // The last settings hold, and their interval.
            1 => Reply::Json(503, json!({})),
            2 => Reply::ok(json!({"refresh_interval_sec": 1})),
            _ => Reply::Json(404, json!({})),
        })
    });
    let manual = ManualClock::new();
    let _client = connect(service.manual_config(&manual));
    for (count, seconds) in [(2, 20), (3, 20), (4, 10)] {
        manual.until_waiting(|waits| waits.contains(&(seconds * SECOND)));
        manual.advance(seconds * SECOND);
        service.wait_for_count("client/dynamic_config", count);
    }
    // The service has such settings no more.
    manual.until_waiting(|waits| waits.iter().all(|wait| *wait > 1000 * SECOND));
}

#[test]
fn heartbeats_continue_beside_refreshes() {
    let service = with_settings(|_| Some(Reply::ok(json!({"refresh_interval_sec": 15}))));
    let manual = ManualClock::new();
    let _client = connect(service.manual_config(&manual).heartbeat_interval(10 * SECOND));
    for (wait, path, count) in [
        (10, "session_heartbeat", 1),
        (5, "client/dynamic_config", 2),
        (5, "session_heartbeat", 2),
        (10, "session_heartbeat", 3),
    ] {
        manual.until_waiting(|waits| waits.contains(&(wait * SECOND)));
        manual.advance(wait * SECOND);
        service.wait_for_count(path, count);
    }
    service.wait_for_count("client/dynamic_config", 3);
}

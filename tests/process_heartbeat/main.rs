//! Heartbeats on a manual clock, and what is logged about them. The logger is global, so this binary
//! has one test.
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a failing test panics, and its helpers are not an API")]

#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use log::{Level, LevelFilter};
use serde_json::json;
use support::{Reply, Service, captured_log, connect, healthy_service};
use tinkex::clock::ManualClock;

const INTERVAL: Duration = Duration::from_secs(10);

/// Lets this many heartbeats leave in turn, and returns what was logged meanwhile.
fn beat(manual: &ManualClock, service: &Service, count: usize) -> Vec<(Level, String)> {
    captured_log::take();
    for _ in 0..count {
        let before = service.requests_to("session_heartbeat").len();
        manual.until_waiting(|waits| waits.contains(&INTERVAL));
        manual.advance(INTERVAL);
        service.wait_for_count("session_heartbeat", before + 1);
    }
    // The last response has been processed when the client waits for the next heartbeat.
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    captured_log::take_own()
}

#[test]
fn heartbeat_outages_are_logged_once() {
    captured_log::start(LevelFilter::Info);
    let status = Arc::new(AtomicU16::new(200));
    let scripted = Arc::clone(&status);
    let service = Service::start(move |request| match (&*request.path, scripted.load(Ordering::SeqCst)) {
        ("session_heartbeat", 0) => Reply::Close,
        ("session_heartbeat", status) if status != 200 => Reply::Json(status, json!({"detail": "no"})),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let config = service.config().clock(manual.clock()).idle_retention(Duration::from_secs(365 * 24 * 3600));
    let client = connect(config);
    assert_eq!(beat(&manual, &service, 2), []);
    let beats = service.requests_to("session_heartbeat");
    assert_eq!(beats[0].body["session_id"], "session-1");
    assert_eq!(beats[0].header("x-stainless-read-timeout"), Some("10"));

    for outage in [503, 0] {
        status.store(outage, Ordering::SeqCst);
        assert_eq!(beat(&manual, &service, 11), [], "not yet two minutes");
        let lines = beat(&manual, &service, 1);
        assert!(lines.len() == 1 && lines[0].0 == Level::Warn && lines[0].1.contains("120s"), "{lines:?}");
        assert_eq!(beat(&manual, &service, 30), [], "it was said");
        status.store(200, Ordering::SeqCst);
        let lines = beat(&manual, &service, 1);
        assert!(lines.len() == 1 && lines[0].0 == Level::Info, "{lines:?}");
    }
    // A failed heartbeat is not retried.
    assert!(
        service
            .requests_to("session_heartbeat")
            .iter()
            .all(|request| request.header("x-stainless-retry-count") == Some("0"))
    );

    let clock = ManualClock::new();
    let closed = connect(service.config().clock(clock.clock()));
    clock.until_waiting(|waits| waits.contains(&INTERVAL));
    closed.close(Duration::from_secs(30));
    let before = service.requests_to("session_heartbeat").len();
    clock.advance(10 * INTERVAL);
    assert_eq!(service.requests_to("session_heartbeat").len(), before, "it was closed");

    status.store(410, Ordering::SeqCst);
    let before = service.requests_to("session_heartbeat").len();
    captured_log::take();
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    manual.advance(INTERVAL);
    service.wait_for_count("session_heartbeat", before + 1);
    // A close before the response is processed would end the heartbeats by itself.
    captured_log::wait_for_line();
    client.close(Duration::from_secs(30));
    let lines = captured_log::take_own();
    assert!(lines.len() == 1 && lines[0].0 == Level::Warn && lines[0].1.contains("no more heartbeats"), "{lines:?}");
    manual.advance(10 * INTERVAL);
    assert_eq!(service.requests_to("session_heartbeat").len(), before + 1);
}

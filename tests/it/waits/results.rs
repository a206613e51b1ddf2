//! Polls that bring no result.

use serde_json::Value;
use tinkex::types::{ModelInput, RequestKind, SamplingParams};
use tinkex::{Pending, ServiceClient, WaitKind};

use super::*;
use crate::support::{connect, result, service_with_settings};

fn pending(client: &ServiceClient) -> Pending<Value> {
    client.pending("asample:s:1", RequestKind::Sample)
}

/// A scene whose polls get this response, until it recovers.
fn polled(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Scene {
    Scene::with(1, move |request, status| (request.path == "retrieve_future" && status == 1).then(&reply))
}

#[test]
fn failing_polls_are_said_until_the_result() {
    let scene = polled(|| Reply::Json(500, json!({"detail": "out of disk"})));
    let client = connect(scene.config());
    let pending = pending(&client);
    scene.past([375..=500, 750..=1000, 1500..=2000, 3000..=4000, 6000..=8000]);
    let waiting = scene.waiting();
    assert_eq!((waiting.kind, &*waiting.reason, waiting.status), (WaitKind::Result, "500 out of disk", Some(500)));
    // The line may be said before or after the poll of the same instant.
    assert!(waiting.operation == "pending" && waiting.tries >= 5 && waiting.calls == 1, "{waiting}");
    assert!(waiting.limit.to_string().contains(" min (timeout_progress)"), "{waiting}");
    scene.recover_before_next();
    pending.wait().unwrap();
    assert_eq!(scene.ended().kind, WaitKind::Result);
    assert!(scene.said.is_empty());
}

#[test]
fn polls_the_service_never_gets_are_said() {
    let page = |status| Reply::Full {
        status,
        headers: vec![("content-type", "text/html".to_owned())],
        body: b"<html>nginx</html>".to_vec(),
    };
    let rows = [(200, "the response is not JSON but text/html (status 200, starts with "), (404, "404 Not Found")];
    for (status, reason) in rows {
        let scene = polled(move || page(status));
        let client = connect(scene.config());
        let pending = pending(&client);
        scene.past([375..=500, 750..=1000, 1500..=2000, 3000..=4000, 6000..=8000]);
        let waiting = scene.waiting();
        assert!(waiting.reason.starts_with(reason) && waiting.status == Some(status), "{waiting}");
        assert!(waiting.limit.to_string().contains(" min (timeout_progress)"), "{waiting}");
        scene.recover_before_next();
        pending.wait().unwrap();
        assert_eq!(scene.ended().kind, WaitKind::Result);
    }
}

#[test]
fn a_paused_queue_is_said_with_its_reason() {
    let scene = polled(|| {
        Reply::ok(json!({"type": "try_again", "queue_state": "paused_capacity", "queue_state_reason": "8 runs ahead"}))
    });
    let client = connect(scene.config());
    let pending = pending(&client);
    // A paused queue is polled once a second, and less often after many early responses.
    scene.past((0..4).map(|_| 1000..=1000));
    scene.past([1200..=1600, 2400..=3200, 4800..=6400]);
    let waiting = scene.waiting();
    assert!(&*waiting.reason == "sampling is paused: 8 runs ahead" && waiting.tries >= 7, "{waiting}");
    drop(pending);
    assert!(scene.ended().waited >= 10 * SECOND);
}

#[test]
fn work_in_progress_is_said_after_a_minute() {
    let scene = polled(|| Reply::ok(json!({"type": "try_again", "request_id": "r", "queue_state": "active"})));
    let client = connect(scene.config());
    let pending = pending(&client);
    scene.past([75..=100]);
    scene.manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait >= 150 * SECOND / 1000));
    scene.manual.advance(59 * SECOND);
    scene.manual.until_waiting(|waits| !waits.is_empty());
    assert!(scene.said.is_empty());
    scene.manual.advance(SECOND);
    let waiting = scene.waiting();
    assert_eq!((waiting.waited.as_secs(), &*waiting.reason), (60, "the service has not finished it"));
    assert_eq!(waiting.limit, WaitLimit::None);
    scene.recover_before_next();
    pending.wait().unwrap();
    assert_eq!(scene.ended().kind, WaitKind::Result);
    assert!(scene.said.is_empty());
}

#[test]
fn failing_polls_of_a_session_are_said() {
    let (manual, (sender, said)) = (ManualClock::new(), unbounded());
    let service = service_with_settings(json!({"sample_use_retrieve_futures": true}), |request| match &*request.path {
        "retrieve_futures" => Reply::Json(503, json!({"detail": "restarting"})),
        "retrieve_future" => result(request.request_id()),
        _ => healthy_service(request),
    });
    let client = connect(service.manual_config(&manual).observer(move |event: &Event| {
        if let Event::Waiting(waiting) = event {
            sender.send(waiting.clone()).unwrap();
        }
    }));
    let sampler = client.create_sampling_client("base").unwrap();
    let sample = sampler.submit_sample(&ModelInput::from_tokens([1]), 1, &SamplingParams::default()).unwrap();
    for wait in [375..=500, 750..=1000, 1500..=2000, 3000..=4000, 6000..=8000] {
        advance_past_wait(&manual, wait);
    }
    let waiting = said.recv_timeout(PATIENCE).unwrap();
    assert_eq!((waiting.operation, &*waiting.reason, waiting.kind), ("sample", "503 restarting", WaitKind::Result));
    drop(sample);
}

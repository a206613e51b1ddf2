//! The events that the program's observers receive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use serde_json::{Value, json};
use tinkex::clock::ManualClock;
use tinkex::types::{AdamParams, LoraConfig, QueueState, RequestKind};
use tinkex::{ErrorKind, Event, Limit, Pending, QueueStateUpdate, RestClient, ServiceClient};

use crate::support::{Gate, Reply, Service, connect, healthy_service, service_with_polls};

/// Longer than anything in these tests takes.
const PATIENCE: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

/// Of a client that connects, asks for the health of the service and closes: a start and a stop for each of four requests.
const EVENTS: usize = 8;

/// An observer, and the events that it received.
fn observer() -> (impl Fn(&Event) + Send + Sync + 'static, Receiver<Event>) {
    let (sender, received) = unbounded();
    (move |event: &Event| drop(sender.send(event.clone())), received)
}

fn next(received: &Receiver<Event>) -> Event {
    received.recv_timeout(PATIENCE).expect("no further event came")
}

/// The events up to the end of the request to this path.
fn until_stop(received: &Receiver<Event>, of: &str) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        events.push(next(received));
        // Heartbeats never end.
        assert!(events.len() < 20, "{of} did not stop: {events:?}");
        if matches!(events.last(), Some(Event::RequestStop { path, .. }) if path.ends_with(of)) {
            return events;
        }
    }
}

fn pending(client: &ServiceClient, id: &str) -> Pending<Value> {
    client.pending(id, RequestKind::OptimStep)
}

#[test]
fn request_events_cover_every_attempt() {
    let manual = ManualClock::new();
    let failures = AtomicUsize::new(2);
    let fails = move || failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    let service = Service::start(move |request| match &*request.path {
        "healthz" if fails() => Reply::with_headers(503, &[("retry-after", "3")], &json!({"detail": "busy"})),
        _ => healthy_service(request),
    });
    let (observer, received) = observer();
    let client = connect(service.manual_config(&manual).observer(observer));
    // The requests that open the session emit events, too.
    let opening = until_stop(&received, "create_session");
    assert!(matches!(opening[0], Event::RequestStart { operation: "client_config", method: "POST", .. }));
    assert!(matches!(opening[1], Event::RequestStop { status: Some(404), error: None, .. }));
    assert!(matches!(opening[2], Event::RequestStart { operation: "create_session", method: "POST", .. }));
    assert_eq!(opening.len(), 4);
    let asking = {
        let client = client.clone();
        std::thread::spawn(move || client.health().unwrap())
    };
    for _ in 0..2 {
        manual.until_waiting(|waits| waits.contains(&(3 * SECOND)));
        manual.advance(3 * SECOND);
    }
    asking.join().unwrap();
    let events = until_stop(&received, "healthz");
    assert_eq!(events.len(), 4, "{events:?}");
    let Event::RequestStart { operation, method, path, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!((*operation, *method, &**path), ("health", "GET", "/api/v1/healthz"));
    for (index, event) in events[1..3].iter().enumerate() {
        let Event::Retry { operation, path, attempt, wait, error, elapsed, .. } = event else { panic!("{events:?}") };
        assert_eq!((*operation, &**path, *attempt), ("health", "/api/v1/healthz", index as u32 + 1));
        assert_eq!((*wait, error.status(), *elapsed), (3 * SECOND, Some(503), 3 * SECOND * index as u32));
    }
    let Event::RequestStop { operation, path, status, error, duration, attempts, .. } = &events[3] else {
        panic!("{events:?}")
    };
    assert_eq!((*operation, &**path, *status), ("health", "/api/v1/healthz", Some(200)));
    assert!(path.starts_with("/api/v1") && error.is_none());
    assert_eq!((*duration, *attempts), (6 * SECOND, 3));
}

#[test]
fn failed_request_events_have_a_reason() {
    let service = Service::start(|request| match &*request.path {
        "odd?secret=Xq" => Reply::Json(404, json!({})),
        _ => healthy_service(request),
    });
    let (observer, received) = observer();
    let client = connect(service.config().observer(observer));
    until_stop(&received, "create_session");
    client.api().get("/api/v1/odd").query("secret", "Xq").send().unwrap_err();
    let events = until_stop(&received, "/api/v1/odd");
    let Event::RequestStop { status, error: Some(error), attempts: 1, .. } = &events[1] else { panic!("{events:?}") };
    assert_eq!((*status, error.kind()), (Some(404), ErrorKind::Status));
    client.api().get("/api/v1/odd?secret=Xq").send().unwrap_err();
    until_stop(&received, "/api/v1/odd");
    client.close(PATIENCE);
    client.health().unwrap_err();
}

#[test]
fn promise_events_cover_polls_and_result() {
    let manual = ManualClock::new();
    let service = service_with_polls(|request| match (request.request_id(), request.iteration()) {
        ("fails", _) => Reply::ok(json!({"error": "bad", "category": "user"})),
        (_, Some(0)) => Reply::Json(408, json!({"queue_state": "paused_capacity", "queue_state_reason": "full"})),
        (_, Some(1)) => Reply::Json(500, json!({"detail": "oh"})),
        (_, Some(2)) => Reply::Close,
        _ => Reply::ok(json!({"metrics": {}})),
    });
    let (observer, received) = observer();
    let client = connect(service.manual_config(&manual).observer(observer));
    until_stop(&received, "create_session");
    let works = pending(&client, "works");
    let mut waited = Duration::ZERO;
    for _ in 0..3 {
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= 2 * SECOND));
        let wait = manual.waits()[0];
        waited += wait;
        manual.advance(wait);
    }
    works.wait().unwrap();
    let (mut states, mut failed, mut polls, resolved) = (Vec::new(), Vec::new(), 0, loop_until_resolved(&received));
    for event in &resolved {
        match event {
            Event::QueueState(update) => {
                states.push((update.operation, update.queue_state.clone(), update.reason.clone()))
            }
            Event::PollFailed { request_id, kind: RequestKind::OptimStep, iteration, lost, error, .. } => {
                assert_eq!((&**request_id, error.request_id()), ("works", Some("works")));
                failed.push((*iteration, *lost, error.status()));
            }
            Event::RequestStop { path, status, .. } if &**path == "/api/v1/retrieve_future" => {
                polls += 1;
                assert_eq!(*status, [Some(408), Some(500), None, Some(200)][polls - 1]);
            }
            _ => {}
        }
    }
    assert_eq!(states, [("pending", QueueState::PausedCapacity, Some("full".to_owned()))]);
    assert_eq!(failed, [(0, 0, Some(408)), (1, 0, Some(500)), (2, 0, None)]);
    let Some(Event::Resolved { request_id, kind, duration, error: None, operation, .. }) = resolved.last() else {
        panic!("{resolved:?}")
    };
    assert_eq!((&**request_id, *kind, *operation), ("works", RequestKind::OptimStep, "pending"));
    assert_eq!(*duration, waited);
    pending(&client, "fails").wait().unwrap_err();
    let resolved = loop_until_resolved(&received);
    let Some(Event::Resolved { error: Some(error), .. }) = resolved.last() else { panic!("{resolved:?}") };
    assert_eq!((error.kind(), error.request_id()), (ErrorKind::RequestFailed, Some("fails")));
}

#[test]
fn an_oversized_result_is_a_failed_poll() {
    let service = service_with_polls(|_| Reply::ok(json!({"metrics": {}, "padding": "x".repeat(2000)})));
    let (observer, received) = observer();
    let client = connect(service.config().max_response_bytes(1000).observer(observer));
    until_stop(&received, "create_session");
    assert_eq!(pending(&client, "large").wait().unwrap_err().kind(), ErrorKind::Decode);
    let events = loop_until_resolved(&received);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::PollFailed { .. })).count(), 1, "{events:?}");
}

/// The events up to the end of a promise.
fn loop_until_resolved(received: &Receiver<Event>) -> Vec<Event> {
    let mut events = Vec::new();
    while !matches!(events.last(), Some(Event::Resolved { .. })) {
        events.push(next(received));
    }
    events
}

#[test]
fn only_a_wait_that_timed_out_is_reported() {
    let manual = ManualClock::new();
    let service = service_with_polls(|_| Reply::Silence);
    let (observer, received) = observer();
    let client = connect(service.manual_config(&manual).observer(observer));
    drop(pending(&client, "given up"));
    let limited = client.with_timeout_operation(Some(5 * SECOND));
    let pending = pending(&limited, "limited");
    let waiting = std::thread::spawn(move || pending.wait().unwrap_err());
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    service.wait_until(|requests| requests.iter().any(|request| request.request_id() == "limited"));
    manual.advance(5 * SECOND);
    waiting.join().unwrap();
    let events = loop_until_resolved(&received);
    let Some(Event::Resolved { request_id, error: Some(error), duration, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert_eq!((&**request_id, error.kind()), ("limited", ErrorKind::Timeout(Limit::Operation)));
    assert_eq!(*duration, 5 * SECOND);
}

#[test]
fn a_slow_observer_learns_how_many_it_missed() {
    let service = Service::start(healthy_service);
    let (sender, received) = unbounded();
    let gate = Arc::<Gate>::default();
    let waits = Arc::clone(&gate);
    let observer = move |event: &Event| {
        waits.pass();
        sender.send(event.clone()).ok();
    };
    let client = connect(service.config().observer(observer));
    // Two events each, and four for the opening of the session: the observer holds the first, and 1024 are queued.
    const REQUESTS: u64 = 600;
    for _ in 0..REQUESTS {
        client.health().unwrap();
    }
    gate.open();
    let (mut missed, mut heard) = (0, 0);
    while missed + heard < 2 * REQUESTS + 4 {
        match next(&received) {
            Event::Missed { count, .. } => missed += count,
            _ => heard += 1,
        }
    }
    assert_eq!((missed, heard), (2 * REQUESTS + 4 - 1025, 1025));
}

#[test]
fn close_waits_for_the_observer() {
    let service = Service::start(healthy_service);
    let (observer, received) = observer();
    let (slow, released) = bounded::<()>(0);
    let client = connect(service.config().observer(move |event: &Event| {
        released.recv().ok();
        observer(event);
    }));
    client.health().unwrap();
    let closing = std::thread::spawn(move || client.close(PATIENCE));
    for _ in 0..EVENTS {
        slow.send(()).unwrap();
    }
    closing.join().unwrap();
    assert_eq!(received.len(), EVENTS);
}

#[test]
fn a_panicking_observer_does_not_affect_the_other() {
    let service = service_with_polls(|request| match request.iteration() {
        Some(0) => Reply::ok(json!({"type": "try_again", "request_id": "r", "queue_state": "active"})),
        _ => Reply::ok(json!({"metrics": {}})),
    });
    let (sender, received) = unbounded();
    let thread = || (std::thread::current().id(), std::thread::current().name().map(str::to_owned));
    let config = service
        .config()
        .observer(|event: &Event| assert!(!matches!(event, Event::QueueState(_)), "on purpose"))
        .queue_state_observer(move |_: &QueueStateUpdate| sender.send(thread()).unwrap());
    let client = connect(config);
    pending(&client, "r").wait().unwrap();
    let (_, name) = received.recv_timeout(PATIENCE).unwrap();
    assert_eq!(name.as_deref(), Some("tinkex-observer"));
}

#[test]
fn an_observer_may_make_blocking_calls() {
    let service = Service::start(healthy_service);
    let (give, given) = bounded::<ServiceClient>(1);
    let (sender, received) = bounded(1);
    let observer = move |_: &Event| {
        if let Ok(client) = given.try_recv() {
            let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
            let step = trainer.submit_optim_step(AdamParams::default()).unwrap().wait();
            drop((client, trainer));
            sender.send(step.unwrap()).unwrap();
        }
    };
    let client = connect(service.config().observer(observer));
    give.send(client.clone()).unwrap();
    client.health().unwrap();
    drop(client);
    assert_eq!(received.recv_timeout(PATIENCE).unwrap().metrics.unwrap()["step"], 1.0);
}

#[test]
fn an_observer_learns_of_a_failed_connect() {
    let service = Service::start(|_| Reply::Json(401, json!({"detail": "no"})));
    let (observer, received) = observer();
    ServiceClient::connect(service.config().observer(observer).build_with(|_| None).unwrap()).unwrap_err();
    // Before `connect` returns: the program may end then.
    let received: Vec<_> = received.try_iter().collect();
    let (Event::RequestStart { .. }, Event::RequestStop { status: Some(401), error: Some(_), .. }) =
        (&received[2], &received[3])
    else {
        panic!("{received:?}")
    };
    assert_eq!(received.len(), 4, "{received:?}");
}

#[test]
fn dropping_a_rest_client_waits_for_its_observer() {
    let service = Service::start(healthy_service);
    let (observer, received) = observer();
    let (slow, released) = unbounded::<()>();
    let config = service.config().timeout_drop(PATIENCE).observer(move |event: &Event| {
        released.recv().ok();
        observer(event);
    });
    let rest = RestClient::new(config.build_with(|_| None).unwrap()).unwrap();
    rest.get_training_run("none").unwrap_err();
    let (begin, begun) = bounded(1);
    let dropping = std::thread::spawn(move || {
        begin.send(()).unwrap();
        drop(rest);
    });
    begun.recv().unwrap();
    slow.send(()).unwrap();
    slow.send(()).unwrap();
    dropping.join().unwrap();
    assert_eq!(received.len(), 2);
}

#[test]
fn closing_in_a_callback_waits_for_that_observer() {
    let service = Service::start(healthy_service);
    let (hear, received) = observer();
    let (slow, released) = unbounded::<()>();
    let other = connect(service.config().observer(move |event: &Event| {
        released.recv().ok();
        hear(event);
    }));
    other.health().unwrap();
    let (sender, closed) = unbounded();
    let client = connect(service.config().observer(move |_: &Event| {
        sender.send(received.len()).unwrap();
        other.close(PATIENCE);
        sender.send(received.len()).unwrap();
    }));
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(0));
    for _ in 0..EVENTS {
        slow.send(()).unwrap();
    }
    assert_eq!(closed.recv_timeout(PATIENCE), Ok(EVENTS));
    client.close(PATIENCE);
}

#[test]
fn close_is_bounded_despite_stuck_observer_and_telemetry() {
    let service =
        Service::start(|request| if request.path == "telemetry" { Reply::Silence } else { healthy_service(request) });
    let (release, released) = bounded::<()>(0);
    let config = service.config().telemetry(true).observer(move |_: &Event| assert!(released.recv().is_err()));
    let client = connect(config);
    client.telemetry().flush();
    service.wait_for_count("telemetry", 1);
    // Queued telemetry and undelivered events slow no call down.
    client.health().unwrap();
    let (done, is_done) = bounded(1);
    std::thread::spawn(move || {
        client.close(SECOND);
        done.send(()).unwrap();
    });
    is_done.recv_timeout(PATIENCE).expect("the close waits for the observer");
    drop(release);
}

#[test]
fn a_callback_may_drop_the_last_handle() {
    let service = Service::start(healthy_service);
    let (give, given) = bounded::<ServiceClient>(1);
    let ((done, is_done), (go, may_go)) = (bounded(1), bounded::<()>(0));
    let observer = move |_: &Event| {
        if let Ok(client) = given.try_recv() {
            may_go.recv().unwrap();
            drop(client);
            done.send(()).unwrap();
        }
    };
    let client = connect(service.config().telemetry(true).timeout_drop(PATIENCE).observer(observer));
    give.send(client.clone()).unwrap();
    client.health().unwrap();
    drop(client);
    go.send(()).unwrap();
    is_done.recv_timeout(PATIENCE).unwrap();
    let seen = service.wait_until(|requests| requests.iter().any(|request| request.path == "telemetry"));
    let received =
        |request: &crate::support::RecordedRequest| request.body["events"].to_string().matches("SESSION_END").count();
    assert_eq!(seen.iter().filter(|request| request.path == "telemetry").map(received).sum::<usize>(), 1);
}

//! The events that the service receives about a session: when, with which contents, and what happens when it does not take
//! them.

mod scenarios;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use serde_json::{Value, json};
use tinkex::clock::ManualClock;
use tinkex::types::Severity;
use tinkex::types::wire::SessionDuration;
use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, RequestKind, SamplingParams};
use tinkex::{ConfigBuilder, Event, Telemetry};

use crate::support::{Gate, RecordedRequest, Reply, Service, advance_past_wait, connect, healthy_service};

const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything in these tests takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The maximum time that an event waits for others.
const INTERVAL: Duration = Duration::from_secs(10);

fn config(service: &Service, manual: &ManualClock) -> ConfigBuilder {
    service.manual_config(manual).telemetry(true).timeout_drop(PATIENCE)
}

/// The events of all telemetry that has arrived, in order.
fn events(service: &Service) -> Vec<Value> {
    let seen = service.requests();
    let reports = seen.iter().filter(|request| request.path.split('?').next() == Some("telemetry"));
    reports.flat_map(|request| request.body["events"].as_array().unwrap().clone()).collect()
}

/// The names of events: the type, or for generic events their own name.
fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event_name"].as_str().or(event["event"].as_str()).unwrap()).collect()
}

/// Numbers without a gap, and no event twice.
fn assert_numbered(events: &[Value]) {
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["event_session_index"], index, "{event}");
    }
    let mut ids: Vec<_> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), events.len());
}

fn log_many(telemetry: &Telemetry, count: usize) {
    for i in 0..count {
        telemetry.log("e", json!({"i": i}), Severity::Info);
    }
}

#[test]
fn session_start_and_end_are_reported() {
    let (service, manual) = (Service::start(healthy_service), ManualClock::new());
    let client = connect(config(&service, &manual));
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    assert!(service.requests_to("telemetry").is_empty());
    manual.advance(INTERVAL);
    let seen = &service.wait_for_count("telemetry", 1)[0];
    assert_eq!((seen.method.as_str(), &seen.body["session_id"]), ("POST", &json!("session-1")));
    assert_eq!(seen.header("x-stainless-read-timeout"), Some("5"));
    client.telemetry().log("half way", Value::Null, Severity::Debug);
    manual.advance(90 * SECOND);
    client.close(PATIENCE);
    let events = events(&service);
    assert_eq!(names(&events), ["SESSION_START", "half way", "SESSION_END"]);
    assert_numbered(&events);
    let duration: SessionDuration = events[2]["duration"].as_str().unwrap().parse().unwrap();
    assert_eq!(Duration::from(duration), 100 * SECOND);
}

#[test]
fn a_full_batch_is_sent_immediately() {
    let (service, manual) = (Service::start(healthy_service), ManualClock::new());
    let client = connect(config(&service, &manual));
    log_many(&client.telemetry(), 149);
    service.wait_for_count("telemetry", 1);
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    assert_eq!(events(&service).len(), 100);
    manual.advance(INTERVAL);
    service.wait_for_count("telemetry", 2);
    assert_numbered(&events(&service));
    assert_eq!(events(&service).len(), 150);
}

#[test]
fn numbers_have_no_gap_whichever_threads_report() {
    let (service, manual) = (Service::start(healthy_service), ManualClock::new());
    let client = connect(config(&service, &manual));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| log_many(&client.telemetry(), 125));
        }
    });
    client.close(PATIENCE);
    assert_numbered(&events(&service));
    assert_eq!(events(&service).len(), 1002);
}

/// A service with these replies to telemetry, in order.
fn replying(replies: impl IntoIterator<Item = Reply>) -> Service {
    let replies = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
    Service::start(move |request| match &*request.path {
        "telemetry" => replies.lock().unwrap().pop_front().unwrap_or_else(|| healthy_service(request)),
        _ => healthy_service(request),
    })
}

#[test]
fn temporary_failures_are_retried_with_backoff() {
    let service = replying([
        Reply::Json(503, json!({})),
        Reply::Json(500, json!({})),
        Reply::with_headers(429, &[("retry-after", "7")], &json!({})),
    ]);
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual));
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    manual.advance(INTERVAL);
    for (count, least, most) in [(1, 375, 500), (2, 750, 1000), (3, 7000, 7000)] {
        service.wait_for_count("telemetry", count);
        advance_past_wait(&manual, least..=most);
    }
    let seen = service.wait_for_count("telemetry", 4);
    let key = seen[0].header("x-idempotency-key");
    assert!(
        seen.iter().all(|request| request.body == seen_first(&service) && request.header("x-idempotency-key") == key)
    );
    client.close(PATIENCE);
    assert_eq!(names(&events(&service)[4..]), ["SESSION_END"]);
}

#[test]
fn a_refused_batch_is_dropped_with_its_number() {
    let service = replying([Reply::ok(json!({"status": "accepted"})), Reply::Json(400, json!({"detail": "no"}))]);
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual));
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    manual.advance(INTERVAL);
    service.wait_for_count("telemetry", 1);
    let flushed = |name: &str, count| {
        client.telemetry().log(name, Value::Null, Severity::Info);
        client.telemetry().flush();
        service.wait_for_count("telemetry", count);
    };
    flushed("refused", 2);
    flushed("accepted", 3);
    client.close(PATIENCE);
    let events = events(&service);
    assert_eq!(names(&events), ["SESSION_START", "refused", "accepted", "SESSION_END"]);
    assert_eq!(events[2]["event_session_index"], 2, "the refused event keeps its number");
}

fn seen_first(service: &Service) -> Value {
    service.requests_to("telemetry")[0].body.clone()
}

#[test]
fn a_full_queue_drops_new_events() {
    let gate = Arc::<Gate>::default();
    let opened = Arc::clone(&gate);
    let service = Service::start(move |request| match &*request.path {
        "telemetry" => Reply::held(&opened, healthy_service(request)),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual));
    log_many(&client.telemetry(), 99);
    service.wait_for_count("telemetry", 1);
    // A hundred are being sent, ten thousand are queued, and the others are dropped.
    log_many(&client.telemetry(), 10_500);
    gate.open();
    client.close(PATIENCE);
    let events = events(&service);
    assert_numbered(&events);
    assert_eq!((events.len(), names(&events)[10_100]), (10_101, "SESSION_END"));
    assert!(
        service.requests_to("telemetry").iter().all(|request| request.body["events"].as_array().unwrap().len() <= 100)
    );
}

#[test]
fn close_does_not_wait_for_stuck_telemetry() {
    for silent in ["telemetry", ""] {
        let service = Service::start(
            move |request| if request.path == silent { Reply::Silence } else { healthy_service(request) },
        );
        // In real time: this measures how long a close takes.
        let client = connect(service.config().telemetry(true));
        log_many(&client.telemetry(), 250);
        service.wait_for_count("telemetry", 1);
        let (done, is_done) = bounded(1);
        thread::spawn(move || {
            client.close(Duration::from_secs(3600));
            done.send(()).unwrap();
        });
        // Far less than the time limit of a request or of the close.
        is_done.recv_timeout(Duration::from_secs(4)).expect("the close waits for the silent service");
        let all = if silent.is_empty() { 252 } else { 100 };
        assert_eq!(events(&service).len(), all);
    }
}

#[test]
fn a_telemetry_handle_does_not_keep_the_session() {
    let (service, manual) = (Service::start(healthy_service), ManualClock::new());
    let client = connect(config(&service, &manual));
    let telemetry = client.telemetry();
    assert!(telemetry.is_on());
    drop(client);
    telemetry.log("late", Value::Null, Severity::Critical);
    telemetry.flush();
    assert_eq!(names(&events(&service)), ["SESSION_START", "SESSION_END"]);
}

#[test]
fn reporting_does_not_report_on_itself() {
    let failures = AtomicUsize::new(0);
    let service = Service::start(move |request| match &*request.path {
        "telemetry" if failures.fetch_add(1, Ordering::SeqCst) < 3 => Reply::Json(503, json!({})),
        "telemetry" if failures.load(Ordering::SeqCst) == 4 => Reply::Json(400, json!({})),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let (sender, received) = unbounded();
    let client = connect(config(&service, &manual).observer(move |event: &Event| drop(sender.send(event.clone()))));
    client.telemetry().flush();
    for count in 1..=3 {
        service.wait_for_count("telemetry", count);
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= 2 * SECOND));
        manual.advance(2 * SECOND);
    }
    service.wait_for_count("telemetry", 4);
    client.close(PATIENCE);
    assert_eq!(names(&events(&service)).iter().filter(|name| **name != "SESSION_START").count(), 1, "the end");
    let received: Vec<_> = received.try_iter().collect();
    assert_eq!(received.len(), 6, "the opening and the end of the session alone: {received:?}");
}

#[test]
fn reported_errors_are_classified() {
    let service = Service::start(|request| match &*request.path {
        "healthz" => Reply::Json(503, json!({"detail": "down"})),
        "get_server_capabilities" => Reply::Json(404, json!({"detail": "nothing"})),
        _ => healthy_service(request),
    });
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual).max_retries(0));
    let telemetry = client.telemetry();
    let (down, missing) = (client.health().unwrap_err(), client.get_server_capabilities().unwrap_err());
    telemetry.log_exception(&down);
    telemetry.log_exception(&std::io::Error::other(missing));
    telemetry.log_exception(&std::io::Error::other("the disk is full"));
    client.close(PATIENCE);
    let events = events(&service);
    let exception = "InternalClientHolder.execute_with_retries.exception";
    let expected = [exception, exception, "user_error", "UNHANDLED_EXCEPTION", "user_error", "UNHANDLED_EXCEPTION"];
    assert_eq!(names(&events)[1..7], expected);
    let severities: Vec<_> = events[1..7].iter().map(|event| event["severity"].as_str().unwrap()).collect();
    assert_eq!(severities, ["WARNING", "WARNING", "WARNING", "ERROR", "WARNING", "ERROR"]);
    assert_eq!(events[5]["event_data"]["status_code"], 404);
    assert_eq!(events[6]["error_message"], "the disk is full");
    assert_eq!((&events[4]["error_type"], &events[6]["error_type"]), (&json!("Status"), &json!("Error")));
}

#[test]
fn a_fatal_error_is_sent_before_the_return() {
    let (service, manual) = (Service::start(healthy_service), ManualClock::new());
    let client = connect(config(&service, &manual));
    let telemetry = client.telemetry();
    log_many(&telemetry, 150);
    // The clock stands still: nothing waits for more events.
    assert!(telemetry.log_fatal(&std::io::Error::other("the disk is full"), PATIENCE));
    let events = events(&service);
    assert_eq!((events.len(), names(&events)[151]), (152, "UNHANDLED_EXCEPTION"));
    client.close(PATIENCE);
    assert!(!telemetry.log_fatal(&std::io::Error::other("late"), PATIENCE) || self::events(&service).len() == 153);
}

#[test]
fn a_fatal_error_waits_for_its_time_only() {
    let service =
        Service::start(|request| if request.path == "telemetry" { Reply::Silence } else { healthy_service(request) });
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual));
    let telemetry = client.telemetry();
    let reporting = thread::spawn(move || telemetry.log_fatal(&std::io::Error::other("the disk is full"), 3 * SECOND));
    manual.until_waiting(|waits| waits.contains(&(3 * SECOND)));
    manual.advance(3 * SECOND);
    assert!(!reporting.join().unwrap(), "the service has not responded");
    assert!(!Telemetry::default().log_fatal(&std::io::Error::other("off"), PATIENCE));
}

#[test]
fn a_paused_queue_is_reported_once_a_minute() {
    let service = crate::support::service_with_polls(|request| match request.iteration() {
        Some(0..=2) => Reply::ok(json!({"type": "try_again", "queue_state": "paused_capacity"})),
        _ => crate::support::result(request.request_id()),
    });
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual));
    let pending = client.pending::<Value>("optim_step:m:1", RequestKind::OptimStep);
    for _ in 0..3 {
        advance_past_wait(&manual, 1000..=1000);
    }
    pending.wait().unwrap();
    client.close(PATIENCE);
    let events = events(&service);
    assert_eq!(names(&events), ["SESSION_START", "APIFuture.result_async.queue_state", "SESSION_END"]);
    let data = json!({"request_id": "optim_step:m:1", "request_type": "OptimStep", "queue_state": "paused_capacity"});
    assert_eq!((&events[1]["event_data"], &events[1]["severity"]), (&data, &json!("WARNING")));
}

/// A service that repeats everything that it received in each of its failures.
#[test]
fn telemetry_contains_no_user_data() {
    let service = Service::start(|request| {
        let echo = json!({"detail": format!("{:?} {} {}", request.headers, request.path, request.body)});
        let request = &RecordedRequest { path: request.path.split('?').next().unwrap().to_owned(), ..request.clone() };
        match (&*request.path, request.iteration()) {
            ("asample", _) => Reply::Json(422, echo),
            ("retrieve_future", Some(0)) => Reply::Json(500, echo),
            ("retrieve_future", _) if request.request_id().starts_with("optim_step") => {
                Reply::ok(json!({"error": echo.to_string(), "category": "user"}))
            }
            ("retrieve_future", _) if request.request_id().starts_with("forward") => {
                Reply::ok(json!({"tokens": [918_273]}))
            }
            (path, _) if path.starts_with("echo") => Reply::Json(404, echo),
            _ => healthy_service(request),
        }
    });
    let config = service.config().telemetry(true).retry_base(Duration::from_millis(1));
    let client = connect(config.api_key("tml-Xq7Zk-key").header("x-team", "Xq7Zk-team").query("q", "Xq7Zk-query"));
    let telemetry = client.telemetry();
    let datum = Datum::new(ModelInput::from_tokens(vec![918_273])).input("target_tokens", vec![918_273_i64]).unwrap();
    let batch: Batch = vec![datum.input("weights", vec![0.918_273_f32]).unwrap()].into();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let sampler = client.create_sampling_client("base").unwrap();
    let prompt = ModelInput::from_tokens(vec![918_273]);
    for error in [
        trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap_err(),
        trainer.optim_step(AdamParams::default()).unwrap_err(),
        sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(1)).unwrap_err(),
        client.api().post("/api/v1/echo?a=Xq7Zk").json(&[918_273]).send().unwrap_err(),
        client.api().get("/api/v1/healthz").send().unwrap().json::<u32>().unwrap_err(),
    ] {
        telemetry.log_exception(&error);
        telemetry.log_exception(&std::io::Error::other(error));
    }
    client.close(PATIENCE);
    let received = events(&service);
    let exceptions = received.iter().filter(|event| event["event"] == "UNHANDLED_EXCEPTION").count();
    let user_errors = names(&received).iter().filter(|name| **name == "user_error").count();
    assert_eq!((exceptions, user_errors), (4, 3 + 6), "{received:?}");
    for seen in service.requests_to("telemetry?q=Xq7Zk-query") {
        let text = String::from_utf8_lossy(&seen.raw);
        for secret in ["Xq7Zk", "918273", "x-team"] {
            assert!(!text.contains(secret), "{secret} is sent: {text}");
        }
    }
}

#[test]
fn a_timeout_is_reported() {
    let service = crate::support::service_with_polls(|_| Reply::Silence);
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual)).with_timeout_operation(Some(5 * SECOND));
    let waiting = {
        let pending = client.pending::<Value>("r-1", RequestKind::Sample);
        thread::spawn(move || pending.wait().unwrap_err())
    };
    service.wait_for_count("retrieve_future", 1);
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    manual.advance(5 * SECOND);
    waiting.join().unwrap();
    // The poller learns that nobody waits any more, and emits the event.
    service.wait_for_disconnect(service.requests_to("retrieve_future")[0].connection);
    client.close(PATIENCE);
    let events = events(&service);
    assert_eq!(names(&events), ["SESSION_START", "APIFuture.result_async.timeout", "SESSION_END"]);
    let data = &events[1]["event_data"];
    assert_eq!(
        (&data["request_id"], &data["timeout"], &data["elapsed_time"]),
        (&json!("r-1"), &json!("timeout_operation"), &json!(5.0))
    );
    assert_eq!(events[1]["severity"], "ERROR");
}

//! What the service is told of a session: when, in which words, and what becomes of it when the service does not listen.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};
use serde_json::{Map, Value, json};
use support::{Gate, Reply, Seen, Service, connect, well};
use tinkex::clock::ManualClock;
use tinkex::config::ConfigBuilder;
use tinkex::types::{
    AdamParams, Batch, Datum, LoraConfig, LossFn, ModelInput, RequestKind, SamplingParams, SessionDuration,
};
use tinkex::{Event, ServiceClient, Severity, Telemetry};

const SECOND: Duration = Duration::from_secs(1);

/// More than anything that must happen takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long an event waits for company.
const INTERVAL: Duration = Duration::from_secs(10);

fn config(service: &Service, manual: &ManualClock) -> ConfigBuilder {
    service.manual_config(manual).telemetry(true).timeout_drop(PATIENCE)
}

/// The events of all telemetry that has arrived, in order.
fn events(service: &Service) -> Vec<Value> {
    let seen = service.seen();
    let reports = seen.iter().filter(|seen| seen.path.split('?').next() == Some("telemetry"));
    reports.flat_map(|seen| seen.body["events"].as_array().unwrap().clone()).collect()
}

/// The names of events: what they are, for generic ones what they are called.
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
fn a_session_tells_its_beginning_after_ten_seconds_and_its_end_with_its_duration() {
    let (service, manual) = (Service::start(well), ManualClock::new());
    let client = connect(config(&service, &manual));
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    assert!(service.seen_at("telemetry").is_empty());
    manual.advance(INTERVAL);
    let seen = &service.until_count("telemetry", 1)[0];
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
fn a_hundred_events_leave_at_once_and_the_rest_when_its_time_has_come() {
    let (service, manual) = (Service::start(well), ManualClock::new());
    let client = connect(config(&service, &manual));
    log_many(&client.telemetry(), 149);
    service.until_count("telemetry", 1);
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    assert_eq!(events(&service).len(), 100);
    manual.advance(INTERVAL);
    service.until_count("telemetry", 2);
    assert_numbered(&events(&service));
    assert_eq!(events(&service).len(), 150);
}

#[test]
fn what_the_service_may_take_later_is_sent_again_with_growing_waits_and_what_it_refuses_is_dropped() {
    let replies = Mutex::new(vec![
        Reply::ok(json!({"status": "accepted"})),
        Reply::Json(400, json!({"detail": "no"})),
        Reply::ok(json!({"status": "accepted"})),
        Reply::with_headers(429, &[("retry-after", "7")], &json!({})),
        Reply::Json(500, json!({})),
        Reply::Json(503, json!({})),
    ]);
    let service = Service::start(move |seen| match &*seen.path {
        "telemetry" => replies.lock().unwrap().pop().unwrap_or_else(|| well(seen)),
        _ => well(seen),
    });
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual));
    manual.until_waiting(|waits| waits.contains(&INTERVAL));
    manual.advance(INTERVAL);
    for (count, least, most) in [(1, 375, 500), (2, 750, 1000), (3, 7000, 7000)] {
        service.until_count("telemetry", count);
        let mut wait = Duration::ZERO;
        manual.until_waiting(|waits| {
            wait = waits.first().copied().unwrap_or_default();
            (least..=most).contains(&wait.as_millis())
        });
        manual.advance(wait);
    }
    let seen = service.until_count("telemetry", 4);
    let key = seen[0].header("x-idempotency-key");
    assert!(seen.iter().all(|seen| seen.body == seen_first(&service) && seen.header("x-idempotency-key") == key));
    let flushed = |name: &str, count| {
        client.telemetry().log(name, Value::Null, Severity::Info);
        client.telemetry().flush();
        service.until_count("telemetry", count);
    };
    flushed("refused", 5);
    flushed("taken", 6);
    client.close(PATIENCE);
    let events = events(&service);
    assert_eq!(names(&events[4..]), ["refused", "taken", "SESSION_END"]);
    assert_eq!(events[5]["event_session_index"], 2, "one that was refused has had its number");
}

fn seen_first(service: &Service) -> Value {
    service.seen_at("telemetry")[0].body.clone()
}

#[test]
fn a_full_queue_drops_what_comes_and_sends_the_rest_once() {
    let gate = Arc::<Gate>::default();
    let opened = Arc::clone(&gate);
    let service = Service::start(move |seen| match &*seen.path {
        "telemetry" => Reply::held(&opened, well(seen)),
        _ => well(seen),
    });
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual));
    log_many(&client.telemetry(), 99);
    service.until_count("telemetry", 1);
    // A hundred are on their way, ten thousand wait, and the others are dropped.
    log_many(&client.telemetry(), 10_500);
    gate.open();
    client.close(PATIENCE);
    let events = events(&service);
    assert_numbered(&events);
    assert_eq!((events.len(), names(&events)[10_100]), (10_101, "SESSION_END"));
    assert!(service.seen_at("telemetry").iter().all(|seen| seen.body["events"].as_array().unwrap().len() <= 100));
}

#[test]
fn a_close_does_not_wait_for_a_service_that_does_not_take_it() {
    for silent in ["telemetry", ""] {
        let service = Service::start(move |seen| if seen.path == silent { Reply::Silence } else { well(seen) });
        // Real time: this is about how long a close takes.
        let client = connect(service.config().telemetry(true));
        log_many(&client.telemetry(), 250);
        service.until_count("telemetry", 1);
        let (done, is_done) = bounded(1);
        thread::spawn(move || {
            client.close(Duration::from_secs(3600));
            done.send(()).unwrap();
        });
        // Far less than the limit of one request, or that of the close.
        is_done.recv_timeout(Duration::from_secs(4)).expect("the close waits for the silent service");
        let all = if silent.is_empty() { 252 } else { 100 };
        assert_eq!(events(&service).len(), all);
    }
}

#[test]
fn nothing_is_told_after_the_end_and_a_telemetry_handle_does_not_keep_the_session_open() {
    let (service, manual) = (Service::start(well), ManualClock::new());
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
    let service = Service::start(move |seen| match &*seen.path {
        "telemetry" if failures.fetch_add(1, Ordering::SeqCst) < 3 => Reply::Json(503, json!({})),
        "telemetry" if failures.load(Ordering::SeqCst) == 4 => Reply::Json(400, json!({})),
        _ => well(seen),
    });
    let manual = ManualClock::new();
    let (tell, told) = unbounded();
    let client = connect(config(&service, &manual).observer(move |event: &Event| drop(tell.send(event.clone()))));
    client.telemetry().flush();
    for count in 1..=3 {
        service.until_count("telemetry", count);
        manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= 2 * SECOND));
        manual.advance(2 * SECOND);
    }
    service.until_count("telemetry", 4);
    client.close(PATIENCE);
    assert_eq!(names(&events(&service)).iter().filter(|name| **name != "SESSION_START").count(), 1, "the end");
    let told: Vec<_> = told.try_iter().collect();
    assert_eq!(told.len(), 2, "the opening of the session alone: {told:?}");
}

#[test]
fn user_errors_and_other_errors_that_the_program_reports_are_told_apart() {
    let service = Service::start(|seen| match &*seen.path {
        "healthz" => Reply::Json(503, json!({"detail": "down"})),
        "get_server_capabilities" => Reply::Json(404, json!({"detail": "nothing"})),
        _ => well(seen),
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
}

/// A service that repeats all that it was sent, in whatever goes wrong.
#[test]
fn no_telemetry_has_a_prompt_a_token_a_key_a_header_or_a_query_even_where_the_service_repeats_them() {
    let service = Service::start(|seen| {
        let echo = json!({"detail": format!("{:?} {} {}", seen.headers, seen.path, seen.body)});
        let seen = &Seen { path: seen.path.split('?').next().unwrap().to_owned(), ..seen.clone() };
        match (&*seen.path, seen.iteration()) {
            ("asample", _) => Reply::Json(422, echo),
            ("retrieve_future", Some(0)) => Reply::Json(500, echo),
            ("retrieve_future", _) if seen.request_id().starts_with("optim_step") => {
                Reply::ok(json!({"error": echo.to_string(), "category": "user"}))
            }
            ("retrieve_future", _) if seen.request_id().starts_with("forward") => {
                Reply::ok(json!({"tokens": [918_273]}))
            }
            (path, _) if path.starts_with("echo") => Reply::Json(404, echo),
            _ => well(seen),
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
    let told = events(&service);
    let exceptions = told.iter().filter(|event| event["event"] == "UNHANDLED_EXCEPTION").count();
    let user_errors = names(&told).iter().filter(|name| **name == "user_error").count();
    assert_eq!((exceptions, user_errors), (4, 3 + 6), "{told:?}");
    for seen in service.seen_at("telemetry?q=Xq7Zk-query") {
        let text = String::from_utf8_lossy(&seen.raw);
        for secret in ["Xq7Zk", "918", "x-team"] {
            assert!(!text.contains(secret), "{secret} is told: {text}");
        }
    }
}

#[test]
fn a_time_limit_that_runs_out_is_told() {
    let service = support::polled(|_| Reply::Silence);
    let manual = ManualClock::new();
    let client = connect(config(&service, &manual)).timeout_operation(Some(5 * SECOND));
    let waiting = {
        let pending = client.pending::<Value>("r-1", RequestKind::Sample);
        thread::spawn(move || pending.wait().unwrap_err())
    };
    service.until_count("retrieve_future", 1);
    manual.until_waiting(|waits| waits.contains(&(5 * SECOND)));
    manual.advance(5 * SECOND);
    waiting.join().unwrap();
    // The poller is told that nobody waits any more, and tells the rest.
    service.until_ended(service.seen_at("retrieve_future")[0].connection);
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

/// Where our events differ from the Python client's on purpose: `event.field`.
const DIFFERENCES: [(&str, &str); 3] = [
    ("user_error.body", "what the service answered is not repeated"),
    ("SESSION_END", "told once, at the close of the session, not after each error"),
    ("APIFuture.result_async.queue_state", "a paused queue, once a minute for each client"),
];

/// Fields with the same value in both; of the others, only the type is compared.
const SAME: [&str; 16] = [
    "event",
    "event_name",
    "severity",
    "event_session_index",
    "a",
    "i",
    "nested",
    "status_code",
    "is_retryable",
    "attempt_count",
    "request_id",
    "request_type",
    "should_retry",
    "connection_error_retries",
    "iteration",
    "error_category",
];

struct Scenario {
    theirs: Vec<Value>,
    service: Service,
    manual: ManualClock,
    client: ServiceClient,
}

impl Scenario {
    /// A service that gives the answers of a scenario, and a client of it.
    fn start(name: &str) -> Self {
        let path = format!("{}/tests/golden/v0.4.1/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (mut answers, mut theirs) = (HashMap::<String, Vec<Value>>::new(), Vec::new());
        for exchange in fixture["exchanges"].as_array().unwrap() {
            let path = exchange["path"].as_str().unwrap().trim_start_matches("/api/v1/");
            match path {
                // What was sent again is the same.
                "telemetry" if exchange["response"]["status"] == 200 => {
                    theirs.extend(exchange["body"]["json"]["events"].as_array().unwrap().clone());
                }
                _ => {}
            }
            answers.entry(path.to_owned()).or_default().push(exchange["response"].clone());
        }
        let counts = Mutex::new(HashMap::<String, usize>::new());
        let service = Service::start(move |seen| {
            let index = match seen.iteration().filter(|_| seen.request_id().contains("optim_step")) {
                // After the one poll for the model.
                Some(iteration) => iteration as usize + 1,
                None => {
                    let mut counts = counts.lock().unwrap();
                    let count = counts.entry(seen.path.clone()).or_default();
                    *count += 1;
                    *count - 1
                }
            };
            let Some(answer) = answers.get(&seen.path).and_then(|answers| answers.get(index)) else {
                return well(seen);
            };
            let Some(status) = answer["status"].as_u64() else { return Reply::Close };
            let should_retry = answer["headers"]["x-should-retry"].as_str();
            let headers: Vec<_> = should_retry.map(|value| ("x-should-retry", value)).into_iter().collect();
            Reply::with_headers(status as u16, &headers, &answer["json"])
        });
        let manual = ManualClock::new();
        let client = connect(config(&service, &manual));
        Scenario { theirs, service, manual, client }
    }

    /// Closes the session and compares all events, but for the differences.
    fn compare(self) -> Vec<Seen> {
        self.client.close(PATIENCE);
        let ours = events(&self.service);
        assert_numbered(&ours);
        let is_compared = |event: &&Value| !DIFFERENCES.iter().any(|(place, _)| names(&[(*event).clone()]) == [*place]);
        let compared = |events: &[Value]| events.iter().filter(is_compared).cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours).iter().filter(|name| **name == "SESSION_END").count(), 1);
        assert_eq!(ours.last().unwrap()["event"], "SESSION_END");
        let (end, theirs_end) = (ours.last().unwrap(), self.theirs.last().unwrap());
        assert_same("SESSION_END", end.as_object().unwrap(), theirs_end.as_object().unwrap(), false);
        let (ours, theirs) = (compared(&ours), compared(&self.theirs));
        assert_eq!(names(&ours), names(&theirs));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let name = names(std::slice::from_ref(ours))[0].to_owned();
            assert_same(&name, ours.as_object().unwrap(), theirs.as_object().unwrap(), true);
        }
        self.service.seen_at("telemetry")
    }
}

/// The same fields, of the same types, and of the same values where those are in [`SAME`].
fn assert_same(name: &str, ours: &Map<String, Value>, theirs: &Map<String, Value>, values: bool) {
    for (key, their) in theirs {
        let place = format!("{name}.{key}");
        if DIFFERENCES.iter().any(|(difference, _)| *difference == place) {
            assert!(!ours.contains_key(key), "{place} is no difference");
            continue;
        }
        let our = ours.get(key).unwrap_or_else(|| panic!("{place} is missing"));
        match (our, their) {
            (Value::Object(our), Value::Object(their)) if key == "event_data" => assert_same(name, our, their, values),
            // Events between them differ, so do the numbers.
            _ if SAME.contains(&&**key) && values && key != "event_session_index" => assert_eq!(our, their, "{place}"),
            _ => assert_eq!(std::mem::discriminant(our), std::mem::discriminant(their), "{place}: {our} {their}"),
        }
    }
    for key in ours.keys() {
        assert!(theirs.contains_key(key), "{name}.{key} is not in the fixture");
    }
}

#[test]
fn scenario_60_explicit_events_a_user_error_and_an_exception() {
    let scenario = Scenario::start("60_telemetry");
    let (client, telemetry) = (&scenario.client, scenario.client.telemetry());
    telemetry.log("golden.event", json!({"a": 1, "nested": {"x": [1, 2.5, null, true]}}), Severity::Info);
    telemetry.log("golden.nodata", Value::Null, Severity::Info);
    scenario.manual.until_waiting(|waits| waits.contains(&INTERVAL));
    scenario.manual.advance(INTERVAL);
    scenario.service.until_count("telemetry", 1);
    let trainer = client.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
    trainer.optim_step(AdamParams::default()).unwrap_err();
    telemetry.log_exception(&client.create_sampling_client("http://x/y").unwrap_err());
    drop(trainer);
    let requests = scenario.compare();
    let theirs = json!({"platform": "Linux", "sdk_version": "0.4.1"});
    for seen in &requests {
        let body = seen.body.as_object().unwrap();
        assert_eq!(body.keys().collect::<Vec<_>>(), ["events", "platform", "sdk_version", "session_id"]);
        assert_eq!((&body["sdk_version"], &body["session_id"]), (&theirs["sdk_version"], &json!("sess-golden-0001")));
        if cfg!(target_os = "linux") {
            assert_eq!(body["platform"], theirs["platform"]);
        }
    }
}

#[test]
fn scenario_61_events_are_sent_by_the_hundred() {
    let scenario = Scenario::start("61_telemetry_batching");
    let telemetry = scenario.client.telemetry();
    log_many(&telemetry, 250);
    telemetry.flush();
    scenario.service.until_count("telemetry", 3);
    // The fixture ends here, before the end of the session.
    let sizes: Vec<_> = scenario
        .service
        .seen_at("telemetry")
        .iter()
        .map(|seen| seen.body["events"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [100, 100, 51]);
    let ours = events(&scenario.service);
    assert_numbered(&ours);
    for (ours, theirs) in ours.iter().zip(&scenario.theirs) {
        assert_same("e", ours.as_object().unwrap(), theirs.as_object().unwrap(), true);
    }
    assert_eq!(ours.len(), scenario.theirs.len());
}

/// The Python client sends a batch that was refused with 400 again; the crate drops it.
#[test]
fn scenario_62_a_refused_batch_is_dropped() {
    let scenario = Scenario::start("62_telemetry_failure");
    scenario.client.telemetry().flush();
    let first = &scenario.service.until_count("telemetry", 1)[0];
    assert_eq!(names(first.body["events"].as_array().unwrap()), ["SESSION_START"]);
    assert_same(
        "SESSION_START",
        first.body["events"][0].as_object().unwrap(),
        scenario.theirs[0].as_object().unwrap(),
        true,
    );
    let telemetry = scenario.client.telemetry();
    // The next one gets the 500 of the fixture, and is sent again.
    telemetry.log("next", Value::Null, Severity::Info);
    telemetry.flush();
    scenario.service.until_count("telemetry", 2);
    scenario.manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= SECOND));
    scenario.manual.advance(SECOND);
    let seen = scenario.service.until_count("telemetry", 3);
    assert_eq!(names(seen[1].body["events"].as_array().unwrap()), ["next"]);
    assert_eq!(seen[1].body, seen[2].body);
}

#[test]
fn scenario_63_the_life_of_a_promise() {
    let scenario = Scenario::start("63_telemetry_future_events");
    let (client, manual) = (&scenario.client, &scenario.manual);
    let trainer = client.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    // The 429, the paused queue, the 500, the lost connection and the "not yet".
    for (least, most) in [(750, 1000), (1000, 1000), (375, 500), (1000, 1000), (75, 200)] {
        let mut wait = Duration::ZERO;
        manual.until_waiting(|waits| {
            wait = waits.first().copied().unwrap_or_default();
            (least..=most).contains(&wait.as_millis())
        });
        manual.advance(wait);
    }
    step.wait().unwrap_err();
    drop(trainer);
    scenario.compare();
}

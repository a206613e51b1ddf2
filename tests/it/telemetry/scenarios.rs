//! Scenarios of the Python clients 0.4.1 and 0.38.0: the events that they send, and where this crate differs on purpose.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::{Map, Value, json};
use tinkex::ServiceClient;
use tinkex::clock::ManualClock;
use tinkex::types::Severity;
use tinkex::types::{AdamParams, LoraConfig};

use super::{INTERVAL, PATIENCE, SECOND, assert_numbered, config, events, log_many, names};
use crate::support::{RecordedRequest, Reply, Service, advance_past_wait, connect, golden, healthy_service};

/// Where our events differ from the Python client's on purpose: `event.field`.
const DIFFERENCES: [(&str, &str); 15] = [
    ("user_error.body", "what the service answered is not repeated"),
    ("SESSION_END", "sent once, at the close of the session, not after each error"),
    ("APIFuture.result_async.queue_state", "a paused queue, once a minute for each client"),
    ("APIFuture.result_async.api_status_error.detail", REPEATED),
    ("APIFuture.result_async.api_status_error.kind", REPEATED),
    ("APIFuture.result_async.api_status_error.exception_type", REPEATED),
    ("APIFuture.result_async.api_status_error.bad_request_retries", ITERATION),
    ("APIFuture.result_async.api_status_error.connection_error_retries", ITERATION),
    ("APIFuture.result_async.connection_error.status_code", REPEATED),
    ("APIFuture.result_async.connection_error.detail", REPEATED),
    ("APIFuture.result_async.connection_error.kind", REPEATED),
    ("APIFuture.result_async.connection_error.should_retry", REPEATED),
    ("APIFuture.result_async.connection_error.is_user_error", REPEATED),
    ("APIFuture.result_async.connection_error.exception_type", REPEATED),
    ("APIFuture.result_async.connection_error.bad_request_retries", ITERATION),
];

/// Why a field of 0.38.0 is left out.
const REPEATED: &str = "0.38.0 only: other fields say the same";

/// Why a field of 0.38.0 is left out.
const ITERATION: &str = "0.38.0 only: the iteration counts the polls";

/// Fields that must have the same value in both; for all others, only the type is compared.
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

/// Reads a fixture.
type Read = fn(&str) -> Value;

/// The fixtures of both generations.
const GENERATIONS: [Read; 2] = [golden::fixture, golden::fixture_2026];

struct Scenario {
    theirs: Vec<Value>,
    service: Service,
    manual: ManualClock,
    client: ServiceClient,
}

impl Scenario {
    /// A service that replays the responses of a scenario, and its client. `read` reads the fixture of a generation.
    fn start(read: Read, name: &str) -> Self {
        let (mut responses, mut theirs) = (HashMap::<String, Vec<Value>>::new(), Vec::new());
        let exchanges = read(name)["exchanges"].take();
        let exchanges = exchanges.as_array().unwrap();
        let is_current = exchanges[0]["path"] == "/api/v1/client/config";
        for exchange in exchanges {
            let path = exchange["path"].as_str().unwrap().trim_start_matches("/api/v1/");
            match path {
                // 0.4.1 retries a batch unchanged, 0.38.0 drops it.
                "telemetry" if is_current || exchange["response"]["status"] == 200 => {
                    theirs.extend(exchange["body"]["json"]["events"].as_array().unwrap().clone());
                }
                _ => {}
            }
            responses.entry(path.to_owned()).or_default().push(exchange["response"].clone());
        }
        let counts = Mutex::new(HashMap::<String, usize>::new());
        let script = move |request: &RecordedRequest| {
            let index = match request.iteration().filter(|_| request.request_id().contains("optim_step")) {
                // After the one poll for the model.
                Some(iteration) => iteration as usize + 1,
                None => {
                    let mut counts = counts.lock().unwrap();
                    let count = counts.entry(request.path.clone()).or_default();
                    *count += 1;
                    *count - 1
                }
            };
            let Some(response) = responses.get(&request.path).and_then(|responses| responses.get(index)) else {
                return healthy_service(request);
            };
            let Some(status) = response["status"].as_u64() else { return Reply::Close };
            let should_retry = response["headers"]["x-should-retry"].as_str();
            let headers: Vec<_> = should_retry.map(|value| ("x-should-retry", value)).into_iter().collect();
            Reply::with_headers(status as u16, &headers, &response["json"])
        };
        let service = if is_current { Service::start_current(script) } else { Service::start(script) };
        let manual = ManualClock::new();
        let client = connect(config(&service, &manual));
        Scenario { theirs, service, manual, client }
    }

    /// Closes the session and compares all events, but for the differences.
    fn compare(self) -> Vec<RecordedRequest> {
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
        self.service.requests_to("telemetry")
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
            // The events in between differ, so the indices do, too.
            _ if SAME.contains(&&**key) && values && key != "event_session_index" => assert_eq!(our, their, "{place}"),
            _ => assert_eq!(std::mem::discriminant(our), std::mem::discriminant(their), "{place}: {our} {their}"),
        }
    }
    for key in ours.keys() {
        assert!(theirs.contains_key(key), "{name}.{key} is not in the fixture");
    }
}

#[test]
fn scenario_60_events_and_exceptions() {
    for read in GENERATIONS {
        let scenario = Scenario::start(read, "60_telemetry");
        let (client, telemetry) = (&scenario.client, scenario.client.telemetry());
        telemetry.log("golden.event", json!({"a": 1, "nested": {"x": [1, 2.5, null, true]}}), Severity::Info);
        telemetry.log("golden.nodata", Value::Null, Severity::Info);
        scenario.manual.until_waiting(|waits| waits.contains(&INTERVAL));
        scenario.manual.advance(INTERVAL);
        scenario.service.wait_for_count("telemetry", 1);
        let trainer = client.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
        trainer.optim_step(AdamParams::default()).unwrap_err();
        telemetry.log_exception(&client.create_sampling_client("http://x/y").unwrap_err());
        drop(trainer);
        let requests = scenario.compare();
        let theirs = json!({"platform": "Linux", "sdk_version": "0.4.1"});
        // 0.38.0 adds `process_uuid`, which this crate leaves out.
        for seen in &requests {
            let body = seen.body.as_object().unwrap();
            assert_eq!(body.keys().collect::<Vec<_>>(), ["events", "platform", "sdk_version", "session_id"]);
            assert_eq!(
                (&body["sdk_version"], &body["session_id"]),
                (&theirs["sdk_version"], &json!("sess-golden-0001"))
            );
            if cfg!(target_os = "linux") {
                assert_eq!(body["platform"], theirs["platform"]);
            }
        }
    }
}

#[test]
fn scenario_61_events_are_sent_by_the_hundred() {
    for read in GENERATIONS {
        let scenario = Scenario::start(read, "61_telemetry_batching");
        let telemetry = scenario.client.telemetry();
        log_many(&telemetry, 250);
        telemetry.flush();
        scenario.service.wait_for_count("telemetry", 3);
        // The fixture ends here, before the end of the session.
        let sizes: Vec<_> = scenario
            .service
            .requests_to("telemetry")
            .iter()
            .map(|request| request.body["events"].as_array().unwrap().len())
            .collect();
        assert_eq!(sizes, [100, 100, 51]);
        let ours = events(&scenario.service);
        assert_numbered(&ours);
        for (ours, theirs) in ours.iter().zip(&scenario.theirs) {
            assert_same("e", ours.as_object().unwrap(), theirs.as_object().unwrap(), true);
        }
        assert_eq!(ours.len(), scenario.theirs.len());
    }
}

/// 0.4.1 retries a batch that was refused with 400; 0.38.0 and this crate drop it.
#[test]
fn scenario_62_a_refused_batch_is_dropped() {
    for read in GENERATIONS {
        let scenario = Scenario::start(read, "62_telemetry_failure");
        scenario.client.telemetry().flush();
        let first = &scenario.service.wait_for_count("telemetry", 1)[0];
        assert_eq!(names(first.body["events"].as_array().unwrap()), ["SESSION_START"]);
        assert_same(
            "SESSION_START",
            first.body["events"][0].as_object().unwrap(),
            scenario.theirs[0].as_object().unwrap(),
            true,
        );
        let telemetry = scenario.client.telemetry();
        // The next one gets the 500 of the fixture of 0.4.1, and is retried.
        telemetry.log("next", Value::Null, Severity::Info);
        telemetry.flush();
        scenario.service.wait_for_count("telemetry", 2);
        let is_retried = read("62_telemetry_failure")["sdk"] == "tinker==0.4.1";
        if is_retried {
            scenario.manual.until_waiting(|waits| waits.first().is_some_and(|wait| *wait <= SECOND));
            scenario.manual.advance(SECOND);
        }
        let seen = scenario.service.wait_for_count("telemetry", 2 + usize::from(is_retried));
        assert_eq!(names(seen[1].body["events"].as_array().unwrap()), ["next"]);
        assert!(seen[2..].iter().all(|again| again.body == seen[1].body));
    }
}

#[test]
fn scenario_63_the_life_of_a_promise() {
    for read in GENERATIONS {
        let scenario = Scenario::start(read, "63_telemetry_future_events");
        let (client, manual) = (&scenario.client, &scenario.manual);
        let trainer = client.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
        let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
        // The 429, the paused queue, the 500, the lost connection and the "not yet".
        for (least, most) in [(750, 1000), (1000, 1000), (375, 500), (1000, 1000), (75, 200)] {
            advance_past_wait(manual, least..=most);
        }
        step.wait().unwrap_err();
        drop(trainer);
        scenario.compare();
    }
}

//! Scenarios 50 and 51 of the Python client 0.38.0: the same calls, the same requests, the same responses and errors.

use std::time::Duration;

use serde_json::Value;
use tinkex::rest::CopyWeights;
use tinkex::types::{AccessScope, AuditEventType, SessionSearch, Timestamp};
use tinkex::{ErrorKind, RestClient, Result};

use super::scenarios::{same, service};
use crate::support::golden::fixture_2026;
use crate::support::{RecordedRequest, Reply, Service};

/// One call, and the comparison of its result with the fixture's.
type Call = fn(&RestClient, &Value) -> Result<()>;

/// Requests that differ on purpose: ids are percent-encoded as one segment (0.38.0 leaves them as they are).
const PATHS: [(&str, &str); 3] = [
    ("id with special characters", "training_runs/a%20b%2F%C3%BC%3Fx%3D1?access_scope=owned"),
    ("checkpoint id with special characters", "training_runs/run%3A1/checkpoints/weights/a%20b%252Fc"),
    ("get_sampler", "samplers/sess-golden-0001%3Asample%3A0"),
];

/// Calls of other clients, and `whoami`, which asks no service.
const ELSEWHERE: [&str; 3] = ["whoami (no jwt)", "capabilities via service", "service.copy_weights"];

const PATH: &str = "tinker://run-golden/weights/0001";

fn search() -> SessionSearch {
    SessionSearch::new()
}

fn call(label: &str) -> Call {
    match label {
        "get_training_run" => |rest, value| same(rest.get_training_run("run-golden"), value),
        "get_training_run_by_tinker_path" => |rest, value| same(rest.get_training_run_by_tinker_path(PATH), value),
        "list_training_runs default" => |rest, value| same(rest.list_training_runs(20, 0), value),
        "list_training_runs" => |rest, value| same(rest.list_training_runs(5, 10), value),
        "list_checkpoints" => |rest, value| same(rest.list_checkpoints("run-golden"), value),
        "list_user_checkpoints default" => |rest, value| same(rest.list_user_checkpoints(100, 0), value),
        "list_user_checkpoints" => |rest, value| same(rest.list_user_checkpoints(1, 2), value),
        "delete_checkpoint" => |rest, value| same(rest.delete_checkpoint("run-golden", "weights/0001"), value),
        "delete_checkpoint_from_tinker_path" => |rest, value| {
            same(rest.delete_checkpoint_from_tinker_path("tinker://run-golden/sampler_weights/0002"), value)
        },
        "publish" => |rest, value| same(rest.publish_checkpoint_from_tinker_path(PATH), value),
        "unpublish" => |rest, value| same(rest.unpublish_checkpoint_from_tinker_path(PATH), value),
        "id with special characters" => |rest, value| same(rest.get_training_run("a b/ü?x=1"), value),
        "checkpoint id with special characters" => {
            |rest, value| same(rest.delete_checkpoint("run:1", "weights/a b%2Fc"), value)
        }
        "get_server_capabilities" => |rest, value| same(rest.get_server_capabilities(), value),
        "get_training_run accessible" => {
            |rest, value| same(rest.with_access_scope(AccessScope::Accessible).get_training_run("run-golden"), value)
        }
        "weights_info" => |rest, value| same(rest.get_weights_info_by_tinker_path(PATH), value),
        "list_training_runs project" => |rest, value| same(rest.list_training_runs_of_project("p-1", 20, 0), value),
        "external urls" => {
            |rest, value| same(rest.get_external_weights_urls("tinker://run-golden/external_weights/e1"), value)
        }
        "external urls bad" => |rest, _| rest.get_external_weights_urls(PATH).map(drop),
        "set ttl" => {
            |rest, value| same(rest.set_checkpoint_ttl_from_tinker_path(PATH, Some(Duration::from_secs(3600))), value)
        }
        "set ttl None" => |rest, value| same(rest.set_checkpoint_ttl("run-golden", "weights/0001", None), value),
        "get_session" => |rest, value| same(rest.get_session("sess-golden-0001"), value),
        "list_sessions" => |rest, value| same(rest.list_sessions(20, 0), value),
        "assign project" => |rest, value| same(rest.assign_session_project("sess-golden-0001", "p-2"), value),
        "export trace (pending, ready)" => {
            |rest, value| same(rest.export_session_trace("sess-golden-0001", Duration::from_secs(60)), value)
        }
        "get_sampler" => |rest, value| same(rest.get_sampler("sess-golden-0001:sample:0"), value),
        "copy_weights" => |rest, value| {
            let copy = CopyWeights::new(PATH).destination_project_id("p-1").ttl(Duration::from_secs(3600));
            same(rest.copy_weights(&copy), value)
        },
        "copy_weights min" => {
            |rest, value| same(rest.copy_weights(&CopyWeights::new(PATH).destination_project_id("p-1")), value)
        }
        "copy_weights no project" => |rest, _| rest.copy_weights(&CopyWeights::new(PATH)).map(drop),
        "search default" => |rest, value| same(rest.search_sessions(&search()), value),
        "search" => |rest, value| {
            let search = search().project_ids(["p-1"]).user_metadata("k", "v").display_name("x").limit(10);
            same(rest.search_sessions(&search), value)
        },
        "audit" => |rest, value| same(rest.get_audit_log(&AuditEventType::All, None), value),
        "audit day" => |rest, value| same(rest.get_audit_log(&AuditEventType::Projects, Some("2025-11-01")), value),
        "billing" => |rest, value| {
            let [start, end] =
                ["2025-11-01", "2025-11-02T02:00:00+02:00"].map(|time| time.parse::<Timestamp>().unwrap());
            same(rest.get_billing_usage(&start, &end), value)
        },
        "billing ckpt" => |rest, value| same(rest.get_current_checkpoint_storage_usage(None), value),
        "billing ckpt project" => |rest, value| same(rest.get_current_checkpoint_storage_usage(Some("p-1")), value),
        other => panic!("{other} is not covered"),
    }
}

fn compare(label: &str, ours: &RecordedRequest, theirs: &Value) {
    let query = theirs["query"].as_str().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{query}", theirs["path"].as_str().unwrap().trim_start_matches("/api/v1/"));
    let expected = PATHS.iter().find(|(name, _)| *name == label).map_or(&*path, |(_, path)| path);
    assert_eq!((&*ours.method, &*ours.path), (theirs["method"].as_str().unwrap(), expected), "{label}");
    assert_eq!(ours.body, theirs["body"]["json"], "{label}");
}

#[test]
fn every_request_is_the_python_clients() {
    let fixture = fixture_2026("50_rest_all");
    let exchanges = fixture["exchanges"].as_array().unwrap();
    let replayed: Vec<_> = exchanges.iter().filter(|e| e["seq"].as_u64() >= Some(8)).cloned().collect();
    let service = service(&replayed);
    let manual = tinkex::clock::ManualClock::new();
    let rest = RestClient::new(service.manual_config(&manual).max_retries(0).build_with(|_| None).unwrap()).unwrap();
    let rest = rest.with_access_scope(AccessScope::Owned);
    let mut compared = 0;
    for result in fixture["results"].as_array().unwrap() {
        let label = result["label"].as_str().unwrap();
        if ELSEWHERE.contains(&label) {
            continue;
        }
        let before = service.requests().len();
        let outcome = std::thread::scope(|scope| {
            let called = scope.spawn(|| call(label)(&rest, &result["value"]));
            if label.starts_with("export trace") {
                crate::support::advance_past_wait(&manual, 5000..=5000);
            }
            called.join().unwrap()
        });
        match (outcome, result.get("exception")) {
            (Ok(()), None) => {}
            (Err(error), Some(theirs)) => match theirs["status_code"].as_u64() {
                Some(status) => assert_eq!(error.status().map(u64::from), Some(status), "{label}"),
                None => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{label}"),
            },
            (ours, theirs) => panic!("{label}: {ours:?}, {theirs:?}"),
        }
        let seen = service.requests().split_off(before);
        let numbers = result["first_seq"].as_u64()..=result["last_seq"].as_u64();
        let theirs: Vec<_> = exchanges.iter().filter(|e| numbers.contains(&e["seq"].as_u64())).collect();
        assert_eq!(seen.len(), theirs.len(), "{label}");
        seen.iter().zip(theirs).for_each(|(ours, theirs)| compare(label, ours, theirs));
        compared += 1;
    }
    assert_eq!(compared, 36);
}

/// The run that a scenario asks for is the end of the path.
fn run_of(exchange: &Value) -> &str {
    exchange["path"].as_str().unwrap().rsplit('/').next().unwrap()
}

#[test]
fn every_error_is_the_python_clients() {
    let fixture = fixture_2026("51_rest_errors");
    let exchanges = fixture["exchanges"].as_array().unwrap().clone();
    let recorded = exchanges.clone();
    let service = Service::start(move |request| {
        let run = request.path.split('?').next().unwrap().rsplit('/').next().unwrap();
        let response = &recorded.iter().rfind(|exchange| run_of(exchange) == run).unwrap()["response"];
        let here = format!("http://{}", request.header("host").unwrap());
        let location = response["headers"]["Location"].as_str().map(|url| here + url.split("8380").last().unwrap());
        let kind = if response["json"].is_null() { "text/plain" } else { "application/json" };
        let mut headers = vec![("content-type", kind.to_owned())];
        headers.extend(location.map(|url| ("location", url)));
        let body = match (&response["json"], response["raw"].as_str()) {
            (Value::Null, raw) => raw.unwrap_or_default().to_owned(),
            (json, _) => json.to_string(),
        };
        let status = response["status"].as_u64().unwrap().try_into().unwrap();
        Reply::Full { status, headers, body: body.into_bytes() }
    });
    let rest = RestClient::new(service.config().max_retries(0).build_with(|_| None).unwrap()).unwrap();
    let rest = rest.with_access_scope(AccessScope::Owned);
    for result in fixture["results"].as_array().unwrap() {
        let label = result["label"].as_str().unwrap();
        let asked = exchanges.iter().find(|exchange| exchange["seq"] == result["first_seq"]).unwrap();
        let before = service.requests().len();
        let outcome = rest.get_training_run(run_of(asked));
        compare(label, &service.requests()[before], asked);
        match (outcome, result.get("exception")) {
            (ours @ Ok(_), None) => same(ours, &result["value"]).unwrap(),
            (Err(error), Some(theirs)) => match theirs["status_code"].as_u64() {
                Some(status) => {
                    let kind = if status == 200 { ErrorKind::Decode } else { ErrorKind::Status };
                    assert_eq!((error.kind(), error.status().map(u64::from)), (kind, Some(status)), "{label}");
                    let detail = theirs["body"]["detail"].as_str().or(theirs["body"].as_str()).unwrap_or_default();
                    assert!(error.to_string().contains(detail), "{label}: {error}");
                }
                None => assert_eq!(error.kind(), ErrorKind::Decode, "{label}: {error}"),
            },
            (ours, theirs) => panic!("{label}: {ours:?}, {theirs:?}"),
        }
    }
}

//! Scenarios 50 and 51 of the Python client 0.4.1: the same calls, the same requests, the same responses and errors.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Mutex;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tinkex::types::CheckpointArchiveUrlResponse;
use tinkex::{Error, ErrorKind, RestClient, Result};

use crate::support::golden::fixture;
use crate::support::{RecordedRequest, Reply, Service, connect};

/// One call, and the comparison of its result with the fixture's.
type Call = (&'static str, fn(&RestClient, &Value) -> Result<()>);

/// Requests that differ on purpose: ids are percent-encoded as one segment.
const PATHS: [(&str, &str); 2] = [
    ("id with special characters", "training_runs/a%20b%2F%C3%BC%3Fx%3D1"),
    ("checkpoint id with special characters", "training_runs/run%3A1/checkpoints/weights/a%20b%252Fc"),
];

/// A service that replays the responses of these exchanges, in order.
pub(super) fn service(exchanges: &[Value]) -> Service {
    let responses: VecDeque<Value> = exchanges.iter().map(|exchange| exchange["response"].clone()).collect();
    let responses = Mutex::new(responses);
    Service::start(move |request| {
        let response =
            responses.lock().unwrap().pop_front().unwrap_or_else(|| panic!("not in the scenario: {request:?}"));
        let (body, kind) = match (&response["json"], &response["raw"]) {
            (Value::Null, Value::String(raw)) => (raw.clone(), "text/html"),
            (Value::Null, _) => (String::new(), "text/plain"),
            (json, _) => (json.to_string(), "application/json"),
        };
        let mut headers = vec![("content-type", kind.to_owned())];
        // The recording server had another address.
        let here = format!("http://{}", request.header("host").unwrap());
        for (theirs, ours) in [("Location", "location"), ("Expires", "expires")] {
            let value = response["headers"][theirs].as_str();
            headers.extend(value.map(|value| (ours, value.replace("http://127.0.0.1:8041", &here))));
        }
        let status = response["status"].as_u64().unwrap() as u16;
        Reply::Full { status, headers, body: body.into_bytes() }
    })
}

fn compare(label: &str, ours: &RecordedRequest, theirs: &Value) {
    let query = theirs["query"].as_str().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{query}", theirs["path"].as_str().unwrap().trim_start_matches("/api/v1/"));
    let expected = PATHS.iter().find(|(name, _)| *name == label).map_or(&*path, |(_, path)| path);
    assert_eq!((&*ours.method, &*ours.path), (theirs["method"].as_str().unwrap(), expected), "{label}");
    for name in ["accept", "content-type", "content-length", "x-stainless-retry-count"] {
        assert_eq!(ours.header(name), theirs["headers"][name].as_str(), "{label}: {name}");
    }
    let name = "x-idempotency-key";
    assert_eq!(ours.header(name).is_some(), theirs["headers"][name].is_string(), "{label}: {name}");
    assert_eq!(ours.header("x-api-key"), Some("tml-test-key"));
}

/// Replays a scenario from its second exchange on; the first creates the session.
fn play(rest: &RestClient, service: &Service, fixture: &Value, calls: &[Call], check: impl Fn(&str, &Value, &Error)) {
    let (results, exchanges) = (fixture["results"].as_array().unwrap(), fixture["exchanges"].as_array().unwrap());
    let labels: Vec<_> = results.iter().map(|result| result["label"].as_str().unwrap()).collect();
    assert_eq!(labels, calls.iter().map(|(label, _)| *label).collect::<Vec<_>>());
    for (result, (label, call)) in results.iter().zip(calls) {
        let before = service.requests().len();
        match call(rest, &result["value"]) {
            Ok(()) => assert!(result.get("exception").is_none(), "{label} fails in the fixture"),
            Err(error) => check(label, result.get("exception").unwrap_or_else(|| panic!("{label}: {error}")), &error),
        }
        let seen = service.requests().split_off(before);
        let (first, last) = (&result["first_seq"], &result["last_seq"]);
        let theirs: Vec<_> = exchanges.iter().filter(|e| e["seq"].as_u64() >= first.as_u64()).collect();
        let theirs: Vec<_> = theirs.into_iter().filter(|e| e["seq"].as_u64() <= last.as_u64()).collect();
        assert_eq!(seen.len(), theirs.len(), "{label}");
        seen.iter().zip(theirs).for_each(|(ours, theirs)| compare(label, ours, theirs));
    }
}

/// Compares a result with the fixture's, except for keys that the type does not have, and the format of times.
pub(super) fn same<T: DeserializeOwned + PartialEq + Debug>(ours: Result<T>, theirs: &Value) -> Result<()> {
    assert_eq!(ours?, serde_json::from_value(theirs.clone()).unwrap());
    Ok(())
}

const PATH: &str = "tinker://run-golden/weights/0001";

#[test]
fn scenario_50_every_method() {
    let fixture = fixture("50_rest_all");
    let service = service(fixture["exchanges"].as_array().unwrap());
    let client = connect(service.config());
    let calls: [Call; 15] = [
        ("get_training_run", |rest, value| same(rest.get_training_run("run-golden"), value)),
        ("get_training_run_by_tinker_path", |rest, value| same(rest.get_training_run_by_tinker_path(PATH), value)),
        ("list_training_runs default", |rest, value| same(rest.list_training_runs(20, 0), value)),
        ("list_training_runs", |rest, value| same(rest.list_training_runs(5, 10), value)),
        ("list_checkpoints", |rest, value| same(rest.list_checkpoints("run-golden"), value)),
        ("list_user_checkpoints default", |rest, value| same(rest.list_user_checkpoints(100, 0), value)),
        ("list_user_checkpoints", |rest, value| same(rest.list_user_checkpoints(1, 2), value)),
        ("delete_checkpoint", |rest, value| same(rest.delete_checkpoint("run-golden", "weights/0001"), value)),
        ("delete_checkpoint_from_tinker_path", |rest, value| {
            same(rest.delete_checkpoint_from_tinker_path("tinker://run-golden/sampler_weights/0002"), value)
        }),
        ("publish", |rest, value| same(rest.publish_checkpoint_from_tinker_path(PATH), value)),
        ("unpublish", |rest, value| same(rest.unpublish_checkpoint_from_tinker_path(PATH), value)),
        ("id with special characters", |rest, value| same(rest.get_training_run("a b/ü?x=1"), value)),
        ("checkpoint id with special characters", |rest, value| {
            same(rest.delete_checkpoint("run:1", "weights/a b%2Fc"), value)
        }),
        ("get_checkpoint_archive_url", |rest, value| {
            same(rest.get_checkpoint_archive_url("run-golden", "weights/0001"), value)
        }),
        ("get_checkpoint_archive_url_from_tinker_path", |rest, value| {
            same(rest.get_checkpoint_archive_url_from_tinker_path(PATH), value)
        }),
    ];
    play(&client.create_rest_client(), &service, &fixture, &calls, |label, theirs, ours| {
        assert_eq!(ours.status().map(u64::from), theirs["status_code"].as_u64(), "{label}: {ours}");
    });
}

#[test]
fn scenario_51_errors() {
    let fixture = fixture("51_rest_errors");
    let service = service(&fixture["exchanges"].as_array().unwrap()[1..]);
    let rest = RestClient::new(service.config().build_with(|_| None).unwrap()).unwrap();
    let calls: [Call; 18] = [
        ("400 json", |rest, value| same(rest.get_training_run("e400"), value)),
        ("401 json", |rest, value| same(rest.get_training_run("e401"), value)),
        ("403 json", |rest, value| same(rest.get_training_run("e403"), value)),
        ("404 json", |rest, value| same(rest.get_training_run("e404"), value)),
        ("410 json", |rest, value| same(rest.get_training_run("e410"), value)),
        ("418 json", |rest, value| same(rest.get_training_run("e418"), value)),
        ("422 json", |rest, value| same(rest.get_training_run("e422"), value)),
        ("404 text body", |rest, value| same(rest.get_training_run("text"), value)),
        ("404 empty body", |rest, value| same(rest.get_training_run("empty"), value)),
        ("200 invalid json", |rest, value| same(rest.get_training_run("badjson"), value)),
        ("200 html", |rest, value| same(rest.get_training_run("html"), value)),
        ("200 schema mismatch", |rest, value| same(rest.get_training_run("schema"), value)),
        ("200 unknown field", |rest, value| same(rest.get_training_run("extra"), value)),
        ("307 followed", |rest, value| same(rest.get_training_run("redir"), value)),
        ("archive 200", |rest, value| same(rest.get_checkpoint_archive_url("run-golden", "weights/0001"), value)),
        ("archive 302 without location", |rest, value| {
            same(rest.get_checkpoint_archive_url("run-golden", "weights/0001"), value)
        }),
        ("archive 302 bad expires (=> now+15min)", |rest, value| {
            let before = rest.config().clock().wall();
            let ours: CheckpointArchiveUrlResponse = rest.get_checkpoint_archive_url("run-golden", "weights/0001")?;
            assert_eq!(ours.url, value["url"].as_str().unwrap());
            let lifetime = ours.expires.system_time().duration_since(before).unwrap();
            assert!((900..960).contains(&lifetime.as_secs()), "{lifetime:?}");
            Ok(())
        }),
        // In the Python client it is the id of a model.
        ("empty model id", |rest, value| same(rest.get_training_run(""), value)),
    ];
    play(&rest, &service, &fixture, &calls, |label, theirs, ours| {
        let kind = match label {
            "200 invalid json" | "200 html" | "200 schema mismatch" | "archive 200" => ErrorKind::Decode,
            "empty model id" => ErrorKind::InvalidInput,
            _ => ErrorKind::Status,
        };
        assert_eq!(ours.kind(), kind, "{label}: {ours}");
        // For a response that is not JSON, the Python client keeps neither status nor body.
        if let Some(status) = theirs["status_code"].as_u64() {
            assert_eq!(ours.status().map(u64::from), Some(status), "{label}");
            let detail = theirs["body"]["detail"].as_str().or(theirs["body"].as_str()).unwrap_or_default();
            let text = if detail.starts_with('<') { ours.body().unwrap().to_owned() } else { ours.to_string() };
            assert!(text.contains(detail), "{label}: {ours}");
        }
    });
}

//! Requests that the Python client 0.4.1 does not have, and input that is refused before any request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use httpmock::Method::{DELETE, GET, POST};
use httpmock::MockServer;
use serde_json::{Value, json};
use tinkex::rest::CopyWeights;
use tinkex::types::{AuditEventType, BillingEventType, Timestamp};
use tinkex::{ConfigBuilder, ErrorKind, Limit, RestClient, Result};

use crate::support::mock::{self, anything, endpoint, respond};
use crate::support::{Reply, Service, connect, healthy_service};

type ByPath = fn(&RestClient, &str) -> Result<()>;
type ByIds = fn(&RestClient, &str, &str) -> Result<()>;

fn rest(config: ConfigBuilder) -> RestClient {
    RestClient::new(config.build_with(|_| None).unwrap()).unwrap()
}

#[test]
fn a_new_client_makes_no_request() {
    let server = MockServer::start();
    let anything = anything(&server);
    let rest = rest(mock::config(&server));
    drop(rest.clone());
    drop(rest.training_runs());
    anything.assert_calls(0);
}

#[test]
fn sessions_are_listed_and_read() {
    let server = MockServer::start();
    let list =
        respond(&server, GET, "sessions?limit=20&offset=40", |then| then.json_body(json!({"sessions": ["s-1"]})));
    let session = respond(&server, GET, "sessions/s%2F1", |then| {
        then.json_body(json!({"training_run_ids": ["run-1"], "sampler_ids": ["s/1:0"]}))
    });
    let rest = rest(mock::config(&server));
    assert_eq!(rest.list_sessions(20, 40).unwrap().sessions, ["s-1"]);
    let found = rest.get_session("s/1").unwrap();
    assert_eq!((found.training_run_ids, found.sampler_ids), (vec!["run-1".to_owned()], vec!["s/1:0".to_owned()]));
    list.assert();
    session.assert();
}

#[test]
fn a_sampler_is_read_by_its_id() {
    let server = MockServer::start();
    let sampler = respond(&server, GET, "samplers/s%2F1%3A0", |then| {
        then.json_body(json!({"sampler_id": "s/1:0", "base_model": "m", "model_path": null}))
    });
    assert_eq!(rest(mock::config(&server)).get_sampler("s/1:0").unwrap().base_model, "m");
    sampler.assert();
}

#[test]
fn weights_info_is_posted_with_the_path() {
    let server = MockServer::start();
    let weights = server.mock(|when, then| {
        endpoint(when, POST, "weights_info").json_body(json!({"tinker_path": "tinker://model-1/0001"}));
        then.json_body(json!({"base_model": "m", "is_lora": true, "lora_rank": 8}));
    });
    let info = rest(mock::config(&server)).get_weights_info_by_tinker_path("tinker://model-1/0001").unwrap();
    assert_eq!((info.is_lora, info.lora_rank), (true, Some(8)));
    weights.assert();
}

#[test]
fn publishing_works_by_id() {
    let server = MockServer::start();
    let path = "training_runs/run%2F1/checkpoints/sampler_weights/%2E%2E/publish";
    let publish = respond(&server, POST, path, |then| then.status(204));
    let unpublish = respond(&server, DELETE, path, |then| then.status(204));
    let rest = rest(mock::config(&server));
    rest.publish_checkpoint("run/1", "sampler_weights/..").unwrap();
    assert_eq!((publish.calls(), unpublish.calls()), (1, 0));
    rest.unpublish_checkpoint("run/1", "sampler_weights/..").unwrap();
    assert_eq!((publish.calls(), unpublish.calls()), (1, 1));
}

#[test]
fn invalid_ids_are_refused_before_any_request() {
    let server = MockServer::start();
    let anything = anything(&server);
    let rest = rest(mock::config(&server));
    let by_path: [(&str, ByPath); 5] = [
        ("get_training_run_by_tinker_path", |rest, path| rest.get_training_run_by_tinker_path(path).map(drop)),
        ("get_checkpoint_archive_url_from_tinker_path", |rest, path| {
            rest.get_checkpoint_archive_url_from_tinker_path(path).map(drop)
        }),
        ("delete_checkpoint_from_tinker_path", RestClient::delete_checkpoint_from_tinker_path),
        ("publish_checkpoint_from_tinker_path", RestClient::publish_checkpoint_from_tinker_path),
        ("unpublish_checkpoint_from_tinker_path", RestClient::unpublish_checkpoint_from_tinker_path),
    ];
    let bad = ["", "run/weights/a", "tinker://run", "tinker://run/weights/a/b", "tinker://run/other/a"];
    for (operation, call) in by_path {
        for path in bad.into_iter().chain(["tinker:///weights/a", "tinker://run/weights/"]) {
            let error = call(&rest, path).unwrap_err();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, Some(operation)), "{path}");
        }
    }
    let by_ids: [ByIds; 4] = [
        |rest, run, id| rest.get_checkpoint_archive_url(run, id).map(drop),
        RestClient::delete_checkpoint,
        RestClient::publish_checkpoint,
        RestClient::unpublish_checkpoint,
    ];
    for call in by_ids {
        for (run, id) in [("", "weights/a"), ("run", ""), ("run", "a"), ("run", "/a"), ("run", "weights/")] {
            assert_eq!(call(&rest, run, id).unwrap_err().kind(), ErrorKind::InvalidInput, "{run:?} {id:?}");
        }
    }
    for result in [
        rest.get_training_run("").map(drop),
        rest.list_checkpoints("").map(drop),
        rest.get_session("").map(drop),
        rest.get_sampler("").map(drop),
        rest.get_weights_info_by_tinker_path("/home/me").map(drop),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    anything.assert_calls(0);
}

#[test]
fn an_unusable_archive_url_shows_no_signature() {
    let server = MockServer::start();
    let archive = respond(&server, GET, "training_runs/run/checkpoints/weights/a/archive", |then| {
        then.status(302).header("location", "ftp://storage/a?sig=hidden")
    });
    let error = rest(mock::config(&server)).get_checkpoint_archive_url("run", "weights/a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(!format!("{error} {error:?} {:?}", error.header("location")).contains("hidden"));
    archive.assert();
}

/// In real time, since it is a timeout of the socket.
#[test]
fn the_clients_timeout_ends_a_call() {
    let service = Service::start(|_| Reply::Silence);
    let rest = rest(service.config());
    let hasty = rest.with_timeout_operation(Some(Duration::from_millis(100)));
    let error = hasty.get_training_run("run").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
    let error = hasty.training_runs().next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
}

#[test]
fn a_client_of_a_session_ends_with_it() {
    let service = Service::start(healthy_service);
    let client = connect(service.config());
    let rest = client.create_rest_client();
    client.close(Duration::from_secs(30));
    assert_eq!(rest.get_training_run("run").unwrap_err().kind(), ErrorKind::Closed);
}

/// The attempts of one request: a lost connection, an overloaded service, and a success.
fn unreliable(success: Value) -> Service {
    let attempts = AtomicUsize::new(0);
    Service::start(move |_| match attempts.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::Close,
        1 => Reply::Json(503, json!({"detail": "busy"})),
        _ => Reply::ok(success.clone()),
    })
}

#[test]
fn a_copy_keeps_its_key_over_all_attempts() {
    let service = unreliable(json!({"tinker_path": "tinker://copied/weights/a", "later": 1}));
    let rest = rest(service.config().retry_base(Duration::from_millis(1)).project_id("p-1"));
    let copy = CopyWeights::new("other://model/a").ttl(Duration::from_secs(7200)).weights_access_token("tok-secret");
    assert!(!format!("{copy:?}").contains("tok-secret"));
    assert_eq!(rest.copy_weights(&copy).unwrap(), "tinker://copied/weights/a");
    let requests = service.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        assert_eq!((&*request.method, &*request.path), ("POST", "copy_weights"));
        assert_eq!(
            request.body,
            json!({"destination_project_id": "p-1", "source_path": "other://model/a", "ttl_seconds": 7200})
        );
        assert_eq!(request.header("x-tinker-weights-access-token"), Some("tok-secret"));
        assert_eq!(request.header("x-idempotency-key"), requests[0].header("x-idempotency-key"));
    }
    // A project of its own wins.
    let service = unreliable(json!({"tinker_path": "p"}));
    let own = CopyWeights::new("other://model/a").destination_project_id("p-2");
    self::rest(service.config().retry_base(Duration::from_millis(1)).project_id("p-1")).copy_weights(&own).unwrap();
    let request = service.requests().pop().unwrap();
    assert_eq!(request.body, json!({"destination_project_id": "p-2", "source_path": "other://model/a"}));
    assert_eq!(request.header("x-tinker-weights-access-token"), None);
}

#[test]
fn a_lifetime_is_put_and_retried() {
    let service = unreliable(json!(null));
    let rest = rest(service.config().retry_base(Duration::from_millis(1)));
    let week = Some(Duration::from_secs(7 * 24 * 3600));
    rest.set_checkpoint_ttl("run/1", "external_weights/a b", week).unwrap();
    let requests = service.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        let path = "training_runs/run%2F1/checkpoints/external_weights/a%20b/ttl";
        assert_eq!((&*request.method, &*request.path), ("PUT", path));
        assert_eq!(request.body, json!({"ttl_seconds": 604_800}));
        assert_eq!(request.header("x-idempotency-key"), requests[0].header("x-idempotency-key"));
    }
}

#[test]
fn invalid_changes_are_refused_before_any_request() {
    let server = MockServer::start();
    let anything = anything(&server);
    let rest = rest(mock::config(&server));
    let path = "tinker://run/weights/a";
    let hour = Duration::from_secs(3600);
    for (number, result) in [
        rest.set_checkpoint_ttl("run", "weights/a", Some(hour / 2)),
        rest.set_checkpoint_ttl_from_tinker_path(path, Some(hour * 24 * 3651)),
        rest.set_checkpoint_ttl_from_tinker_path("tinker://model/a", None),
        rest.assign_session_project("", "p"),
        rest.assign_session_project("s", ""),
        rest.list_training_runs_of_project("", 20, 0).map(drop),
        rest.get_external_weights_urls(path).map(drop),
        rest.copy_weights(&CopyWeights::new(path)).map(drop),
        rest.copy_weights(&CopyWeights::new("/home/me").destination_project_id("p")).map(drop),
        rest.copy_weights(&CopyWeights::new(path).destination_project_id("p").ttl(hour / 2)).map(drop),
        rest.copy_weights(&CopyWeights::new(path).destination_project_id("p").weights_access_token("a\nb")).map(drop),
        rest.get_audit_log(&AuditEventType::All, Some("yesterday")).map(drop),
        rest.get_audit_log(&AuditEventType::All, Some("1700000000")).map(drop),
        rest.get_current_checkpoint_storage_usage(Some("")).map(drop),
        rest.export_session_trace("", hour).map(drop),
    ]
    .into_iter()
    .enumerate()
    {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{number}: {error}");
        assert!(error.operation().is_some(), "{number}");
    }
    anything.assert_calls(0);
}

#[test]
fn unknown_kinds_are_no_error() {
    let server = MockServer::start();
    let event = json!({
        "bucket_start": "2025-11-01T12:00:00Z", "bucket_end": "2025-11-01T13:00:00Z",
        "event_info": {"type": "dreaming", "dreams": 7}, "later": [],
    });
    let audit = json!({"entries": [{"timestamp": "2025-11-01T12:00:00Z", "event": "later", "later": 1}], "later": 1});
    respond(&server, GET, "audit?event_type=dreams", |then| then.json_body(audit));
    let query = "starting_on=2025-11-01T00%3A00%3A00Z&ending_before=2025-11-02T00%3A00%3A00Z";
    respond(&server, GET, &format!("billing/usage/events?{query}"), |then| then.json_body(json!({"data": [event]})));
    let rest = rest(mock::config(&server));
    assert_eq!(rest.get_audit_log(&"dreams".into(), None).unwrap().entries[0].event, "later");
    let [start, end] = ["2025-11-01", "2025-11-02"].map(|day| day.parse::<Timestamp>().unwrap());
    let usage = rest.get_billing_usage(&start, &end).unwrap();
    assert_eq!(usage.data[0].event_info.event_type, BillingEventType::from("dreaming"));
}

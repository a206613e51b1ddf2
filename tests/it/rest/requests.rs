//! Requests that the Python client 0.4.1 does not have, and input that is refused before any request.

use std::time::Duration;

use serde_json::json;
use tinkex::{ErrorKind, Limit, RestClient, Result};

use crate::support::{Reply, Service, connect, healthy_service};

type ByPath = fn(&RestClient, &str) -> Result<()>;
type ByIds = fn(&RestClient, &str, &str) -> Result<()>;

fn rest(service: &Service) -> RestClient {
    RestClient::new(service.config().build().unwrap()).unwrap()
}

#[test]
fn a_new_client_makes_no_request() {
    let service = Service::start(healthy_service);
    let rest = rest(&service);
    drop(rest.clone());
    drop(rest.training_runs());
    assert_eq!(service.requests().len(), 0);
}

#[test]
fn sessions_samplers_and_weights_are_requested() {
    let service = Service::start(|request| {
        Reply::ok(match &*request.path {
            "sessions?limit=20&offset=40" => json!({"sessions": ["s-1"]}),
            "sessions/s%2F1" => json!({"training_run_ids": ["run-1"], "sampler_ids": ["s/1:0"]}),
            "samplers/s%2F1%3A0" => json!({"sampler_id": "s/1:0", "base_model": "m", "model_path": null}),
            "weights_info" => json!({"base_model": "m", "is_lora": true, "lora_rank": 8}),
            other => panic!("{other}"),
        })
    });
    let rest = rest(&service);
    assert_eq!(rest.list_sessions(20, 40).unwrap().sessions, ["s-1"]);
    let session = rest.get_session("s/1").unwrap();
    assert_eq!(
        (session.training_run_ids, &*session.sampler_ids),
        (vec!["run-1".to_owned()], &["s/1:0".to_owned()][..])
    );
    assert_eq!(rest.get_sampler(&session.sampler_ids[0]).unwrap().base_model, "m");
    let info = rest.get_weights_info_by_tinker_path("tinker://model-1/0001").unwrap();
    assert_eq!((info.is_lora, info.lora_rank), (true, Some(8)));
    let seen = service.requests();
    assert_eq!((&*seen[3].method, &seen[3].body), ("POST", &json!({"tinker_path": "tinker://model-1/0001"})));
}

#[test]
fn publishing_works_by_id_and_by_path() {
    let service = Service::start(|_| Reply::Json(204, json!(null)));
    let rest = rest(&service);
    rest.publish_checkpoint("run/1", "sampler_weights/..").unwrap();
    rest.unpublish_checkpoint("run/1", "sampler_weights/..").unwrap();
    let path = "training_runs/run%2F1/checkpoints/sampler_weights/%2E%2E/publish";
    let seen: Vec<_> = service.requests().into_iter().map(|request| (request.method, request.path)).collect();
    assert_eq!(seen, [("POST".into(), path.into()), ("DELETE".into(), path.into())]);
}

#[test]
fn invalid_ids_are_refused_before_any_request() {
    let service = Service::start(healthy_service);
    let rest = rest(&service);
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
    assert_eq!(service.requests().len(), 0);
}

#[test]
fn an_unusable_archive_url_shows_no_signature() {
    let service =
        Service::start(|_| Reply::with_headers(302, &[("location", "ftp://storage/a?sig=hidden")], &json!(null)));
    let error = rest(&service).get_checkpoint_archive_url("run", "weights/a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    assert!(!format!("{error} {error:?} {:?}", error.header("location")).contains("hidden"));
}

/// In real time, since it is a timeout of the socket.
#[test]
fn the_clients_timeout_ends_a_call() {
    let service = Service::start(|_| Reply::Silence);
    let rest = rest(&service);
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

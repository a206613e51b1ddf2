//! Lists of stored data that lack something.

use tinkex::{RestClient, ServiceClient};

use super::*;

fn rest(path: &'static str, pages: Vec<Value>) -> (Service, RestClient) {
    let pages = Mutex::new(pages.into_iter());
    let service = Service::start(move |request| match request.path.split('?').next() {
        Some(found) if found == path => Reply::ok(pages.lock().unwrap().next().unwrap()),
        _ => healthy_service(request),
    });
    let client: ServiceClient = connect(service.config());
    (service, client.create_rest_client())
}

fn run(number: u32) -> Value {
    json!({
        "training_run_id": format!("run-{number}"), "base_model": "base", "model_owner": "me", "is_lora": true,
        "corrupted": false, "lora_rank": 8, "last_request_time": "2026-01-01T00:00:00Z", "last_checkpoint": null,
        "last_sampler_checkpoint": null,
    })
}

fn page(runs: Vec<Value>, total: u64) -> Value {
    json!({"training_runs": runs, "cursor": {"offset": 0, "limit": 2, "total_count": total}})
}

#[test]
fn a_list_that_ends_early_is_an_error() {
    for (pages, read, why) in [
        (vec![page(vec![], 3)], 0, "the page after 0 of 3 items"),
        (vec![page(vec![run(1), run(2)], 3), page(vec![], 3)], 2, "the page after 2 of 3 items"),
    ] {
        let (_service, rest) = rest("training_runs", pages);
        let mut runs = rest.training_runs().page_size(2);
        for _ in 0..read {
            runs.next().unwrap().unwrap();
        }
        let error = runs.next().unwrap().unwrap_err();
        assert!(error.kind() == ErrorKind::Decode && error.to_string().contains(why), "{error}");
        assert!(error.hint().is_some() && runs.next().is_none());
    }
    // Runs were deleted meanwhile.
    let (_service, rest) = rest("training_runs", vec![page(vec![run(1), run(2)], 3), page(vec![], 2)]);
    assert_eq!(rest.training_runs().page_size(2).map(Result::unwrap).count(), 2);
}

#[test]
fn a_list_without_its_items_is_an_error() {
    for (path, body) in [
        ("training_runs", json!({"cursor": {"offset": 0, "limit": 2, "total_count": 0}})),
        ("training_runs", json!({"training_runs": null, "cursor": {"offset": 0, "limit": 2, "total_count": 0}})),
        ("training_runs", json!({})),
        ("checkpoints", json!({"cursor": {"offset": 0, "limit": 2, "total_count": 0}})),
        ("sessions", json!({})),
        ("training_runs/run-1/checkpoints", json!({})),
    ] {
        let (_service, rest) = rest(path, vec![body.clone()]);
        let result = match path {
            "training_runs" => rest.list_training_runs(2, 0).map(drop),
            "checkpoints" => rest.list_user_checkpoints(2, 0).map(drop),
            "sessions" => rest.list_sessions(2, 0).map(drop),
            _ => rest.list_checkpoints("run-1").map(drop),
        };
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Decode, Some(200)), "{path} {body}: {error}");
    }
}

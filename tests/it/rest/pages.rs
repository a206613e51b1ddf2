//! Lists that are fetched page by page.

use serde_json::{Value, json};
use tinkex::{ErrorKind, RestClient};

use crate::support::{RecordedRequest, Reply, Service};

/// `limit` and `offset` of a request.
fn page(request: &RecordedRequest) -> (u64, u64) {
    let fields: Vec<_> = form_urlencoded::parse(request.path.split_once('?').unwrap().1.as_bytes()).collect();
    let number = |name| fields.iter().find(|(key, _)| key == name).unwrap().1.parse().unwrap();
    (number("limit"), number("offset"))
}

fn run(number: u64) -> Value {
    json!({
        "training_run_id": format!("run-{number}"), "base_model": "m", "model_owner": "me", "is_lora": true,
        "last_request_time": "2025-11-01T10:00:00Z",
    })
}

fn checkpoint(number: u64) -> Value {
    json!({
        "checkpoint_id": format!("weights/{number}"), "checkpoint_type": "training", "time": "2025-11-01T10:00:00Z",
        "tinker_path": format!("tinker://run/weights/{number}"),
    })
}

/// A service with this number of runs, checkpoints and sessions.
fn service(total: u64) -> Service {
    Service::start(move |request| {
        let (limit, offset) = page(request);
        let numbers = offset.min(total)..(offset + limit).min(total);
        let cursor = json!({"offset": offset, "limit": limit, "total_count": total});
        Reply::ok(match request.path.split('?').next().unwrap() {
            "training_runs" => json!({"training_runs": numbers.map(run).collect::<Value>(), "cursor": cursor}),
            "checkpoints" => json!({"checkpoints": numbers.map(checkpoint).collect::<Value>(), "cursor": cursor}),
            "sessions" => json!({"sessions": numbers.map(|n| format!("s-{n}")).collect::<Value>()}),
            other => panic!("{other}"),
        })
    })
}

fn rest(service: &Service) -> RestClient {
    RestClient::new(service.config().max_retries(0).build().unwrap()).unwrap()
}

fn requested_pages(service: &Service) -> Vec<(u64, u64)> {
    service.requests().iter().map(page).collect()
}

#[test]
fn a_list_is_fetched_while_it_is_read() {
    let service = service(7);
    let mut runs = rest(&service).training_runs().page_size(3);
    assert_eq!((requested_pages(&service), runs.total_count()), (vec![], None));
    for number in 0..7 {
        assert_eq!(runs.next().unwrap().unwrap().training_run_id, format!("run-{number}"));
        assert_eq!(requested_pages(&service).len(), number / 3 + 1);
        assert_eq!(runs.total_count(), Some(7));
    }
    assert!(runs.next().is_none() && runs.next().is_none());
    assert_eq!(requested_pages(&service), [(3, 0), (3, 3), (3, 6)]);
}

#[test]
fn no_page_is_requested_before_it_is_needed() {
    let service = service(300);
    let rest = rest(&service);
    let ids: Vec<_> = rest.user_checkpoints().take(2).map(|checkpoint| checkpoint.unwrap().checkpoint_id).collect();
    assert_eq!(ids, ["weights/0", "weights/1"]);
    assert_eq!(rest.user_checkpoints().limit(150).count(), 150);
    assert_eq!(rest.user_checkpoints().limit(0).count(), 0);
    assert_eq!(requested_pages(&service), [(100, 0), (100, 0), (50, 100)]);
}

#[test]
fn a_partial_page_ends_without_a_total() {
    let service = service(5);
    let sessions: Vec<_> = rest(&service).sessions().page_size(2).map(Result::unwrap).collect();
    assert_eq!(sessions, ["s-0", "s-1", "s-2", "s-3", "s-4"]);
    assert_eq!(requested_pages(&service), [(2, 0), (2, 2), (2, 4)]);
}

#[test]
fn a_repeated_page_ends_the_list() {
    let service = Service::start(|_| Reply::ok(json!({"sessions": ["s-0", "s-1"]})));
    let sessions: Vec<_> = rest(&service).sessions().page_size(2).map(Result::unwrap).collect();
    assert_eq!(sessions, ["s-0", "s-1"]);
}

#[test]
fn a_failed_page_ends_the_list() {
    let service = Service::start(|request| match page(request) {
        (_, 0) => {
            let cursor = json!({"offset": 0, "limit": 1, "total_count": 3});
            Reply::ok(json!({"training_runs": [run(0)], "cursor": cursor}))
        }
        _ => Reply::Json(500, json!({"detail": "down"})),
    });
    let mut runs = rest(&service).training_runs().page_size(1);
    assert!(runs.next().unwrap().is_ok());
    assert_eq!(runs.next().unwrap().unwrap_err().kind(), ErrorKind::Status);
    assert!(runs.next().is_none());
    assert_eq!(service.requests().len(), 2);
}

#[test]
fn checkpoints_without_a_cursor_are_complete() {
    let service = Service::start(|_| Reply::ok(json!({"checkpoints": [checkpoint(0), checkpoint(1)]})));
    assert_eq!(rest(&service).user_checkpoints().page_size(2).count(), 2);
    assert_eq!(service.requests().len(), 1);
}

//! Lists that are fetched page by page.

use std::ops::Range;

use httpmock::Method::GET;
use httpmock::{Mock, MockServer};
use serde_json::{Value, json};
use tinkex::{ErrorKind, RestClient};

use crate::support::mock::{self, anything, respond};

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

fn sessions(numbers: Range<u64>) -> Value {
    json!({"sessions": numbers.map(|number| format!("s-{number}")).collect::<Value>()})
}

fn runs(numbers: Range<u64>, total: u64) -> Value {
    json!({"training_runs": numbers.map(run).collect::<Value>(), "cursor": cursor(total)})
}

fn checkpoints(numbers: Range<u64>, total: u64) -> Value {
    json!({"checkpoints": numbers.map(checkpoint).collect::<Value>(), "cursor": cursor(total)})
}

fn cursor(total: u64) -> Value {
    json!({"offset": 0, "limit": 0, "total_count": total})
}

/// A page of a list, by its path and query.
fn page<'a>(server: &'a MockServer, path: &str, body: Value) -> Mock<'a> {
    respond(server, GET, path, |then| then.json_body(body))
}

fn rest(server: &MockServer) -> RestClient {
    RestClient::new(mock::config(server).max_retries(0).build_with(|_| None).unwrap()).unwrap()
}

#[test]
fn a_list_is_fetched_while_it_is_read() {
    let server = MockServer::start();
    let pages = [
        page(&server, "training_runs?limit=3&offset=0", runs(0..3, 7)),
        page(&server, "training_runs?limit=3&offset=3", runs(3..6, 7)),
        page(&server, "training_runs?limit=3&offset=6", runs(6..7, 7)),
    ];
    let anything = anything(&server);
    let calls = || pages.iter().map(Mock::calls).collect::<Vec<_>>();
    let mut runs = rest(&server).training_runs().page_size(3);
    assert_eq!((calls(), runs.total_count()), (vec![0, 0, 0], None));
    for number in 0..7 {
        assert_eq!(runs.next().unwrap().unwrap().training_run_id, format!("run-{number}"));
        let expected: Vec<usize> = (0..3).map(|page| usize::from(page <= number / 3)).collect();
        assert_eq!(calls(), expected);
        assert_eq!(runs.total_count(), Some(7));
    }
    assert!(runs.next().is_none() && runs.next().is_none());
    assert_eq!(calls(), [1, 1, 1]);
    anything.assert_calls(0);
}

#[test]
fn no_page_is_requested_before_it_is_needed() {
    let server = MockServer::start();
    let full = page(&server, "checkpoints?limit=100&offset=0", checkpoints(0..100, 300));
    let rest_of_150 = page(&server, "checkpoints?limit=50&offset=100", checkpoints(100..150, 300));
    let anything = anything(&server);
    let rest = rest(&server);
    let ids: Vec<_> = rest.user_checkpoints().take(2).map(|checkpoint| checkpoint.unwrap().checkpoint_id).collect();
    assert_eq!(ids, ["weights/0", "weights/1"]);
    full.assert_calls(1);
    assert_eq!(rest.user_checkpoints().limit(150).count(), 150);
    assert_eq!(rest.user_checkpoints().limit(0).count(), 0);
    full.assert_calls(2);
    rest_of_150.assert_calls(1);
    anything.assert_calls(0);
}

#[test]
fn a_partial_page_ends_without_a_total() {
    let server = MockServer::start();
    let pages = [
        page(&server, "sessions?limit=2&offset=0", sessions(0..2)),
        page(&server, "sessions?limit=2&offset=2", sessions(2..4)),
        page(&server, "sessions?limit=2&offset=4", sessions(4..5)),
    ];
    let anything = anything(&server);
    let found: Vec<_> = rest(&server).sessions().page_size(2).map(Result::unwrap).collect();
    assert_eq!(found, ["s-0", "s-1", "s-2", "s-3", "s-4"]);
    pages.iter().for_each(Mock::assert);
    anything.assert_calls(0);
}

#[test]
fn a_repeated_page_ends_the_list() {
    let server = MockServer::start();
    let pages = [
        page(&server, "sessions?limit=2&offset=0", sessions(0..2)),
        page(&server, "sessions?limit=2&offset=2", sessions(0..2)),
    ];
    let anything = anything(&server);
    let found: Vec<_> = rest(&server).sessions().page_size(2).map(Result::unwrap).collect();
    assert_eq!(found, ["s-0", "s-1"]);
    pages.iter().for_each(Mock::assert);
    anything.assert_calls(0);
}

#[test]
fn a_failed_page_ends_the_list() {
    let server = MockServer::start();
    let first = page(&server, "training_runs?limit=1&offset=0", runs(0..1, 3));
    let second = respond(&server, GET, "training_runs?limit=1&offset=1", |then| {
        then.status(500).json_body(json!({"detail": "down"}))
    });
    let anything = anything(&server);
    let mut runs = rest(&server).training_runs().page_size(1);
    assert!(runs.next().unwrap().is_ok());
    assert_eq!(runs.next().unwrap().unwrap_err().kind(), ErrorKind::Status);
    assert!(runs.next().is_none());
    first.assert();
    second.assert();
    anything.assert_calls(0);
}

#[test]
fn checkpoints_without_a_cursor_are_complete() {
    let server = MockServer::start();
    let only = page(&server, "checkpoints?limit=2&offset=0", json!({"checkpoints": [checkpoint(0), checkpoint(1)]}));
    let anything = anything(&server);
    assert_eq!(rest(&server).user_checkpoints().page_size(2).count(), 2);
    only.assert();
    anything.assert_calls(0);
}

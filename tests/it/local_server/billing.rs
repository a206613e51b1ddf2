//! What the server charges for: usage by hour, and current storage.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tinkex::local::LocalServer;
use tinkex::types::Timestamp;

use super::client::{Client, forward_backward, sample, save};

const BASE: &str = "tinkex/bytes-tiny";

/// The usage of a key in the hours around now, which may be two.
fn usage(client: &mut Client) -> Value {
    let hour = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() / 3600;
    let [from, to] = [hour - 1, hour + 2]
        .map(|hour| Timestamp::from(SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600)).to_string());
    let response = client.get(&format!("billing/usage/events?starting_on={from}&ending_before={to}"));
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// The total of a number of all events of a kind.
fn total(usage: &Value, kind: &str, number: &str) -> f64 {
    let events = usage["data"].as_array().unwrap().iter().filter(|event| event["event_info"]["type"] == kind);
    events.map(|event| event["event_info"][number].as_f64().or(event[number].as_f64()).unwrap()).sum()
}

#[test]
fn usage_is_what_was_done() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    // Five letters are four tokens to predict.
    client.call("forward_backward", forward_backward(&run, 1, "hello"));
    client.call("forward", json!({ "forward_input": super::client::batch("abc"), "model_id": run, "seq_id": 2 }));
    client.call("save_weights", save(&run, 3, "one"));
    let sampler = client.sampler(BASE);
    client
        .call("asample", sample(&sampler, 1, "0123456789", json!({ "max_tokens": 3, "temperature": 0.0, "stop": [] })));

    let usage = usage(&mut client);
    assert_eq!(total(&usage, "training", "token_count"), 6.0);
    assert_eq!(total(&usage, "sampling_prefill", "token_count"), 10.0);
    assert!((1.0..=3.0).contains(&total(&usage, "sampling_sample", "token_count")));
    assert_eq!(total(&usage, "checkpoint", "count"), 1.0);
    assert!(total(&usage, "storage", "gigabyte_hours") >= 0.0);
    let sessions: Vec<_> = usage["sessions"].as_object().unwrap().keys().collect();
    assert_eq!(sessions, ["session-1", "session-2"]);
    for event in usage["data"].as_array().unwrap() {
        assert_eq!((&event["base_model"], &event["project_id"]), (&json!(BASE), &json!("default")));
    }
    assert_eq!(super::billing::usage(&mut Client::new(&server).key("tml-other"))["data"], json!([]));
}

#[test]
fn the_cost_of_tokens_is_their_rate() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    client.call("forward_backward", forward_backward(&run, 1, "hello"));
    let usage = usage(&mut client);
    let event = &usage["data"][0];
    let rate = event["effective_rate_usd_per_million_tokens"].as_f64().unwrap();
    assert!((event["estimated_cost_usd"].as_f64().unwrap() - rate * 4.0 / 1e6).abs() < 1e-15);
}

#[test]
fn failed_and_repeated_requests_cost_nothing() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    for _ in 0..3 {
        client.call("forward_backward", forward_backward(&run, 1, "hello"));
    }
    assert_eq!(
        client.call("load_weights", json!({ "model_id": run, "path": "tinker://x/weights/y", "seq_id": 2 }))["category"],
        "user"
    );
    assert_eq!(total(&usage(&mut client), "training", "token_count"), 4.0);
}

#[test]
fn storage_of_a_deleted_checkpoint_was_used() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    client.call("save_weights", save(&run, 1, "one"));
    let storage = |client: &mut Client| client.get("billing/usage/checkpoints/current").json();
    let stored = storage(&mut client);
    let item = &stored["data"][0];
    assert_eq!((&item["checkpoint_count"], &item["project_id"]), (&json!(1), &json!("default")));
    let gigabytes = item["size_bytes"].as_f64().unwrap() / 1e9;
    assert_eq!(item["size_gigabytes"], gigabytes);
    let rate = stored["effective_rate_usd_per_gigabyte_month"].as_f64().unwrap();
    assert_eq!(item["estimated_monthly_cost_usd"], gigabytes * rate);
    assert_eq!(client.get("billing/usage/checkpoints/current?project_id=p-9").json()["data"], json!([]));

    let before = total(&usage(&mut client), "storage", "gigabyte_hours");
    assert_eq!(client.request("DELETE", &format!("training_runs/{run}/checkpoints/weights/one")).status, 204);
    assert_eq!(storage(&mut client)["data"], json!([]));
    assert!(total(&usage(&mut client), "storage", "gigabyte_hours") >= before);
}

#[test]
fn periods_other_than_whole_hours_are_refused() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    for (query, status, reason) in [
        ("starting_on=2025-11-01T00:30:00Z&ending_before=2025-11-01T01:00:00Z", 400, "whole hour"),
        ("starting_on=2025-11-01&ending_before=2025-11-16", 400, "14 days"),
        ("starting_on=2025-11-02&ending_before=2025-11-01", 400, "not after"),
        ("starting_on=2999-11-01&ending_before=2999-11-02", 400, "in the future"),
        ("starting_on=2025-11-01", 422, "ending_before"),
        ("starting_on=x&ending_before=2025-11-01", 422, "starting_on"),
        ("starting_on=%zz&ending_before=2025-11-01", 422, "starting_on"),
    ] {
        let response = client.get(&format!("billing/usage/events?{query}"));
        assert_eq!(response.status, status, "{query}");
        assert!(String::from_utf8_lossy(&response.body).contains(reason), "{response:?}");
    }
    let empty = client
        .get("billing/usage/events?starting_on=2025-11-01T00%3A00%3A00%2B00:00&ending_before=2025-11-15T00:00:00Z");
    assert_eq!(empty.json(), json!({ "data": [], "sessions": {}, "cost_data_through": null }));
}

#[test]
fn usage_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = || LocalServer::builder().data_dir(directory.path()).start().unwrap();
    let server = start();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    client.call("forward_backward", forward_backward(&run, 1, "hello"));
    drop(server);
    assert_eq!(total(&usage(&mut Client::new(&start())), "training", "token_count"), 4.0);
}

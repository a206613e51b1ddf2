//! Samples that are polled together, sizes before results, cancellation.

use std::time::Duration;

use serde_json::{Value, json};
use tinkex::local::{Faults, LocalServer, LocalServerBuilder};

use super::client::{Client, PATIENCE, forward_backward, sample};
use super::models::Gated;

const BASE: &str = "tinkex/bytes-tiny";

fn start(builder: LocalServerBuilder) -> (LocalServer, Client, String) {
    let server = builder.start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler(BASE);
    (server, client, sampler)
}

fn poll(sampler: &str, clone: u64, cursor: u64, timeout: Option<f64>, retrieved: &[&str]) -> Value {
    let target = json!({ "type": "sampling_session", "sampling_session_id": sampler, "cloned_sampler_id": clone });
    let mut body = json!({ "target": target, "prev_cursor": cursor, "retrieved_request_ids": retrieved });
    if let Some(timeout) = timeout {
        body["timeout"] = json!(timeout);
    }
    body
}

/// Starts a sample of one token, or of all that fit without `max_tokens`.
fn ask(client: &mut Client, sampler: &str, seq: u64, max_tokens: Option<u64>) -> String {
    client.promise("asample", sample(sampler, seq, "ab", json!({ "max_tokens": max_tokens, "seed": 1, "stop": [] })))
}

fn ids(response: &Value) -> Vec<&str> {
    let completions = response["completions"].as_array().unwrap().iter();
    completions.map(|completion| completion["request_id"].as_str().unwrap()).collect()
}

#[test]
fn finished_samples_are_told_once_per_cursor() {
    let (_server, mut client, sampler) = start(LocalServer::builder());
    let first = ask(&mut client, &sampler, 0, Some(1));
    let response = client.ok("retrieve_futures", poll(&sampler, 0, 0, None, &[]));
    assert_eq!(ids(&response), [&*first]);
    assert_eq!(response["completions"][0]["state"], "finished");
    assert!(response["completions"][0]["response_payload_uncompressed_size"].as_u64() > Some(0));
    let cursor = response["cursor"].as_u64().unwrap();
    assert!(cursor > 0);

    // The same cursor gets the same completions again, a later one nothing.
    assert_eq!(client.ok("retrieve_futures", poll(&sampler, 0, 0, Some(0.0), &[])), response);
    let nothing = json!({ "completions": [], "cursor": cursor });
    assert_eq!(client.ok("retrieve_futures", poll(&sampler, 0, cursor, Some(0.0), &[])), nothing);
    // Other clients of the session have other completions.
    let nothing = json!({ "completions": [], "cursor": 0 });
    assert_eq!(client.ok("retrieve_futures", poll(&sampler, 1, 0, Some(0.0), &[])), nothing);
    let of_clone = ask(&mut client, &sampler, 1_000_000_000, Some(1));
    let response = client.ok("retrieve_futures", poll(&sampler, 1, 0, None, &[]));
    assert_eq!(ids(&response), [&*of_clone]);
    // Each may retrieve the results of the other.
    client.result(&first);
    client.result(&of_clone);
}

#[test]
fn acknowledged_results_are_forgotten() {
    let (server, mut client, sampler) = start(LocalServer::builder());
    let id = ask(&mut client, &sampler, 0, Some(1));
    client.result(&id);
    let mut other = Client::new(&server).key("tml-other");
    assert_eq!(other.post("retrieve_futures", poll(&sampler, 0, 0, Some(0.0), &[&id])).status, 403);
    let other_client = client.ok("retrieve_futures", poll(&sampler, 1, 0, Some(0.0), &[&id, "request-99", "x"]));
    assert_eq!(ids(&other_client), [""; 0]);
    client.result(&id);
    let response = client.ok("retrieve_futures", poll(&sampler, 0, 0, Some(0.0), &[&id]));
    assert_eq!(ids(&response), [""; 0]);
    assert_eq!(client.post("retrieve_future", json!({ "request_id": id })).status, 410);
    client.ok("retrieve_futures", poll(&sampler, 0, 0, Some(0.0), &[&id]));
}

#[test]
fn a_poll_for_many_is_held() {
    let (server, mut client, sampler) = start(LocalServer::builder().hold_time(PATIENCE));
    client.send("POST", "retrieve_futures", &poll(&sampler, 0, 0, None, &[]).to_string());
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 1));
    let id = ask(&mut Client::new(&server), &sampler, 0, Some(1));
    assert_eq!(ids(&client.receive().unwrap().json()), [&*id]);

    let (_server, mut client, sampler) = start(LocalServer::builder().hold_time(Duration::from_millis(20)));
    let nothing = json!({ "completions": [], "cursor": 7 });
    assert_eq!(client.ok("retrieve_futures", poll(&sampler, 0, 7, None, &[])), nothing);
    assert_eq!(client.ok("retrieve_futures", poll(&sampler, 0, 7, Some(0.01), &[])), nothing);
}

#[test]
fn wrong_polls_for_many_are_refused() {
    let (_server, mut client, sampler) = start(LocalServer::builder());
    for (change, status) in [
        (json!({ "timeout": -1.0 }), 400),
        (json!({ "timeout": "soon" }), 422),
        (json!({ "prev_cursor": -1 }), 422),
        (json!({ "target": { "type": "model", "model_id": "x" } }), 400),
        (json!({ "target": { "type": "sampling_session", "sampling_session_id": sampler } }), 422),
        (json!({ "target": { "type": "sampling_session", "sampling_session_id": "x", "cloned_sampler_id": 0 } }), 404),
    ] {
        let mut body = poll(&sampler, 0, 0, Some(0.0), &[]);
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(client.post("retrieve_futures", body).status, status, "{change}");
    }
}

#[test]
fn a_cancelled_sample_fails_and_frees_the_worker() {
    let (server, mut client, sampler) = start(LocalServer::builder().hold_time(PATIENCE));
    // More long samples than there are workers: most of them wait.
    let long: Vec<_> = (0..20).map(|seq| ask(&mut client, &sampler, seq, None)).collect();
    assert_eq!(
        Client::new(&server).key("tml-other").post("cancel_future", json!({ "request_id": long[0] })).status,
        403
    );
    for id in &long {
        assert_eq!(client.ok("cancel_future", json!({ "request_id": id })), json!({}));
        assert_eq!(client.result(id), json!({ "error": "the sample was cancelled", "category": "user" }));
    }
    let response = client.ok("retrieve_futures", poll(&sampler, 0, 0, Some(0.0), &[]));
    assert_eq!(response["completions"][0]["state"], "failed");
    let next = ask(&mut client, &sampler, 100, Some(1));
    assert_eq!(client.result(&next)["sequences"].as_array().unwrap().len(), 1);
    // Cancelling what has finished changes nothing.
    client.ok("cancel_future", json!({ "request_id": next }));
    client.result(&next);
    assert_eq!(client.post("cancel_future", json!({ "request_id": "request-99999" })).status, 404);
}

#[test]
fn only_samples_can_be_cancelled() {
    let (model, gate) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model("test/gated");
    let id = client.promise("forward_backward", forward_backward(&run, 1, "abc"));
    let response = client.post("cancel_future", json!({ "request_id": id }));
    assert_eq!(response.status, 400);
    assert!(response.detail().contains("only samples"), "{response:?}");
    drop(gate);
    client.result(&id);
}

#[test]
fn the_end_of_a_session_ends_its_samples() {
    let (_server, mut client, sampler) = start(LocalServer::builder());
    let long: Vec<_> = (0..20).map(|seq| ask(&mut client, &sampler, seq, None)).collect();
    let session = sampler.split(':').next().unwrap();
    let finish = json!({ "reason": { "type": "success" }, "detail": null });
    assert_eq!(client.post(&format!("sessions/{session}/finish"), finish).status, 204);
    let result = client.result(long.last().unwrap());
    assert_eq!(result, json!({ "error": format!("{session} has ended"), "category": "user" }));
}

#[test]
fn a_large_result_is_announced_by_its_size() {
    let (_server, mut client, sampler) = start(LocalServer::builder().metadata_above(1000));
    let id = ask(&mut client, &sampler, 0, Some(200));
    let allowed = json!({ "request_id": id, "allow_metadata_only": true });
    let size = loop {
        let response = client.post("retrieve_future", allowed.clone());
        if response.status == 200 {
            assert_eq!(response.json()["status"], "complete_metadata");
            break response.json()["response_payload_size"].as_u64().unwrap();
        }
    };
    let result = client.post("retrieve_future", allowed);
    assert_eq!(result.body.len() as u64, size);
    assert_eq!(result.json()["sequences"][0]["tokens"].as_array().unwrap().len(), 200);

    let id = ask(&mut client, &sampler, 1, Some(200));
    assert!(client.result(&id)["sequences"].is_array());
    let id = ask(&mut client, &sampler, 2, Some(1));
    client.result(&id);
    let small = client.post("retrieve_future", json!({ "request_id": id, "allow_metadata_only": true }));
    assert!(small.json().get("status").is_none(), "{small:?}");
}

#[test]
fn faults_apply_to_polls_for_many() {
    let faults: Faults =
        "retrieve_futures:402*1;cancel_future:429*1,retry_after=1;join_sampling_session:402*1".parse().unwrap();
    let (_server, mut client, sampler) = start(LocalServer::builder().faults(faults));
    let id = ask(&mut client, &sampler, 0, Some(1));
    for (endpoint, body, status) in [
        ("retrieve_futures", poll(&sampler, 0, 0, Some(0.0), &[]), 402),
        ("cancel_future", json!({ "request_id": id }), 429),
        ("join_sampling_session", json!({ "sampling_session_id": sampler }), 402),
    ] {
        assert_eq!(client.post(endpoint, body.clone()).status, status, "{endpoint}");
        client.ok(endpoint, body);
    }
}

//! Limits on models, sessions and sizes.

use std::time::Duration;

use serde_json::json;
use tinkex::local::LocalServer;

use super::client::{Client, batch, forward_backward, optim_step, sample};
use super::models::Gated;

const BASE: &str = "tinkex/bytes-tiny";

#[test]
fn number_of_models_has_a_limit() {
    let server = LocalServer::builder().max_models(1).start().unwrap();
    let mut client = Client::new(&server);
    let session = client.session();
    let create = |seq: u64| json!({ "session_id": session, "model_seq_id": seq, "base_model": BASE });
    (0..16).for_each(|seq| drop(client.call("create_model", create(seq))));
    let refused = client.post("create_model", create(16));
    assert_eq!(refused.status, 400);
    assert!(refused.detail().contains("unload one first"), "{refused:?}");
    // One that rests counts, too, and needs no memory to be unloaded.
    client.call("unload_model", json!({ "model_id": format!("{session}:train:3") }));
    client.call("create_model", create(16));
}

#[test]
fn a_run_has_a_limit_of_waiting_requests() {
    let (model, gate) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model("test/gated");
    let first = client.promise("forward_backward", forward_backward(&run, 1, "ab"));
    let mut seq_id = 1;
    let refused = loop {
        // Written together: so many requests take their time one by one.
        (0..100)
            .for_each(|more| client.send("POST", "optim_step", &optim_step(&run, seq_id + 1 + more, 0.1).to_string()));
        let responses: Vec<_> = (0..100).map(|_| client.receive().unwrap()).collect();
        match responses.iter().position(|response| response.status != 200) {
            None => seq_id += 100,
            Some(accepted) => break responses.into_iter().nth(accepted).unwrap(),
        }
        assert!(seq_id < 10_100);
    };
    assert_eq!((refused.status, refused.detail().contains("10000 requests of")), (429, true));
    // An accepted request is recognized, and the model can be unloaded.
    assert_eq!(client.promise("forward_backward", forward_backward(&run, 1, "ab")), first);
    let unload = client.promise("unload_model", json!({ "model_id": run }));
    drop(gate);
    client.result(&unload);
}

#[test]
fn a_project_has_a_short_id() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let session = client.session();
    for (length, status) in [(1, 204), (256, 204), (257, 400), (0, 400)] {
        let body = json!({ "project_id": "p".repeat(length) }).to_string();
        client.send("PUT", &format!("sessions/{session}/project"), &body);
        assert_eq!(client.receive().unwrap().status, status, "{length}");
    }
    for (length, status) in [(0, 200), (256, 200), (257, 400)] {
        let body = json!({ "tags": [], "project_id": "p".repeat(length) });
        assert_eq!(client.post("create_session", body).status, status, "{length}");
    }
    let copy = json!({ "destination_project_id": "p".repeat(257), "source_path": "tinker://a/weights/b" });
    assert_eq!(client.post("copy_weights", copy).status, 400);
}

#[test]
fn silent_session_ends_with_its_models() {
    let server = LocalServer::builder().session_time(Duration::ZERO).start().unwrap();
    let mut client = Client::new(&server);
    let session_id = client.session();
    let refused = client.post("session_heartbeat", json!({ "session_id": session_id }));
    assert_eq!(refused.status, 404);
    assert!(refused.detail().contains("no heartbeat"));
    let create = json!({ "session_id": session_id, "model_seq_id": 0, "base_model": BASE });
    assert_eq!(client.post("create_model", create).status, 404);
    // It can still be read.
    assert_eq!(client.get(&format!("sessions/{session_id}")).status, 200);
}

#[test]
fn heartbeats_keep_a_session_alive() {
    let server = LocalServer::builder().session_time(Duration::from_secs(3600)).start().unwrap();
    let mut client = Client::new(&server);
    let session_id = client.session();
    assert_eq!(client.ok("session_heartbeat", json!({ "session_id": session_id }))["type"], "session_heartbeat");
}

#[test]
fn oversized_inputs_are_rejected_with_their_length() {
    // A model of a short context, with nothing to wait for.
    let (model, _) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).start().unwrap();
    let mut client = Client::new(&server);
    let (model_id, sampler) = (client.model("test/gated"), client.sampler("test/gated"));
    let long = json!({ "forward_input": batch(&"x".repeat(66)), "model_id": model_id, "seq_id": 1 });
    let refused = client.post("forward", long);
    assert_eq!((refused.status, refused.detail().contains("65 tokens, more than the context of 64")), (400, true));
    let whole = json!({ "forward_input": batch(&"x".repeat(65)), "model_id": model_id, "seq_id": 1 });
    assert_eq!(client.call("forward", whole)["metrics"]["tokens:sum"], 64.0);

    // Without max_tokens, a prompt must leave room for at least one token.
    for (length, params) in [(64, json!({})), (50, json!({ "max_tokens": 15 })), (65, json!({}))] {
        let refused = client.post("asample", sample(&sampler, 0, &"x".repeat(length), params));
        assert_eq!((refused.status, refused.detail().contains("the context of 64")), (400, true));
    }
    client.call("asample", sample(&sampler, 1, &"x".repeat(50), json!({ "max_tokens": 14 })));
}

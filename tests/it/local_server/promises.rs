//! Promises: polls, repeated requests, expiry, panics.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tinkex::local::LocalServer;

use super::client::{Client, PATIENCE, forward_backward, optim_step, sample};
use super::models::{Gate, Gated};

const MODEL: &str = "test/gated";

fn gated(hold_time: Duration) -> (LocalServer, Gate, Client, String) {
    let (model, gate) = Gated::new(MODEL);
    let server = LocalServer::builder().model(model).hold_time(hold_time).start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model(MODEL);
    (server, gate, client, model_id)
}

#[test]
fn early_poll_is_held_until_the_result() {
    let (server, gate, mut client, model_id) = gated(PATIENCE);
    let id = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    client.send("POST", "retrieve_future", &json!({ "request_id": id }).to_string());
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 1));
    drop(gate);
    assert_eq!(client.receive().unwrap().json()["metrics"]["loss:sum"], 2.0);
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 0));
}

#[test]
fn held_poll_gets_408_after_hold_time() {
    let (_server, gate, mut client, model_id) = gated(Duration::from_millis(20));
    let id = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    for _ in 0..2 {
        let response = client.post("retrieve_future", json!({ "request_id": id }));
        assert_eq!((response.status, response.json()), (408, json!({ "queue_state": "active" })));
    }
    drop(gate);
    assert_eq!(client.result(&id)["loss_fn_outputs"].as_array().unwrap().len(), 1);
}

#[test]
fn thousand_held_polls_do_not_block_submissions() {
    let (server, gate, mut client, model_id) = gated(PATIENCE);
    let id = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    let mut polls: Vec<Client> = (0..1000).map(|_| Client::new(&server)).collect();
    for poll in &mut polls {
        poll.send("POST", "retrieve_future", &json!({ "request_id": id }).to_string());
    }
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 1000));
    // Submissions still work.
    let later: Vec<_> = (2..202).map(|seq| client.promise("optim_step", optim_step(&model_id, seq, 0.1))).collect();
    drop(gate);
    for poll in &mut polls {
        assert_eq!(poll.receive().unwrap().json()["metrics"]["tokens:sum"], 2.0);
    }
    later.iter().for_each(|id| drop(client.result(id)));
}

#[test]
fn disconnecting_frees_a_held_poll() {
    let (server, _gate, mut client, model_id) = gated(PATIENCE);
    let id = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    let mut poll = Client::new(&server);
    poll.send("POST", "retrieve_future", &json!({ "request_id": id }).to_string());
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 1));
    drop(poll);
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 0 && activity.connections() == 1));
}

#[test]
fn repeated_sequence_number_is_executed_once() {
    let (_server, gate, mut client, model_id) = gated(PATIENCE);
    drop(gate);
    let first = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    assert_eq!(client.promise("forward_backward", forward_backward(&model_id, 1, "abc")), first);
    assert_eq!(client.post("forward_backward", forward_backward(&model_id, 1, "xyz")).status, 400);
    assert_eq!(client.post("optim_step", optim_step(&model_id, 1, 0.1)).status, 400);

    let step = client.promise("optim_step", optim_step(&model_id, 2, 1.0));
    client.result(&step);
    assert_eq!(client.promise("optim_step", optim_step(&model_id, 2, 1.0)), step);
    // One step of length 1 from −1, not two.
    let after = client.call("forward_backward", forward_backward(&model_id, 3, "ab"));
    assert!(after["metrics"]["loss:sum"].as_f64().unwrap().abs() < 1e-6, "{after}");
}

#[test]
fn concurrent_duplicates_are_executed_once() {
    let (server, gate, mut client, model_id) = gated(PATIENCE);
    drop(gate);
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (mut client, model_id) = (Client::new(&server), model_id.clone());
            std::thread::spawn(move || {
                let pass = client.promise("forward_backward", forward_backward(&model_id, 1, "ab"));
                [pass, client.promise("optim_step", optim_step(&model_id, 2, 1.0))]
            })
        })
        .collect();
    let promises: BTreeSet<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    assert_eq!(promises.len(), 1, "{promises:?}");
    promises.iter().flatten().for_each(|id| drop(client.result(id)));
    // One step of length 1 from −1, not eight.
    let after = client.call("forward_backward", forward_backward(&model_id, 3, "ab"));
    assert!(after["metrics"]["loss:sum"].as_f64().unwrap().abs() < 1e-6, "{after}");
}

#[test]
fn repeated_creation_gets_the_first_response() {
    let (_server, _gate, mut client, model_id) = gated(PATIENCE);
    let sampler_id = client.sampler(MODEL);
    let ask = |prompt: &str| sample(&sampler_id, 0, prompt, json!({ "max_tokens": 1 }));
    let first = client.promise("asample", ask("ab"));
    assert_eq!(client.promise("asample", ask("ab")), first);
    assert_eq!(client.post("asample", ask("abc")).status, 400);

    let session_id = model_id.split(':').next().unwrap().to_owned();
    let open = |base_model: &str, seq: u64| json!({ "session_id": session_id, "sampling_session_seq_id": seq, "base_model": base_model, "model_path": null });
    let first = client.ok("create_sampling_session", open(MODEL, 0));
    assert_eq!(client.ok("create_sampling_session", open(MODEL, 0)), first);
    assert_ne!(client.ok("create_sampling_session", open(MODEL, 1)), first);
    let unnamed = json!({ "model_id": model_id, "sampling_session_seq_id": 1, "seq_id": 1 });
    assert_eq!(client.post("save_weights_for_sampler", unnamed).status, 400);

    let create = |rank: u32| json!({ "session_id": session_id, "model_seq_id": 1, "base_model": MODEL, "lora_config": { "rank": rank } });
    let first = client.promise("create_model", create(1));
    assert_eq!(client.promise("create_model", create(1)), first);
    assert_eq!(client.post("create_model", create(2)).status, 400);
}

#[test]
fn result_can_be_retrieved_again() {
    let (_server, gate, mut client, model_id) = gated(PATIENCE);
    drop(gate);
    let id = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    assert_eq!(client.result(&id), client.result(&id));
}

#[test]
fn retrieved_result_expires() {
    let server = LocalServer::builder().result_time(Duration::ZERO).start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model("tinkex/bytes-tiny");
    let id = client.promise("optim_step", optim_step(&model_id, 1, 0.1));
    client.result(&id);
    assert_eq!(client.post("retrieve_future", json!({ "request_id": id })).status, 410);
    // The sequence number stays used: the same request is not executed again.
    assert_eq!(client.promise("optim_step", optim_step(&model_id, 1, 0.1)), id);
}

#[test]
fn model_panic_fails_only_its_promise() {
    let (_server, gate, mut client, model_id) = gated(PATIENCE);
    drop(gate);
    let bad = client.call("forward_backward", forward_backward(&model_id, 1, "a\rb"));
    assert_eq!(bad, json!({ "error": "the model panicked: token 13", "category": "server" }));
    let good = client.call("forward_backward", forward_backward(&model_id, 2, "abc"));
    assert_eq!(good["metrics"]["loss:sum"], 2.0);
}

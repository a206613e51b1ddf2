//! What a client says of its session, and how a session ends.

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, Response};

fn finish(client: &mut Client, session: &str, reason: &str, detail: Value) -> Response {
    client.post(&format!("sessions/{session}/finish"), json!({ "reason": { "type": reason }, "detail": detail }))
}

fn heartbeat(client: &mut Client, session: &str) -> Response {
    client.post("session_heartbeat", json!({ "session_id": session, "type": "session_heartbeat" }))
}

#[test]
fn a_session_shows_its_name_and_metadata() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let body = json!({
        "tags": [], "user_metadata": { "a": "b", "n": [1, 2] }, "display_name": "nightly", "project_id": "p-1",
        "sdk_version": "0.38.0", "type": "create_session",
    });
    let id = client.ok("create_session", body)["session_id"].as_str().unwrap().to_owned();
    let shown = client.get(&format!("sessions/{id}")).json();
    assert_eq!(shown["display_name"], "nightly");
    assert_eq!(shown["user_metadata"], json!({ "a": "b", "n": "[1,2]" }));

    let refused = client.post("create_session", json!({ "tags": [], "user_metadata": ["a"], "sdk_version": "x" }));
    assert_eq!((refused.status, &refused.json()["detail"][0]["loc"]), (422, &json!(["body", "user_metadata"])));
}

#[test]
fn a_finished_session_takes_no_work() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let model = client.model("tinkex/bytes-tiny");
    let session = model.split(':').next().unwrap();
    assert_eq!(heartbeat(&mut client, session).status, 200);

    for reason in ["success", "errored"] {
        let response = finish(&mut client, session, reason, Value::Null);
        assert_eq!((response.status, response.body.len()), (204, 0));
    }
    let gone = heartbeat(&mut client, session);
    assert_eq!(gone.status, 410);
    assert_eq!(gone.detail(), format!("{session} has finished: its client ended it; create a new session"));
    let refused = client.post("optim_step", json!({ "model_id": model, "seq_id": 1, "adam_params": {} }));
    assert_eq!(refused.status, 404);
    // What is stored can still be read.
    assert_eq!(client.get(&format!("sessions/{session}")).json()["training_run_ids"], json!([model]));
}

#[test]
fn a_finish_says_why() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let session = client.session();
    let refused = finish(&mut client, &session, "bored", Value::Null);
    assert_eq!((refused.status, &refused.json()["detail"][0]["loc"]), (422, &json!(["body", "reason", "type"])));
    assert_eq!(finish(&mut client, "nothing", "success", Value::Null).status, 404);
    assert_eq!(finish(&mut Client::new(&server).key("tml-other"), &session, "success", Value::Null).status, 403);
    assert_eq!(heartbeat(&mut client, &session).status, 200);
    assert_eq!(finish(&mut client, &session, "interrupted", json!("Ctrl-C")).status, 204);
}

#[test]
fn a_finish_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = || LocalServer::builder().data_dir(directory.path()).start().unwrap();
    let server = start();
    let mut client = Client::new(&server);
    let [finished, open] = [client.session(), client.session()];
    assert_eq!(finish(&mut client, &finished, "success", json!("done")).status, 204);
    server.stop();

    let server = start();
    let mut client = Client::new(&server);
    assert_eq!([&finished, &open].map(|id| heartbeat(&mut client, id).status), [410, 200]);
}

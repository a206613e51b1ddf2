//! The audit log: what was done with checkpoints and projects.

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, sample, save};

const BASE: &str = "tinkex/bytes-tiny";

/// The names and purposes of the events that a query finds, each with who caused it.
fn events(client: &mut Client, query: &str) -> Vec<(String, Value)> {
    let response = client.get(&format!("audit?{query}"));
    assert_eq!(response.status, 200, "{response:?}");
    let log = response.json();
    let entries = log["entries"].as_array().unwrap().iter();
    entries.map(|entry| (entry["event"].as_str().unwrap().to_owned(), entry["purpose"].clone())).collect()
}

/// A run with a published checkpoint that another key loads and samples from.
fn with_events(client: &mut Client, other: &mut Client) -> String {
    let run = client.model(BASE);
    client.call("save_weights", save(&run, 1, "one"));
    let checkpoint = format!("training_runs/{run}/checkpoints/weights/one");
    assert_eq!(client.request("POST", &format!("{checkpoint}/publish")).status, 204);
    assert_eq!(client.get(&format!("{checkpoint}/archive")).status, 302);

    let theirs = other.model(BASE);
    let path = format!("tinker://{run}/weights/one");
    other.call("load_weights", json!({ "model_id": theirs, "path": path, "seq_id": 1, "optimizer": false }));
    let session_id = other.session();
    let open =
        json!({ "session_id": session_id, "sampling_session_seq_id": 0, "base_model": null, "model_path": path });
    let sampler = other.ok("create_sampling_session", open)["sampling_session_id"].as_str().unwrap().to_owned();
    for seq in 1..=2 {
        other.call("asample", sample(&sampler, seq, "a", json!({ "max_tokens": 1 })));
    }
    client.send("PUT", "sessions/session-1/project", &json!({ "project_id": "p-1" }).to_string());
    assert_eq!(client.receive().unwrap().status, 204);
    assert_eq!(client.request("DELETE", &checkpoint).status, 204);
    run
}

#[test]
fn the_owner_sees_who_did_what() {
    let server = LocalServer::start().unwrap();
    let (mut client, mut other) = (Client::new(&server), Client::new(&server).key("tml-other"));
    let run = with_events(&mut client, &mut other);
    let event = |name: &str, purpose: Value| (name.to_owned(), purpose);
    let of_checkpoints = [
        event("checkpoint_create", Value::Null),
        event("checkpoint_publish", Value::Null),
        event("checkpoint_read", json!("download")),
        event("checkpoint_read", json!("train")),
        // Both samples of one session read the checkpoint once.
        event("checkpoint_read", json!("sample")),
        event("checkpoint_delete", Value::Null),
    ];
    assert_eq!(events(&mut client, "event_type=checkpoints"), of_checkpoints);
    assert_eq!(events(&mut client, "event_type=projects"), [event("project_session_assign", Value::Null)]);
    assert_eq!(events(&mut client, "").len(), 7);
    assert_eq!(events(&mut client, "event_type=teams"), []);
    assert_eq!(events(&mut client, "event_type=all&day=2001-01-01"), []);
    assert_eq!(events(&mut other, "event_type=all"), []);

    let log = client.get("audit").json();
    let (created, read) = (&log["entries"][0], &log["entries"][3]);
    assert_eq!(
        (&created["model_id"], &created["tinker_path"]),
        (&json!(run), &json!(format!("tinker://{run}/weights/one")))
    );
    assert_ne!(created["event_details"]["who"], read["event_details"]["who"]);
    assert!(!log.to_string().contains("tml-"), "no keys");
}

#[test]
fn other_days_and_types_are_refused() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    for query in ["event_type=models", "day=yesterday", "day=2025-11-01T00:00:00Z", "day=2025-13-01"] {
        assert_eq!(client.get(&format!("audit?{query}")).status, 422, "{query}");
    }
}

#[test]
fn audit_log_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = || LocalServer::builder().data_dir(directory.path()).start().unwrap();
    let server = start();
    let (mut client, mut other) = (Client::new(&server), Client::new(&server).key("tml-other"));
    with_events(&mut client, &mut other);
    let before = client.get("audit").body;
    drop(server);
    assert_eq!(Client::new(&start()).get("audit").body, before);
}

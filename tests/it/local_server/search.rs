//! Searching sessions, and moving them to projects.

use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::client::{Client, save};

const BASE: &str = "tinkex/bytes-tiny";

fn create(client: &mut Client, fields: Value) -> String {
    let mut body = json!({ "tags": [], "user_metadata": {}, "sdk_version": "0.38.0", "type": "create_session" });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    client.ok("create_session", body)["session_id"].as_str().unwrap().to_owned()
}

fn found(client: &mut Client, search: Value) -> Vec<String> {
    let page = client.ok("sessions/search", search);
    let sessions = page["sessions"].as_array().unwrap().iter();
    sessions.map(|session| session["session_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn sessions_are_found_by_each_filter() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let eval = json!({ "display_name": "Nightly Eval", "user_metadata": { "purpose": "eval" }, "project_id": "p-1" });
    let mix = json!({ "display_name": "Nightly mix", "user_metadata": { "purpose": "eval", "n": 3 } });
    let (first, second, third) = (create(&mut client, eval), create(&mut client, mix), client.session());
    let finish = json!({ "reason": { "type": "errored" }, "detail": "out of data" });
    assert_eq!(client.post(&format!("sessions/{first}/finish"), finish).status, 204);

    let all = [third.clone(), second.clone(), first.clone()];
    for (search, expected) in [
        (json!({}), &all[..]),
        (json!({ "user_metadata": {}, "owner": { "type": "own" }, "limit": 50 }), &all[..]),
        (json!({ "owner": { "type": "accessible" } }), &all[..]),
        (json!({ "session_id": first }), &all[2..]),
        (json!({ "session_id": "session-99" }), &[]),
        (json!({ "display_name": "NIGHTLY" }), &all[1..]),
        (json!({ "display_name": "eval night" }), &all[2..]),
        (json!({ "display_name": "mix", "session_id": first }), &all[1..]),
        (json!({ "user_metadata": { "purpose": "eval" } }), &all[1..]),
        (json!({ "user_metadata": { "purpose": "eval", "n": "3" } }), &all[1..2]),
        (json!({ "project_ids": ["p-1", "p-2"] }), &all[2..]),
        (json!({ "project_ids": ["default"] }), &all[..2]),
        (json!({ "statuses": [{ "type": "active" }] }), &all[..2]),
        (json!({ "statuses": [{ "type": "client_finished" }, { "type": "failed" }] }), &all[2..]),
        (json!({ "statuses": [{ "type": "client_finished", "reasons": ["success", "errored"] }] }), &all[2..]),
        (json!({ "statuses": [{ "type": "client_finished", "reasons": ["success"] }] }), &[]),
    ] {
        assert_eq!(found(&mut client, search.clone()), expected, "{search}");
    }
    let page = client.ok("sessions/search", json!({ "session_id": first }));
    let status = json!({ "type": "client_finished", "reason": { "type": "errored" }, "detail": "out of data" });
    assert_eq!((&page["sessions"][0]["status"], &page["next_cursor"]), (&status, &Value::Null));
}

#[test]
fn cursor_continues_after_the_page() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let mut newest: Vec<_> = (0..5).map(|_| client.session()).collect();
    newest.reverse();
    let (mut read, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let page = client.ok("sessions/search", json!({ "limit": 2, "cursor": cursor }));
        let sessions = page["sessions"].as_array().unwrap().clone();
        read.extend(sessions.iter().map(|session| session["session_id"].as_str().unwrap().to_owned()));
        // What is created meanwhile is newer, and on no further page.
        client.session();
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(read, newest);
}

#[test]
fn searches_that_find_nothing_by_mistake_are_refused() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    for (search, status, reason) in [
        (json!({ "limit": 0 }), 400, "limit"),
        (json!({ "limit": 201 }), 400, "limit"),
        (json!({ "display_name": "" }), 400, "display_name"),
        (json!({ "statuses": [] }), 400, "statuses"),
        (json!({ "statuses": [{ "type": "asleep" }] }), 400, "asleep"),
        (json!({ "statuses": [{ "type": "client_finished", "reasons": ["bored"] }] }), 400, "bored"),
        (json!({ "statuses": [{ "type": "client_finished", "reasons": [] }] }), 400, "reasons"),
        (json!({ "statuses": [{ "type": "active", "reasons": ["success"] }] }), 400, "reasons"),
        (json!({ "owner": { "type": "user", "owner_urns": [] } }), 400, "owner_urns"),
        (json!({ "owner": { "type": "nobody" } }), 422, "owner"),
        (json!({ "cursor": { "last_created_at": "x", "last_session_id": "y" } }), 422, "last_created_at"),
    ] {
        let response = client.post("sessions/search", search.clone());
        assert_eq!(response.status, status, "{search}");
        assert!(String::from_utf8_lossy(&response.body).contains(reason), "{response:?}");
    }
}

#[test]
fn sessions_of_others_show_what_is_published() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let mut other = Client::new(&server).key("tml-other");
    let run = client.model(BASE);
    client.call("save_weights", save(&run, 1, "one"));
    client.call("save_weights", save(&run, 2, "two"));
    let accessible = || json!({ "owner": { "type": "accessible" } });
    assert_eq!(found(&mut other, accessible()), [""; 0]);
    assert_eq!(client.request("POST", &format!("training_runs/{run}/checkpoints/weights/one/publish")).status, 204);

    let page = other.ok("sessions/search", accessible());
    let session = &page["sessions"][0];
    assert_eq!((&session["session_id"], &session["checkpoints_count"]), (&json!("session-1"), &json!(1)));
    let owner = session["owner"].clone();
    assert_eq!(found(&mut other, json!({ "owner": { "type": "user", "owner_urns": [owner] } })), ["session-1"]);
    assert_eq!(found(&mut other, json!({ "owner": { "type": "user", "owner_urns": ["key-0"] } })), [""; 0]);
    assert_eq!(found(&mut other, json!({})), [""; 0]);
    assert_eq!(client.ok("sessions/search", json!({}))["sessions"][0]["checkpoints_count"], 2);
}

#[test]
fn moved_session_takes_its_runs_along() {
    let directory = tempfile::tempdir().unwrap();
    let start = || LocalServer::builder().data_dir(directory.path()).start().unwrap();
    let server = start();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    client.call("save_weights", save(&run, 1, "one"));
    let put = |client: &mut Client, session: &str, body: Value| {
        client.send("PUT", &format!("sessions/{session}/project"), &body.to_string());
        client.receive().unwrap().status
    };
    assert_eq!(put(&mut client, "session-1", json!({ "project_id": "p-2" })), 204);
    drop(server);
    let server = start();
    let mut client = Client::new(&server);
    let runs = |client: &mut Client, project: &str| {
        client.get(&format!("training_runs?access_scope=owned&project_id={project}")).json()["cursor"]["total_count"]
            .clone()
    };
    assert_eq!((runs(&mut client, "p-2"), runs(&mut client, "default")), (json!(1), json!(0)));
    assert_eq!(client.get("billing/usage/checkpoints/current?project_id=p-2").json()["data"][0]["checkpoint_count"], 1);

    for (session, body, status) in [
        ("session-1", json!({ "project_id": "" }), 400),
        ("session-1", json!({}), 422),
        ("session-9", json!({ "project_id": "p" }), 404),
    ] {
        assert_eq!(put(&mut client, session, body.clone()), status, "{body}");
    }
    assert_eq!(put(&mut Client::new(&server).key("tml-other"), "session-1", json!({ "project_id": "p" })), 403);
}

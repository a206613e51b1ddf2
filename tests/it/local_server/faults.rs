//! Injected faults.

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::json;
use tinkex::local::{Fault, Faults, LocalServer};

use super::client::{Client, PATIENCE};

fn sessions(server: &LocalServer) -> usize {
    server.activity().requests_to("create_session").count()
}

#[test]
fn status_fault_sets_headers_and_body() {
    let refusal = Fault::on("create_session").times(2).status(429).header("retry-after-ms", "50").body("{}");
    let server = LocalServer::builder().fault(refusal).start().unwrap();
    let mut client = Client::new(&server);
    for _ in 0..2 {
        let response = client.post("create_session", json!({ "sdk_version": "x", "tags": [], "user_metadata": null }));
        assert_eq!((response.status, response.header("retry-after-ms"), response.json()), (429, Some("50"), json!({})));
    }
    // Neither was executed.
    assert_eq!(client.session(), "session-1");
    assert_eq!(sessions(&server), 3);
}

#[test]
fn a_fault_can_be_added_at_run_time() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    assert_eq!(client.get("healthz").status, 200);
    server.inject(Fault::on("*").after(1).times(1).status(503));
    let statuses: Vec<_> = (0..3).map(|_| client.get("healthz").status).collect();
    assert_eq!(statuses, [200, 503, 200]);
}

#[test]
fn reset_before_or_after_execution() {
    for (fault, session) in [
        (Fault::on("create_session").times(1).reset(), "session-1"),
        (Fault::on("create_session").times(1).lost_response(), "session-2"),
    ] {
        let server = LocalServer::builder().fault(fault).start().unwrap();
        let mut client = Client::new(&server);
        client.send("POST", "create_session", r#"{"sdk_version": "x", "tags": [], "user_metadata": null}"#);
        assert_eq!(client.receive().unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(Client::new(&server).session(), session);
    }
}

#[test]
fn truncated_response_ends_mid_body() {
    let server = LocalServer::builder().fault(Fault::on("healthz").times(1).truncate()).start().unwrap();
    let mut client = Client::new(&server);
    client.send("GET", "healthz", "");
    assert_eq!(client.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(Client::new(&server).get("healthz").status, 200);
}

#[test]
fn silence_keeps_the_connection_open() {
    let server = LocalServer::builder().fault(Fault::on("healthz").silence()).start().unwrap();
    let mut client = Client::new(&server);
    client.send("GET", "healthz", "");
    assert!(server.wait_until(PATIENCE, |activity| activity.arrived() == 1));
    assert_eq!(server.activity().connections(), 1);
    drop(client);
    assert!(server.wait_until(PATIENCE, |activity| activity.connections() == 0));
}

/// In real time, like the server's delay.
#[test]
fn delay_withholds_only_the_response() {
    let server = LocalServer::builder()
        .fault(Fault::on("create_session").times(1).delay(Duration::from_secs(3600)))
        .fault(Fault::on("healthz").times(1).delay(Duration::from_millis(30)).status(500))
        .start()
        .unwrap();
    let mut slow = Client::new(&server);
    slow.send("POST", "create_session", r#"{"sdk_version": "x", "tags": [], "user_metadata": null}"#);
    assert!(server.wait_until(PATIENCE, |activity| activity.arrived() == 1));
    let mut client = Client::new(&server);
    assert_eq!(client.get("healthz").status, 500);
    let delayed = server.requests()[1].at + Duration::from_millis(30);
    assert_eq!(client.get("healthz").status, 200);
    assert!(server.requests()[2].at >= delayed);
}

#[test]
fn reset_during_or_after_the_response() {
    let faults = "healthz:reset_during*1; healthz:reset_after*1".parse::<Faults>().unwrap();
    let server = LocalServer::builder().faults(faults).start().unwrap();
    let mut client = Client::new(&server);
    client.send("GET", "healthz", "");
    assert!(client.receive().is_err());
    let mut client = Client::new(&server);
    assert_eq!(client.get("healthz").status, 200);
    let refused = client.write("GET /api/v1/healthz HTTP/1.1\r\nx-api-key: k\r\n\r\n").and_then(|()| client.receive());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(Client::new(&server).get("healthz").status, 200);
}

#[test]
fn malformed_response_is_complete_but_not_json() {
    let server = LocalServer::builder().fault(Fault::on("healthz").times(1).malformed()).start().unwrap();
    let mut client = Client::new(&server);
    let response = client.get("healthz");
    assert_eq!((response.status, response.body.first()), (200, Some(&b'<')));
    assert!(serde_json::from_slice::<serde_json::Value>(&response.body).is_err());
    assert_eq!(client.get("healthz").json(), json!({ "status": "ok" }));
}

#[test]
fn queue_state_precedes_the_result() {
    let rules = "retrieve_future:paused_capacity*1,reason=full; retrieve_future:paused_rate_limit*1,form=try_again";
    let server = LocalServer::builder().faults(rules.parse::<Faults>().unwrap()).start().unwrap();
    let mut client = Client::new(&server);
    let session = client.session();
    let create = json!({ "session_id": session, "model_seq_id": 0, "base_model": "tinkex/bytes-tiny" });
    let id = client.promise("create_model", create);
    let mut poll = || client.post("retrieve_future", json!({ "request_id": id }));
    let first = poll();
    let state = json!({ "queue_state": "paused_capacity", "queue_state_reason": "full" });
    assert_eq!((first.status, first.json()), (408, state));
    let second = poll();
    let state = json!({ "type": "try_again", "request_id": id, "queue_state": "paused_rate_limit" });
    assert_eq!((second.status, second.json()), (200, state));
    assert_eq!(poll().json()["type"], "create_model");
}

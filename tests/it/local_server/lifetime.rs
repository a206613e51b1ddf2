//! Starting, pausing, stopping.

use std::net::TcpStream;

use serde_json::json;
use tinkex::ErrorKind;
use tinkex::local::LocalServer;

use super::client::{Client, PATIENCE, forward_backward, sample};
use super::models::{Endless, Gated};

#[test]
fn paused_server_resumes_with_its_state() {
    let (model, gate) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).hold_time(PATIENCE).start().unwrap();
    let mut client = Client::new(&server);
    let model_id = client.model("test/gated");
    let id = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    client.send("POST", "retrieve_future", &json!({ "request_id": id }).to_string());
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 1));
    let port = server.port();

    server.pause().unwrap();
    assert_eq!(server.activity().connections(), 0);
    assert!(client.receive().is_err());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert_eq!(server.pause().unwrap_err().kind(), ErrorKind::Io);
    // The task that had started completes.
    drop(gate);

    server.resume().unwrap();
    assert_eq!(server.port(), port);
    assert_eq!(server.resume().unwrap_err().kind(), ErrorKind::Io);
    let mut client = Client::new(&server);
    assert_eq!(client.result(&id)["metrics"]["loss:sum"], 2.0);
    assert_eq!(client.promise("forward_backward", forward_backward(&model_id, 1, "abc")), id);
}

#[test]
fn server_stops_during_computation() {
    let (model, gate) = Gated::new("test/gated");
    let server = LocalServer::builder().model(model).hold_time(PATIENCE).start().unwrap();
    let port = server.port();
    let mut client = Client::new(&server);
    let model_id = client.model("test/gated");
    let id = client.promise("forward_backward", forward_backward(&model_id, 1, "abc"));
    client.send("POST", "retrieve_future", &json!({ "request_id": id }).to_string());
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 1));
    // The gate stays closed: this would block forever if it waited for the model.
    server.stop();
    assert!(client.receive().is_err());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    drop(gate);
}

#[test]
fn a_stop_ends_running_samples() {
    let (model, beginnings, ends) = Endless::new();
    let server = LocalServer::builder().model(model).hold_time(PATIENCE).start().unwrap();
    let mut client = Client::new(&server);
    let sampler = client.sampler("test/endless");
    let id = client.promise("asample", sample(&sampler, 0, "ab", json!({})));
    beginnings.recv_timeout(PATIENCE).unwrap();
    client.send("POST", "retrieve_future", &json!({ "request_id": id }).to_string());
    assert!(server.wait_until(PATIENCE, |activity| activity.held_polls() == 1));
    server.stop();
    ends.recv_timeout(PATIENCE).unwrap();
    // The sample did not fail: the client can ask again elsewhere.
    assert!(client.receive().is_err());
}

#[test]
fn start_errors_give_the_reason() {
    let first = LocalServer::start().unwrap();
    let taken = LocalServer::builder().addr(format!("127.0.0.1:{}", first.port())).start().unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Io);
    assert!(taken.to_string().contains("LocalServer::start"), "{taken}");
    assert_eq!(LocalServer::builder().addr("nonsense").start().unwrap_err().kind(), ErrorKind::Io);

    let (one, _gate) = Gated::new("same");
    let (two, _gate) = Gated::new("same");
    let error = LocalServer::builder().model(one).model(two).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

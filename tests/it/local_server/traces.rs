//! Traces of sessions, from the export to the file.

use std::time::Duration;

use serde_json::json;
use tinkex::local::LocalServer;

use super::client::{Client, forward_backward, sample};

const BASE: &str = "tinkex/bytes-tiny";

/// Exports a trace that is ready at the second request, and returns its link.
fn link(client: &mut Client, session: &str) -> String {
    let path = format!("sessions/{session}/trace_export");
    assert_eq!(client.get(&path).json(), json!({ "status": "pending", "url": null, "error": null }));
    let ready = client.get(&path).json();
    assert_eq!(ready["status"], "ready");
    ready["url"].as_str().unwrap().to_owned()
}

fn contains(trace: &[u8], text: &str) -> bool {
    trace.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn trace_has_the_requests_of_the_session() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    client.call("forward_backward", forward_backward(&run, 1, "hello"));
    let sampler = client.sampler(BASE);
    client.call("asample", sample(&sampler, 1, "a", json!({ "max_tokens": 1 })));

    let (training, sampling) = (link(&mut client, "session-1"), link(&mut client, "session-2"));
    let training = client.follow(&training);
    assert_eq!((training.status, training.header("content-type")), (200, Some("application/octet-stream")));
    for (text, expected) in [("session-1:train:0", true), ("forward_backward", true), ("asample", false)] {
        assert_eq!(contains(&training.body, text), expected, "{text}");
    }
    let sampling = client.follow(&sampling);
    assert!(contains(&sampling.body, "asample") && !contains(&sampling.body, "forward_backward"));
}

#[test]
fn a_session_that_went_on_is_exported_anew() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    let first = link(&mut client, "session-1");
    assert_eq!(client.get("sessions/session-1/trace_export").json()["status"], "ready");
    client.call("forward_backward", forward_backward(&run, 1, "hello"));
    let second = link(&mut client, "session-1");
    let [first, second] = [first, second].map(|link| client.follow(&link).body);
    assert!(!contains(&first, "forward_backward") && contains(&second, "forward_backward"));
}

#[test]
fn only_the_owner_gets_a_link() {
    let server = LocalServer::builder().link_time(Duration::ZERO).start().unwrap();
    let mut client = Client::new(&server);
    client.session();
    assert_eq!(Client::new(&server).key("tml-other").get("sessions/session-1/trace_export").status, 403);
    assert_eq!(client.get("sessions/session-9/trace_export").status, 404);
    let expired = link(&mut client, "session-1");
    assert_eq!(client.follow(&expired).detail(), "the link has expired");
    assert_eq!(client.follow("http://local.test/traces/session-1/1.pftrace").detail(), "the link is not signed");
}

//! HTTP and authentication, independent of the endpoint.

use std::time::Duration;

use serde_json::json;
use tinkex::local::LocalServer;

use super::client::{Client, PATIENCE};

#[test]
fn missing_or_unknown_keys_are_rejected() {
    let server = LocalServer::builder().api_key_check(|key| key == "tml-right").start().unwrap();
    let mut client = Client::new(&server);
    for (header, status) in
        [("", 401), ("x-api-key:\r\n", 401), ("x-api-key: tml-wrong\r\n", 401), ("X-API-Key: tml-right\r\n", 200)]
    {
        client.write(format!("GET /api/v1/healthz HTTP/1.1\r\n{header}\r\n")).unwrap();
        assert_eq!(client.receive().unwrap().status, status, "{header:?}");
    }
}

#[test]
fn unknown_paths_and_wrong_methods_are_rejected() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    assert_eq!(client.get("nothing").status, 404);
    assert_eq!(client.get("asample").status, 405);
    assert_eq!(client.get("healthz?a=b").json(), json!({ "status": "ok" }));
    client.write("GET /healthz HTTP/1.1\r\nx-api-key: k\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().status, 404);
}

#[test]
fn connections_are_reused_and_logged() {
    let server = LocalServer::start().unwrap();
    let (mut first, mut second) = (Client::new(&server), Client::new(&server));
    assert_eq!(first.get("healthz").status, 200);
    assert_eq!(second.get("healthz").status, 200);
    assert_eq!(first.get("healthz").status, 200);
    let connections: Vec<_> = server.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1, 2, 1]);
}

#[test]
fn log_has_requests_without_the_key() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let body = json!({ "model_id": "m", "seq_id": 7, "adam_params": {} }).to_string();
    let secrets = "X-Api-Key: tml-Zq9\r\nAuthorization: Bearer eyJ.Zq9.c2ln\r\nCF-Access-Client-Id: Zq9-id\r\n\
                   CF-Access-Client-Secret: Zq9\r\nX-Tinker-Weights-Access-Token: Zq9\r\nCookie: a=Zq9\r\n\
                   Proxy-Authorization: Basic Zq9";
    let head = format!("content-length: {}\r\nx-stainless-retry-count: 2\r\n{secrets}", body.len());
    client.write(format!("POST /api/v1/optim_step?a HTTP/1.1\r\n{head}\r\n\r\n{body}")).unwrap();
    assert_eq!(client.receive().unwrap().status, 404);

    let log = server.requests();
    let [request] = log.as_slice() else { panic!("{log:?}") };
    assert_eq!((request.index, request.method.as_str(), request.path.as_str()), (0, "POST", "/api/v1/optim_step"));
    assert_eq!((request.seq, request.subject.as_deref(), request.attempt), (Some(7), Some("m"), Some(2)));
    assert_eq!(request.header("content-length"), Some(body.len().to_string().as_str()));
    assert!(!format!("{log:?}").contains("Zq9"), "{log:?}");
}

#[test]
fn log_has_tokens_of_no_kind() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let load =
        json!({ "model_id": "m", "seq_id": 7, "path": "tinker://run/weights/a", "weights_access_token": "secret" });
    for (target, head, body) in [
        ("/v1/chat/completions", "Authorization: Bearer sk-secret", json!({ "model": "none", "messages": [] })),
        ("/api/v1/load_weights", "X-Api-Key: eyJhbGciOiJub25lIn0.secret.c2ln", load),
        ("/api/v1/archives/a?sig=secret", "X-Api-Key: tml-k", json!({})),
    ] {
        let body = body.to_string();
        let length = body.len();
        client.write(format!("POST {target} HTTP/1.1\r\ncontent-length: {length}\r\n{head}\r\n\r\n{body}")).unwrap();
        assert!(client.receive().unwrap().status >= 400, "{target}");
    }
    let log = server.requests();
    assert_eq!(log.len(), 3);
    assert!(!format!("{log:?}").contains("secret"), "{log:?}");
}

#[test]
fn log_keeps_the_newest_requests() {
    let server = LocalServer::builder().log_capacity(2).start().unwrap();
    let mut client = Client::new(&server);
    (0..5).for_each(|_| drop(client.get("healthz")));
    assert_eq!(server.requests().iter().map(|request| request.index).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(server.activity().arrived(), 5);
}

#[test]
fn chunked_bodies_and_pipelined_requests_are_supported() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let head = "POST /api/v1/telemetry HTTP/1.1\r\nx-api-key: k\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write(format!("{head}2\r\n{{}}\r\n0\r\n\r\n").repeat(3)).unwrap();
    for _ in 0..3 {
        assert_eq!(client.receive().unwrap().json(), json!({ "status": "accepted" }));
    }
}

#[test]
fn oversized_body_response_reaches_a_sending_client() {
    let server = LocalServer::builder().max_body(1000).start().unwrap();
    let mut client = Client::new(&server);
    let body = vec![b' '; 1_000_000];
    client.write(format!("POST /api/v1/telemetry HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len())).unwrap();
    client.write(&body).unwrap();
    let response = client.receive().unwrap();
    assert_eq!((response.status, response.header("connection")), (413, Some("close")));
}

#[test]
fn malformed_request_closes_its_connection() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    client.write("this is not HTTP\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().status, 400);
    assert!(client.is_closed());
}

/// In real time: the timeouts are those of sockets.
#[test]
fn slow_headers_and_idle_connections_time_out() {
    let limit = Duration::from_millis(50);
    let server = LocalServer::builder().timeout_header(limit).timeout_idle(limit).start().unwrap();
    let (mut slow, mut idle) = (Client::new(&server), Client::new(&server));
    slow.write("GET /api/v1/hea").unwrap();
    assert_eq!(slow.receive().unwrap().status, 408);
    assert!(idle.is_closed());
    assert!(server.wait_until(PATIENCE, |activity| activity.connections() == 0));
}

#[test]
fn connections_beyond_the_limit_get_503() {
    let server = LocalServer::builder().max_connections(1).start().unwrap();
    let mut first = Client::new(&server);
    assert_eq!(first.get("healthz").status, 200);
    assert_eq!(Client::new(&server).receive().unwrap().status, 503);
    assert_eq!(first.get("healthz").status, 200);
    drop(first);
    assert!(server.wait_until(PATIENCE, |activity| activity.connections() == 0));
    assert_eq!(Client::new(&server).get("healthz").status, 200);
}

#[test]
fn thousands_of_connections_are_refused_politely() {
    let server = LocalServer::builder().max_connections(1).start().unwrap();
    let mut first = Client::new(&server);
    assert_eq!(first.get("healthz").status, 200);
    for _ in 0..20 {
        let mut more: Vec<Client> = (0..100).map(|_| Client::new(&server)).collect();
        for client in &mut more {
            // Fails if the refusal is there already, which can be read nevertheless.
            client.write("POST /api/v1/create_session HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}").ok();
        }
        assert!(more.iter_mut().all(|client| client.receive().unwrap().status == 503));
    }
    assert_eq!(first.get("healthz").status, 200);
}

//! Responses that are invalid, too large, or redirect elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use httpmock::Method::{GET, POST};
use httpmock::MockServer;
use serde_json::json;
use tinkex::api::Api;
use tinkex::types::LoraConfig;
use tinkex::{ErrorKind, Event, Limit};

use super::{connect, ms, refused_session};
use crate::support::mock::{self, anything, endpoint, respond, session};
use crate::support::{Reply, Service, healthy_service};

#[test]
fn a_decode_error_shows_status_and_first_bytes() {
    let page = "<html>\n<body>Sign in to the network</body></html>";
    let cases: [(&str, &str, &str); 5] = [
        ("application/json", "", "the response is empty (status 200)"),
        ("application/json", " \n", "the response is empty (status 200)"),
        ("text/html", page, "the response is not JSON but text/html (status 200, starts with \"<html> <body>Sign in"),
        ("application/json", "{\"status\": \"o", "the response is not valid JSON: EOF while parsing"),
        (
            "application/json",
            "{\"status\": 7}",
            "the response does not have the expected shape: invalid type: integer `7`",
        ),
    ];
    for (content_type, body, expected) in cases {
        let server = MockServer::start();
        let session = session(&server);
        let health = respond(&server, GET, "healthz", |then| then.header("content-type", content_type).body(body));
        let error = connect(mock::config(&server)).unwrap().health().unwrap_err();
        assert_eq!((error.kind(), error.status(), error.body()), (ErrorKind::Decode, Some(200), Some(body)));
        assert!(error.to_string().starts_with(&format!("health: {expected}")), "{error}");
        assert!(error.to_string().contains("status 200") && !error.is_retryable(), "{error}");
        assert_eq!(error.header("content-type"), Some(content_type));
        session.assert();
        health.assert();
    }
}

#[test]
fn a_truncated_body_is_a_lost_connection() {
    let cut = || Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"session_id\"".into());
    let error = refused_session(|config| config, cut);
    assert_eq!((error.kind(), error.status(), error.body()), (ErrorKind::Connect, Some(200), Some("{\"session_id\"")));
    assert!(error.may_have_taken_effect());
    let expected = "create_session: the connection was lost in the middle of the response (status 200, starts with \"{\\\"session_id\\\"\")";
    assert!(error.to_string().starts_with(expected), "{error}");
}

/// In real time: 100 ms.
#[test]
fn half_a_head_is_not_a_response() {
    for half in ["H", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-le", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"] {
        let lost = refused_session(|config| config, move || Reply::Raw(half.into()));
        assert_eq!((lost.kind(), lost.status()), (ErrorKind::Connect, None), "{half}");
        let expected = "create_session: the connection was lost in the middle of the response";
        assert!(lost.to_string().starts_with(expected), "{half}: {lost}");
        let silent = refused_session(|config| config.timeout_idle(ms(100)), move || Reply::Stall(half.into()));
        assert!(matches!(silent.kind(), ErrorKind::Timeout(Limit::Wait | Limit::Read)), "{half}: {silent}");
        for error in [lost, silent] {
            assert!(error.may_have_taken_effect() && error.is_retryable(), "{half}");
        }
    }
}

#[test]
fn an_error_status_counts_despite_a_truncated_body() {
    let cut = || Reply::Raw(b"HTTP/1.1 401 No\r\nx-kept: yes\r\ncontent-length: 100\r\n\r\n{\"detail\"".into());
    let error = refused_session(|config| config, cut);
    assert_eq!((error.kind(), error.status(), error.header("x-kept")), (ErrorKind::Status, Some(401), Some("yes")));
    assert!(!error.may_have_taken_effect());
}

#[test]
fn an_oversized_response_is_an_error() {
    let body = json!({"session_id": "s", "info_message": "x".repeat(1000)}).to_string();
    let size = body.len() as u64;
    let server = MockServer::start();
    let session = server.mock(|when, then| {
        endpoint(when, POST, "create_session").json_body_includes(r#"{"sdk_version": "0.4.1"}"#);
        then.body(&body);
    });
    connect(mock::config(&server).max_response_bytes(size)).unwrap();
    let error = connect(mock::config(&server).max_response_bytes(size - 1)).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Decode, Some(200)));
    assert!(
        error.to_string().starts_with(&format!("create_session: the response is larger than {} bytes", size - 1)),
        "{error}"
    );
    assert!(error.to_string().contains("raise max_response_bytes") && error.may_have_taken_effect(), "{error}");
    assert_eq!(error.body().unwrap().len() as u64, size - 1);
    session.assert_calls(2);
}

#[test]
fn an_oversized_result_is_not_retried() {
    let service = Service::start(|request| match request.request_id() {
        id if id.starts_with("optim_step") => Reply::ok(json!({"metrics": {"x".repeat(1000): 1.0}})),
        _ => healthy_service(request),
    });
    let failed_polls = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&failed_polls);
    let config = service.config().max_response_bytes(500).observer(move |event: &Event| {
        counted.fetch_add(usize::from(matches!(event, Event::PollFailed { .. })), Ordering::Relaxed);
    });
    let client = connect(config).unwrap();
    let trainer = client.create_lora_training_client("base", LoraConfig::default()).unwrap();
    let error = trainer.optim_step(tinkex::types::AdamParams::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
    assert!(error.to_string().contains("raise max_response_bytes"), "{error}");
    assert_eq!(error.request_id(), Some("optim_step:model-0:1"));
    client.close(Duration::from_secs(30));
    assert_eq!(failed_polls.load(Ordering::Relaxed), 1);
}

#[cfg(feature = "gzip")]
#[test]
fn the_size_limit_counts_decompressed_bytes() {
    // {"status":"ok"}
    let ok = [
        31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 42, 46, 73, 44, 41, 45, 86, 178, 82, 202, 207, 86, 170, 5, 0, 221,
        237, 19, 29, 15, 0, 0, 0,
    ];
    let zipped = move |body: &[u8]| {
        let headers = ["content-type", "content-encoding"].into_iter().zip(["application/json", "gzip"]);
        let headers = headers.map(|(name, value)| (name, value.to_owned())).collect();
        Reply::Full { status: 200, headers, body: body.to_vec() }
    };
    let service = super::replying([zipped(&ok), zipped(&ok[..20])]);
    let client = connect(service.config().max_retries(0)).unwrap();
    assert_eq!(client.health().unwrap().status, "ok");
    assert_eq!(service.requests_to("healthz")[0].header("accept-encoding"), Some("gzip"));
    // A truncated one is an error.
    assert_eq!(client.health().unwrap_err().kind(), ErrorKind::Connect);
    let service = Service::start(move |_| zipped(&ok));
    let error = connect(service.config().max_retries(0).max_response_bytes(14)).unwrap_err();
    assert!(error.to_string().contains("the response is larger than 14 bytes"), "{error}");
}

#[test]
fn responses_over_10_mib_are_read() {
    let server = MockServer::start();
    let large = respond(&server, GET, "x", |then| then.body(vec![b's'; 11 << 20]));
    let api = Api::new(mock::config(&server).build_with(|_| None).unwrap()).unwrap();
    assert_eq!(api.get("/api/v1/x").send().unwrap().bytes(), vec![b's'; 11 << 20]);
    large.assert();
}

#[test]
fn a_peer_that_does_not_speak_http() {
    let error = refused_session(|config| config, || Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n".into()));
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().starts_with("create_session: the response is not HTTP/1.1"), "{error}");
}

#[test]
fn a_redirect_elsewhere_is_an_error() {
    let other = MockServer::start();
    let anything = anything(&other);
    let location = format!("{}/api/v1/create_session?token=secret", other.base_url());
    for status in [301, 302, 307, 308] {
        let server = MockServer::start();
        let session = server.mock(|when, then| {
            endpoint(when, POST, "create_session");
            then.status(status).header("location", &location).json_body(json!({}));
        });
        let error = connect(mock::config(&server).max_retries(0)).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Status, Some(status)));
        let message = error.to_string();
        assert!(message.contains(&format!("redirects to \"{}/api/v1/create_session\"", other.base_url())), "{message}");
        assert!(message.contains("base_url") && !message.contains("secret"), "{message}");
        assert!(error.header("location").unwrap().contains("secret"));
        session.assert();
    }
    anything.assert_calls(0);
}

#[test]
fn interim_responses_are_skipped() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let end = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";
    let reply = format!("{interim}{end}").into_bytes();
    let service = Service::start(move |request| match &*request.path {
        "healthz" => Reply::Raw(reply.clone()),
        _ => healthy_service(request),
    });
    connect(service.config().max_retries(0)).unwrap().health().unwrap();
}

//! Low-level access: requests with any path and body, responses of every form, redirects.

mod redirects;

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use httpmock::Method::{DELETE, GET};
use httpmock::{Mock, MockServer};
use serde::Deserialize;
use serde_json::{Value, json};
use tinkex::api::{Api, Path};
use tinkex::clock::ManualClock;
use tinkex::{ConfigBuilder, ErrorKind, Limit, ServiceClient};

use crate::support::mock::{self, anything, respond};
use crate::support::{RecordedRequest, Reply, Service, healthy_service};

fn api(config: ConfigBuilder) -> Api {
    Api::new(config.max_retries(0).build_with(|_| None).unwrap()).unwrap()
}

/// A service that echoes each request.
fn echo() -> Service {
    Service::start(|request| Reply::ok(json!({"method": request.method, "path": request.path, "body": request.body})))
}

/// Mocks of the paths `x/0`, `x/1` and so on, which respond with these bodies.
fn responding<'a, const N: usize>(server: &'a MockServer, bodies: [(&str, &[u8]); N]) -> [Mock<'a>; N] {
    let mut number = 0..;
    bodies.map(|(content_type, body)| {
        let path = format!("x/{}", number.next().unwrap());
        respond(server, GET, &path, |then| then.header("content-type", content_type).body(body))
    })
}

#[test]
fn any_path_body_and_response_type_works() {
    #[derive(Deserialize)]
    struct Echo {
        method: String,
        path: String,
        body: Value,
    }
    let service = echo();
    let api = api(service.config());
    let got: Echo = api.get("/api/v1/new").query("limit", 5).query("ids", [1, 2]).send().unwrap().json().unwrap();
    assert_eq!((&*got.method, &*got.path, got.body), ("GET", "new?limit=5&ids=1%2C2", Value::Null));
    let posted: Echo = api.post("api/v1/new").json(&json!({"a": [1]})).send().unwrap().json().unwrap();
    assert_eq!((&*posted.method, &*posted.path, posted.body), ("POST", "new", json!({"a": [1]})));
    let put: Echo = api.put("/api/v1/new/1").json("it").send().unwrap().json().unwrap();
    assert_eq!((&*put.method, &*put.path, put.body), ("PUT", "new/1", json!("it")));
    let deleted: Echo = api.delete("/api/v1/new/1").send().unwrap().json().unwrap();
    assert_eq!((&*deleted.method, &*deleted.path, deleted.body), ("DELETE", "new/1", Value::Null));
    let deleted: Echo = api.delete("/api/v1/new").json("why").send().unwrap().json().unwrap();
    assert_eq!(deleted.body, json!("why"));
    let elsewhere: Echo = api.get("/other/place").send().unwrap().json().unwrap();
    assert_eq!(elsewhere.path, "/other/place");
    assert_eq!(service.requests().iter().map(|request| request.connection).max(), Some(0));
}

#[test]
fn headers_match_the_python_client() {
    let service = echo();
    let api = api(service.config());
    api.get("/api/v1/x").send().unwrap();
    api.post("/api/v1/x").send().unwrap();
    api.delete("/api/v1/x").send().unwrap();
    api.delete("/api/v1/x").json(&json!({"a": 1})).send().unwrap();
    let seen = service.requests();
    let of = |name: &str| seen.iter().map(|request| request.header(name).map(str::to_owned)).collect::<Vec<_>>();
    let json = Some("application/json".to_owned());
    assert_eq!(of("accept"), vec![json.clone(); 4]);
    assert_eq!(of("content-type"), [None, json.clone(), json.clone(), json]);
    assert_eq!(of("content-length"), [None, Some("0".to_owned()), None, Some("7".to_owned())]);
    assert_eq!(of("x-idempotency-key").iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, true, true]);
    assert_eq!(of("x-api-key"), vec![Some("tml-test-key".to_owned()); 4]);
}

#[test]
fn request_options_override_the_configuration() {
    let service = echo();
    let config = service.config().header("x-where", "config").header("x-gone", "1").query("q", "config").query("r", 1);
    let api = Api::new(config.build_with(|_| None).unwrap()).unwrap();
    api.post("/api/v1/x?p=0")
        .header("X-Where", "call")
        .header("User-Agent", "mine")
        .header("accept", "text/plain")
        .without_header("x-gone")
        .without_header("x-stainless-retry-count")
        .query("q", "call")
        .timeout_idle(Duration::from_millis(7500))
        .idempotency_key("key-1")
        .send()
        .unwrap();
    api.get("/api/v1/x").send().unwrap();
    let seen = service.requests();
    let headers = ["x-where", "user-agent", "accept", "x-gone", "x-stainless-retry-count", "x-stainless-read-timeout"];
    let of = |request: &RecordedRequest| headers.map(|name| request.header(name).map(str::to_owned));
    let texts = |values: [Option<&str>; 6]| values.map(|value| value.map(str::to_owned));
    assert_eq!(of(&seen[0]), texts([Some("call"), Some("mine"), Some("text/plain"), None, None, Some("7.5")]));
    assert_eq!(seen[0].header("x-idempotency-key"), Some("key-1"));
    assert_eq!(seen[0].path, "x?p=0&r=1&q=call");
    let ours = concat!("tinkex-rust/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        of(&seen[1]),
        texts([Some("config"), Some(ours), Some("application/json"), Some("1"), Some("0"), Some("60")])
    );
    assert_eq!(seen[1].path, "x?q=config&r=1");
}

#[test]
fn a_copy_shares_connections_with_its_original() {
    let service = Service::start(|request| match request.path.starts_with("busy") {
        true => Reply::Json(503, json!({})),
        false => Reply::ok(json!({})),
    });
    let clock = ManualClock::new();
    let api = Api::new(service.config().clock(clock.clock()).max_retries(1).build_with(|_| None).unwrap()).unwrap();
    let copy = api
        .with_max_retries(0)
        .with_header("x-copy", "1")
        .with_query("copy", true)
        .with_timeout_idle(Duration::from_secs(7));
    assert_eq!(copy.get("/api/v1/busy").send().unwrap_err().status(), Some(503));
    copy.get("/api/v1/x").send().unwrap();
    api.get("/api/v1/x").send().unwrap();
    let seen = service.requests();
    assert_eq!(seen[1].path, "x?copy=true");
    assert_eq!((seen[1].header("x-copy"), seen[1].header("x-stainless-read-timeout")), (Some("1"), Some("7")));
    assert_eq!(seen[2].path, "x");
    assert_eq!((seen[2].header("x-copy"), seen[2].header("x-stainless-read-timeout")), (None, Some("60")));
    assert_eq!(seen.iter().map(|request| request.connection).collect::<Vec<_>>(), [0, 0, 0]);
    thread::scope(|scope| {
        let retried = scope.spawn(|| api.get("/api/v1/busy").send().unwrap_err());
        clock.until_waiting(|waits| waits.len() == 1);
        clock.advance(Duration::from_secs(1));
        assert_eq!(retried.join().unwrap().status(), Some(503));
    });
    assert_eq!(service.requests_to("busy").len(), 2);
}

#[test]
fn a_service_clients_api_ends_with_it() {
    let service = Service::start(healthy_service);
    let client = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap();
    let api = client.with_timeout_operation(Some(Duration::from_secs(30))).api();
    api.get("/api/v1/healthz").send().unwrap();
    assert_eq!(service.requests_to("create_session").len(), 1);
    assert_eq!(service.requests()[0].connection, service.requests_to("healthz")[0].connection);
    client.close(Duration::from_secs(30));
    assert_eq!(api.get("/api/v1/healthz").send().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn an_api_keeps_its_session_open() {
    let service = Service::start(healthy_service);
    let api = ServiceClient::connect(service.config().build_with(|_| None).unwrap()).unwrap().api();
    api.get("/api/v1/healthz").send().unwrap();
    drop(api);
    service.wait_for_disconnect(0);
}

#[test]
fn an_id_reaches_the_server_as_one_segment() {
    let server = MockServer::start();
    let api = api(mock::config(&server));
    for (id, expected) in [
        ("a/b", "a%2Fb"),
        ("a?b", "a%3Fb"),
        ("a#b", "a%23b"),
        ("..", "%2E%2E"),
        ("../../x", "..%2F..%2Fx"),
        ("a b", "a%20b"),
        ("ünïcode✓", "%C3%BCn%C3%AFcode%E2%9C%93"),
        ("100%2F", "100%252F"),
    ] {
        let mock = respond(&server, GET, &format!("training_runs/{expected}/checkpoints?limit=1"), |then| then);
        let path = Path::new("/api/v1/training_runs/").segment(id).segment("checkpoints");
        api.get(path).query("limit", 1).send().unwrap();
        mock.assert();
    }
}

#[test]
fn invalid_requests_are_refused_before_sending() {
    let server = MockServer::start();
    let anything = anything(&server);
    let api = api(mock::config(&server));
    let not_json = std::collections::BTreeMap::from([((1, 2), 3)]);
    for (request, expected) in [
        (api.get("http://other/y"), "the path names a host"),
        (api.get("//other/y"), "the path names a host"),
        (api.get(Path::new("/api/v1/samplers").segment("")), "an id in the path is empty"),
        (api.get("/x").json(&1), "a GET request cannot have a body"),
        (api.get("/x").header("bad name", "1"), "the header \"bad name\" has characters"),
        (api.get("/x").header("x-line", "a\nb"), "the header \"x-line\" has characters"),
        (api.with_header("x-line", "a\nb").get("/x"), "the header \"x-line\" has characters"),
        (api.post("/x").idempotency_key("a\nb"), "an idempotency key must be ASCII text"),
        (api.post("/x").json(&not_json), "the request cannot be written as JSON"),
    ] {
        let error = request.send().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    anything.assert_calls(0);
}

#[test]
fn errors_name_the_path_without_its_query() {
    let server = MockServer::start();
    let run = respond(&server, GET, "training_runs/x?token=secret", |then| {
        then.status(404).json_body(json!({"detail": "no such run"}))
    });
    let error = api(mock::config(&server)).get("/api/v1/training_runs/x?token=secret").send().unwrap_err();
    let expected = "GET /api/v1/training_runs/x: the server returned 404: no such run";
    assert!(error.to_string().starts_with(expected), "{error}");
    assert!(!error.to_string().contains("secret"));
    run.assert();
}

/// In real time: 100 ms.
#[test]
fn a_request_may_have_its_own_timeouts() {
    let service = Service::start(|_| Reply::Silence);
    let api = api(service.config());
    let short = Duration::from_millis(100);
    let error = api.get("/api/v1/x").timeout_operation(Some(short)).send().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
    let error = api.get("/api/v1/x").timeout_idle(short).send().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Wait));
    let error = api.with_timeout_operation(Some(short)).get("/api/v1/x").send().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Limit::Operation));
}

#[test]
fn a_response_has_status_headers_and_raw_body() {
    let replies = Mutex::new(VecDeque::from([
        Reply::with_headers(503, &[("retry-after-ms", "1500")], &json!({})),
        Reply::Full { status: 201, headers: vec![("X-Made", "yes".to_owned())], body: b"[1, 2 ]".to_vec() },
    ]));
    let service = Service::start(move |_| replies.lock().unwrap().pop_front().unwrap());
    let clock = ManualClock::new();
    let api = Api::new(service.config().clock(clock.clock()).build_with(|_| None).unwrap()).unwrap();
    let response = thread::scope(|scope| {
        let call = scope.spawn(|| api.post("/api/v1/x").send().unwrap());
        clock.until_waiting(|waits| waits.len() == 1);
        clock.advance(Duration::from_millis(1500));
        call.join().unwrap()
    });
    assert_eq!((response.status(), response.attempts()), (201, 2));
    // The manual clock follows the real one while the client waits for a socket.
    assert!(response.elapsed() >= Duration::from_millis(1500));
    assert_eq!(response.header("x-made"), Some("yes"));
    assert_eq!(response.headers().find(|(name, _)| *name == "x-made"), Some(("x-made", "yes")));
    assert_eq!(response.json::<Vec<u32>>().unwrap(), [1, 2]);
    assert_eq!(response.bytes(), b"[1, 2 ]");
    assert_eq!(response.into_bytes(), b"[1, 2 ]");
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Shape {
    Promise { request_id: String },
    Done { path: String },
}

#[test]
fn a_response_is_read_in_any_form() {
    const JSON: &str = "application/json";
    let server = MockServer::start();
    let mocks = responding(
        &server,
        [
            (JSON, br#"{"request_id": "r", "extra": 1}"#.as_slice()),
            (JSON, br#"{"path": "tinker://x"}"#),
            ("text/plain; charset=utf-8", "grün".as_bytes()),
            ("text/plain", b"True\n"),
            (JSON, b"false"),
            ("application/gzip", b"\x1f\x8b\x00\xff"),
            (JSON, b"null"),
        ],
    );
    let api = api(mock::config(&server));
    let mut number = 0..;
    let mut next = || api.get(format!("/api/v1/x/{}", number.next().unwrap())).send().unwrap();
    assert_eq!(next().json::<Shape>().unwrap(), Shape::Promise { request_id: "r".into() });
    assert_eq!(next().json::<Shape>().unwrap(), Shape::Done { path: "tinker://x".into() });
    assert_eq!(next().text().unwrap(), "grün");
    assert!(next().boolean().unwrap());
    assert!(!next().boolean().unwrap());
    assert_eq!(next().bytes(), b"\x1f\x8b\x00\xff");
    assert_eq!(next().json::<Option<Shape>>().unwrap(), None);
    mocks.iter().for_each(Mock::assert);
}

#[test]
fn an_error_names_the_expected_form() {
    const JSON: &str = "application/json";
    let server = MockServer::start();
    let mocks = responding(
        &server,
        [
            (JSON, br#"{"id": 7}"#.as_slice()),
            (JSON, br#"{"id": 7}"#),
            (JSON, br#"[1, "b"]"#),
            ("text/html", b"<html>"),
            (JSON, b""),
            (JSON, b"\"true\""),
            ("text/plain", b"\xff\xfe"),
        ],
    );
    let api = api(mock::config(&server));
    let mut number = 0..;
    let mut next = || api.get(format!("/api/v1/x/{}", number.next().unwrap())).send().unwrap();
    let errors = [
        (next().json::<Shape>().unwrap_err(), "expected Shape"),
        (next().json::<Shape>().unwrap_err(), "(status 200, starts with \"{\\\"id\\\": 7}\")"),
        (next().json::<Vec<u32>>().unwrap_err(), "invalid type: string \"b\", expected u32"),
        (next().json::<Shape>().unwrap_err(), "the response is not JSON but text/html"),
        (next().json::<Option<Shape>>().unwrap_err(), "the response is empty (status 200) (expected Option<Shape>)"),
        (next().boolean().unwrap_err(), "the response is not the expected boolean"),
        (next().text().unwrap_err(), "the response is not the expected text: invalid utf-8"),
    ];
    for (number, (error, expected)) in errors.into_iter().enumerate() {
        assert_eq!((error.kind(), error.status()), (ErrorKind::Decode, Some(200)), "{error}");
        assert_eq!(error.operation(), Some(&*format!("GET /api/v1/x/{number}")));
        assert!(error.to_string().contains(expected), "{error}");
    }
    mocks.iter().for_each(Mock::assert);
}

#[test]
fn a_response_may_be_empty() {
    let server = MockServer::start();
    let delete = respond(&server, DELETE, "x", |then| then.status(204));
    let response = api(mock::config(&server)).delete("/api/v1/x").send().unwrap();
    assert_eq!((response.status(), response.bytes()), (204, &b""[..]));
    delete.assert();
}

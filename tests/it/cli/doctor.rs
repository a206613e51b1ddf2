//! `tinkex doctor`, against everything that can be wrong.

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use httpmock::Method::{GET, POST};
use httpmock::{Mock, MockServer};
use serde_json::{Value, json};
use tinkex::local::LocalServer;

use super::program::{Volatile, golden, tinkex};
use crate::support::mock::{endpoint, respond, session};
use crate::support::{Service, healthy_service, refusing_proxy, tunnelling_proxy};

#[test]
fn the_local_server_passes_all_checks() {
    let server = LocalServer::start().unwrap();
    let runs = ["doctor", "doctor -f json"].map(|words| tinkex(words).at(&server.base_url()).run());
    assert!(runs.iter().all(|done| done.code == Some(0)), "{runs:?}");
    golden("doctor", &runs, &Volatile::default().url(&server.base_url()));
}

#[test]
fn the_exit_code_says_what_is_at_fault() {
    let server = LocalServer::start().unwrap();
    let runs = [
        tinkex("doctor").at(&server.base_url()).without_env("TINKER_API_KEY").run(),
        tinkex("doctor").at("nonsense").run(),
        tinkex("doctor -f json").at(&format!("http://{}.test", "x".repeat(64))).run(),
    ];
    assert_eq!(runs.each_ref().map(|done| done.code), [Some(7), Some(2), Some(3)], "{runs:?}");
    assert!(runs[2].stdout.contains("cannot resolve xxx"), "{:?}", runs[2]);
    golden("doctor_settings", &runs[..2], &Volatile::default().url(&server.base_url()));
}

#[test]
fn a_closed_port_fails_the_connection_check() {
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed_port}");
    let done = tinkex("doctor").at(&url).run();
    assert_eq!(done.code, Some(4));
    golden("doctor_connection", &[done], &Volatile::default().url(&url));
}

/// Three descriptors are the standard streams, and two those of the signal handler.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_open_files_is_named() {
    for host in ["127.0.0.1", "localhost"] {
        let script = format!("ulimit -n 5; exec \"$0\" doctor -f json --base-url http://{host}:1");
        let run = std::process::Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_tinkex")])
            .env("TINKER_API_KEY", "tml-k")
            .env("NO_PROXY", "*")
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&run.stdout).unwrap();
        assert_eq!(run.status.code(), Some(9), "{document}");
        assert!(document.to_string().contains("Too many open files") && document.to_string().contains("ulimit -n"));
    }
}

#[test]
fn a_proxy_at_fault_is_named() {
    let (port, tunnels) = refusing_proxy("407 Proxy Authentication Required");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (proxy, words) in [
        (format!("127.0.0.1:{port}"), format!("proxy 127.0.0.1:{port} answered 407")),
        (closed.to_string(), format!("proxy {closed} refused")),
    ] {
        let with_login = format!("http://me:secret@{proxy}");
        let done = tinkex("doctor -f json").at("http://service.invalid").env("HTTP_PROXY", &with_login).run();
        let document: Value = serde_json::from_str(&done.stdout).unwrap();
        let check = find(&document, "proxy");
        assert_eq!((done.code, &check["status"]), (Some(5), &json!("failed")), "{document}");
        assert!(check["detail"].as_str().unwrap().contains(&words), "{check}");
        assert!(check["hint"].as_str().unwrap().contains(&format!("http://{proxy} (HTTP_PROXY)")), "{check}");
        assert!(!done.stdout.contains("secret") && !done.stderr.contains("secret"), "{done:?}");
    }
    assert_eq!(tunnels.lock().unwrap().len(), 1);
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
#[test]
fn a_private_authority_is_trusted_where_configured() {
    let service = Service::start(healthy_service);
    let (port, _) = crate::tls::tls_in_front_of(&service, false);
    let url = format!("https://localhost:{port}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("company.pem");
    std::fs::write(&file, crate::tls::ROOT).unwrap();
    let tls = |done: super::program::Done| {
        let document: Value = serde_json::from_str(&done.stdout).unwrap();
        (done.code, find(&document, "tls")["status"].as_str().unwrap().to_owned(), document)
    };
    let (code, status, document) = tls(tinkex("doctor -f json").at(&url).run());
    assert_eq!((code, &*status), (Some(6), "failed"));
    assert!(document.to_string().contains("certificate not trusted") && document.to_string().contains("SSL_CERT_FILE"));
    let file = file.to_str().unwrap();
    let trusting = [
        tinkex("doctor -f json").at(&url).env("SSL_CERT_FILE", file),
        tinkex("doctor -f json").at(&url).env("SSL_CERT_DIR", directory.path().to_str().unwrap()),
        tinkex(&format!("doctor -f json --ca-certificate {file}")).at(&url),
    ];
    for program in trusting {
        let (_, status, document) = tls(program.run());
        assert_eq!(status, "ok", "{document}");
    }
    for (done, words) in [
        (
            tinkex("run list --ca-certificate /no/such/file").at(&url).run(),
            "--ca-certificate: /no/such/file cannot be read",
        ),
        (
            tinkex("run list").at(&url).env("SSL_CERT_FILE", "/no/such/file").run(),
            "SSL_CERT_FILE: /no/such/file cannot be read",
        ),
    ] {
        assert!(done.code == Some(2) && done.stderr.contains(words), "{done:?}");
    }
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
#[test]
fn another_hosts_or_expired_certificates_are_refused() {
    use crate::tls::{EXPIRED_ROOT, ROOT, expired_tls_in_front_of, faults::counted, tls_in_front_of};

    let service = Service::start(healthy_service);
    let other = counted("127.0.0.2", tls_in_front_of(&service, false).0).0;
    let expired = expired_tls_in_front_of(&service);
    let directory = tempfile::tempdir().unwrap();
    for (name, url, root, words, hint) in [
        ("other.pem", format!("https://127.0.0.2:{other}"), ROOT, "it is that of another host", "TINKER_BASE_URL"),
        ("expired.pem", format!("https://localhost:{expired}"), EXPIRED_ROOT, "it has expired", "clock"),
    ] {
        let file = directory.path().join(name);
        std::fs::write(&file, root).unwrap();
        let trusting = format!("--ca-certificate {}", file.display());
        let done = tinkex(&format!("doctor -f json {trusting}")).at(&url).run();
        let document: Value = serde_json::from_str(&done.stdout).unwrap();
        let check = find(&document, "tls");
        assert_eq!((done.code, &check["status"]), (Some(6), &json!("failed")), "{document}");
        assert!(check["detail"].as_str().unwrap().contains(&format!("certificate not trusted: {words}")), "{check}");
        assert!(check["hint"].as_str().unwrap().contains(hint), "{check}");
        let listed = tinkex(&format!("run list {trusting}")).at(&url).run();
        assert!(listed.code != Some(0) && listed.stderr.contains(words), "{listed:?}");
    }
    assert!(service.requests().is_empty());
}

/// What `tinkex doctor` requests of a service with this clock: its health and its capabilities. One of them may be refused.
fn endpoints<'a>(server: &'a MockServer, date: SystemTime, refuse: Option<(&str, u16)>) -> [Mock<'a>; 2] {
    let models = json!({ "supported_models": [{ "model_name": "tinkex/bytes-tiny" }] });
    [("healthz", json!({ "status": "ok" })), ("get_server_capabilities", models)].map(|(path, body)| {
        respond(server, GET, path, |then| match refuse.filter(|(refused, _)| *refused == path) {
            Some((_, status)) => then.status(status).json_body(json!({ "detail": "not for you" })),
            None => then.header("date", httpdate::fmt_http_date(date)).json_body(body),
        })
    })
}

/// What the tokenizer check requests: a session, and in it a sampler of this model.
fn sampler_endpoints<'a>(server: &'a MockServer, model: &str) -> [Mock<'a>; 2] {
    let sampler = json!({ "session_id": "session-1", "sampling_session_seq_id": 0, "base_model": model });
    let sampler = server.mock(|when, then| {
        endpoint(when, POST, "create_sampling_session").json_body_includes(sampler.to_string());
        then.json_body(json!({ "sampling_session_id": "sampler-0" }));
    });
    [session(server), sampler]
}

fn find<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["checks"].as_array().unwrap().iter().find(|check| check["check"] == name).unwrap()
}

/// The exit code, and the status and text of one check.
fn check(server: &MockServer, name: &str) -> (Option<i32>, String, String) {
    let done = tinkex("doctor -f json").at(&server.base_url()).run();
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(document["ok"], done.code == Some(0));
    let check = find(&document, name);
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (done.code, text("status"), text("detail") + " " + &text("hint"))
}

#[test]
fn a_rejected_key_fails_access_not_server() {
    let server = MockServer::start();
    let now = tinkex::clock::Clock::system().wall();
    let [health, capabilities] = endpoints(&server, now, Some(("get_server_capabilities", 401)));
    assert_eq!(check(&server, "server").1, "ok");
    let (code, status, said) = check(&server, "access");
    assert!(
        said.contains("rejected the key: ") && said.contains("not for you") && said.contains("TINKER_API_KEY"),
        "{said}"
    );
    assert_eq!((code, status.as_str()), (Some(7), "failed"));
    assert_eq!((health.calls(), capabilities.calls()), (2, 2));
}

#[test]
fn a_server_that_is_down_skips_access() {
    let server = MockServer::start();
    let now = tinkex::clock::Clock::system().wall();
    let [health, capabilities] = endpoints(&server, now, Some(("healthz", 503)));
    assert_eq!((check(&server, "server").0, &*check(&server, "server").1), (Some(8), "failed"));
    assert_eq!(check(&server, "access").1, "skipped");
    assert!(health.calls() >= 2);
    capabilities.assert_calls(0);
}

#[test]
fn an_html_page_fails_the_server_check() {
    let server = MockServer::start();
    let page = "<!DOCTYPE html><html>Welcome</html>";
    let health = respond(&server, GET, "healthz", |then| then.header("content-type", "text/html").body(page));
    let (code, status, said) = check(&server, "server");
    assert_eq!((code, status.as_str()), (Some(8), "failed"));
    assert!(said.contains("text/html") && said.contains("check that TINKER_BASE_URL"), "{said}");
    health.assert();
}

#[test]
fn a_skewed_clock_fails_its_check() {
    let now = tinkex::clock::Clock::system().wall();
    let day = Duration::from_secs(24 * 3600);
    let server = MockServer::start();
    sampler_endpoints(&server, "tinkex/bytes-tiny");
    let mut mocks = endpoints(&server, now, None);
    let (code, status, _) = check(&server, "clock");
    assert_eq!((code, status.as_str()), (Some(0), "ok"));
    for (theirs, said) in [(now - day, "ahead of the server's clock"), (now + day, "behind the server's clock")] {
        mocks.iter_mut().for_each(Mock::delete);
        mocks = endpoints(&server, theirs, None);
        let (code, status, detail) = check(&server, "clock");
        assert_eq!((code, status.as_str()), (Some(1), "failed"));
        assert!(detail.contains(said) && detail.contains("NTP"), "{detail}");
    }
}

#[test]
fn a_server_without_tls_fails_its_check() {
    // It responds to the TLS handshake as to a malformed request.
    let service = Service::start(healthy_service);
    let url = service.url().replace("http://", "https://");
    let done = tinkex("doctor -f json").at(&url).run();
    assert_eq!(done.code, Some(6));
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    let status = |name: &str| find(&document, name)["status"].as_str().unwrap().to_owned();
    assert_eq!(["connection", "tls", "server"].map(status), ["ok", "failed", "skipped"]);
    assert!(service.requests().is_empty());
}

#[test]
fn a_missing_tokenizer_is_named_with_its_path() {
    let server = MockServer::start();
    let [health, capabilities] = endpoints(&server, tinkex::clock::Clock::system().wall(), None);
    let [session, sampler] = sampler_endpoints(&server, "org/model");
    let done = tinkex("doctor -f json --model org/model").at(&server.base_url()).env("TINKEX_CACHE", "/no/cache").run();
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    let check = find(&document, "tokenizer");
    assert_eq!((done.code, &check["status"]), (Some(1), &json!("failed")));
    assert!(check.to_string().contains("/no/cache/tokenizers/org--model/tokenizer.json"), "{check}");
    [health, capabilities, session, sampler].iter().for_each(Mock::assert);
}

#[test]
fn the_proxy_resolves_the_host_name() {
    let server = MockServer::start();
    let [health, capabilities] = endpoints(&server, tinkex::clock::Clock::system().wall(), None);
    let [session, sampler] = sampler_endpoints(&server, "tinkex/bytes-tiny");
    let target = server.address().to_string();
    let (port, tunnels) = tunnelling_proxy(move |_| target.clone());
    let proxy = format!("http://127.0.0.1:{port}");
    let done = tinkex("doctor -f json").at("http://service.invalid").env("HTTP_PROXY", &proxy).run();
    let document: Value = serde_json::from_str(&done.stdout).unwrap();
    let status = |name: &str| find(&document, name)["status"].as_str().unwrap().to_owned();
    let expected = ["skipped", "skipped", "ok", "ok"];
    assert_eq!(["dns", "connection", "server", "access"].map(status), expected, "{document}");
    assert_eq!(done.code, Some(0));
    let heads = tunnels.lock().unwrap();
    assert!(!heads.is_empty() && heads.iter().all(|head| head.starts_with("CONNECT service.invalid:80 ")), "{heads:?}");
    [health, capabilities, session, sampler].iter().for_each(Mock::assert);
}

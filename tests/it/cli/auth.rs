//! `tinkex auth`, with a home directory of its own.

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::program::{Done, Program, Volatile, golden, read_to_end, tinkex, words};
use crate::support::{Reply, Service, healthy_service};

const STORED: &str = "tml-stored-Xq7Zk";

/// A service that knows the stored key, and gives a token for it.
fn service() -> Service {
    Service::start_current(|request| match (&*request.method, &*request.path) {
        (_, path) if path.starts_with("auth/apikey") && request.header("x-api-key") != Some(STORED) => {
            Reply::Json(401, json!({"detail": "Invalid API key"}))
        }
        ("GET", "auth/apikey/me") => Reply::ok(json!({
            "key_id": 7, "name": "laptop", "note": "for tests",
            "details": {"org_details": {"name": "Acme"}, "user_details": {"email": "me@example.com"}},
        })),
        ("DELETE", "auth/apikey/me") => Reply::no_content(),
        (_, "client/config") => Reply::ok(json!({"pjwt_auth_enabled": true})),
        // {"iat":4000000000,"exp":4000003600,"sub":"tml:organization_user:u-1","org_id":"o-1","email":"golden@example.com"}
        (_, "auth/token") => Reply::ok(
            json!({"jwt": "eyJhbGciOiJIUzI1NiJ9.eyJpYXQiOjQwMDAwMDAwMDAsImV4cCI6NDAwMDAwMzYwMCwic3ViIjoidG1sOm9yZ2FuaXphdGlvbl91c2VyOnUtMSIsIm9yZ19pZCI6Im8tMSIsImVtYWlsIjoiZ29sZGVuQGV4YW1wbGUuY29tIn0.c2ln"}),
        ),
        _ => healthy_service(request),
    })
}

/// The program at this service, in this home directory, without a key in the environment.
fn at_home(arguments: &str, service: &Service, home: &TempDir) -> Program {
    tinkex(arguments).at(&service.url()).without_env("TINKER_API_KEY").env("HOME", home.path().to_str().unwrap())
}

fn with_stdin(mut program: Program, text: &str) -> Done {
    program.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let words = words(&program.command);
    let mut child: Child = program.command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let stdout = read_to_end(child.stdout.take().unwrap());
    let stderr = read_to_end(child.stderr.take().unwrap());
    Done::new(words, child.wait().unwrap().code(), stdout, stderr)
}

fn assert_hidden(runs: &[Done]) {
    for done in runs {
        assert!(!done.stdout.contains("Xq7Zk") && !done.stderr.contains("Xq7Zk"), "{done:?}");
    }
}

#[test]
fn a_login_serves_until_the_logout() {
    let (service, home) = (service(), TempDir::new().unwrap());
    let run = |arguments: &str| at_home(arguments, &service, &home).run();
    let runs = [
        run("auth status"),
        with_stdin(at_home("auth login --key-stdin", &service, &home), "tml-wrong\n"),
        with_stdin(at_home("auth login --key-stdin", &service, &home), "\n"),
        run("auth login"),
        with_stdin(at_home("auth login --key-stdin", &service, &home), &format!(" {STORED}\n")),
        run("auth status"),
        run("auth status -f json"),
        run("auth whoami"),
        run("auth whoami -f json"),
        run("auth logout"),
        run("auth logout"),
        run("auth status"),
    ];
    let volatile = Volatile::default().url(&service.url()).value(home.path().to_str().unwrap(), "HOME");
    golden("auth", &runs, &volatile);
    assert_hidden(&runs);
    assert!(service.requests().iter().all(|request| request.method != "DELETE"), "a key of the user's own was revoked");
}

#[cfg(unix)]
#[test]
fn only_the_owner_can_read_the_key() {
    use std::os::unix::fs::PermissionsExt as _;
    let (service, home) = (service(), TempDir::new().unwrap());
    with_stdin(at_home("auth login --key-stdin", &service, &home), STORED);
    let directory = home.path().join(".tinker");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join("credentials.json"))), (0o700, 0o600));
}

#[test]
fn a_generated_key_is_revoked() {
    let (service, home) = (service(), TempDir::new().unwrap());
    let file = home.path().join(".tinker/credentials.json");
    fs::create_dir(file.parent().unwrap()).unwrap();
    let entry = json!({"type": "generated", "key": STORED, "name": "browser"});
    fs::write(&file, json!({"version": 1, "default": "k", "keys": {"k": entry}}).to_string()).unwrap();
    let done = at_home("auth logout -f json", &service, &home).run();
    assert_eq!((&done.json()["revoked"], &done.json()["name"]), (&json!(true), &json!("browser")));
    assert_hidden(&[done]);
    assert_eq!(service.requests_to("auth/apikey/me").len(), 1);
    let left: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(left, json!({"version": 1, "default": null, "keys": {}}));
}

#[test]
fn a_key_of_another_service_is_not_revoked() {
    for status in [401, 404, 405] {
        let service = Service::start(move |_| Reply::Json(status, json!({"detail": "no"})));
        let home = TempDir::new().unwrap();
        let file = home.path().join(".tinker/credentials.json");
        fs::create_dir(file.parent().unwrap()).unwrap();
        let entry = json!({"type": "generated", "key": STORED, "name": "browser"});
        let store = json!({"version": 1, "default": "k", "keys": {"k": entry}}).to_string();
        fs::write(&file, &store).unwrap();
        assert_eq!(at_home("auth logout -f json", &service, &home).run().json()["revoked"], false, "{status}");
        fs::write(&file, &store).unwrap();
        let done = at_home("auth logout", &service, &home).run();
        assert!(done.stdout.contains("it is not revoked"), "{done:?}");
    }
}

#[test]
fn a_service_without_key_checks_is_believed() {
    let (service, home) = (Service::start(|_| Reply::Json(404, json!({}))), TempDir::new().unwrap());
    let done = with_stdin(at_home("auth login --key-stdin -f json", &service, &home), STORED);
    assert_eq!(done.json()["checked"], false);
    let status = at_home("auth status -f json", &service, &home).run().json();
    assert_eq!((&status["source"], &status["base_url"]), (&json!("~/.tinker/credentials.json"), &json!(service.url())));
    for (name, value) in [("TINKER_CREDENTIAL_CMD", "echo tml-printed"), ("TINKER_API_KEY", "tml-variable")] {
        let status = at_home("auth status -f json", &service, &home).env(name, value).run().json();
        assert_eq!(status["source"], name);
    }
}

#[test]
fn the_project_is_that_of_the_session() {
    let service = Service::start(healthy_service);
    for arguments in
        ["--project p-1 sample --model tinkex/bytes-tiny hello", "sample --model tinkex/bytes-tiny hello --project p-1"]
    {
        tinkex(arguments).at(&service.url()).env("TINKER_PROJECT_ID", "p-2").run();
    }
    tinkex("sample --model tinkex/bytes-tiny hello").at(&service.url()).env("TINKER_PROJECT_ID", "p-2").run();
    let sessions = service.requests_to("create_session");
    let projects: Vec<_> = sessions.iter().map(|request| request.body["project_id"].as_str().unwrap()).collect();
    assert_eq!(projects, ["p-1", "p-1", "p-2"]);
}

//! Every way in which a command can fail: its exit code and stderr, and an empty stdout.

use std::net::TcpListener;

use httpmock::Method::GET;
use httpmock::MockServer;
use serde_json::{Value, json};

use super::program::{Done, KEY, Volatile, golden, tinkex};
use crate::support::mock::{anything, respond};

fn fails(done: Done, code: i32) -> Done {
    assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{done:?}");
    assert!(!done.stderr.is_empty(), "{done:?}");
    done
}

#[test]
fn invalid_usage_exits_2_without_a_request() {
    let server = MockServer::start();
    let anything = anything(&server);
    let runs = [
        "",
        "nope",
        "run",
        "run lst",
        "run info",
        "run list --limit -1",
        "train data.jsonl --learning-rate -1",
        "sample --model m --temperature -1 hi",
        "run list --format yaml",
        "checkpoint list --columns id,nope",
        "checkpoint set-ttl tinker://run/weights/a",
        "session export-trace s --url-only --output o",
        "checkpoint info bad-path",
        "checkpoint delete",
        "checkpoint delete tinker://run/weights/a",
        "checkpoint delete tinker://run/weights/a --format json",
        "serve --model tinkex/bytes-huge",
        "serve --model a.gguf=tinkex/bytes-tiny",
        "serve --weights f16",
        "serve --model tinkex/bytes-tiny --threads 2",
        "serve --chaos asample:429*many",
        "serve --chaos-seed 1",
        "serve --flag no_such=1",
        "serve --flag sample_no_retries=maybe",
        "serve --token-time 0s",
        "completions tcsh",
    ];
    let runs = runs.map(|words| fails(tinkex(words).at(&server.base_url()).run(), 2));
    anything.assert_calls(0);
    golden("errors_usage", &runs, &Volatile::default());
}

#[test]
fn invalid_settings_exit_2() {
    let list = || tinkex("run list --format json");
    let runs = [
        list().without_env("TINKER_API_KEY").run(),
        list().env("TINKER_API_KEY", " ").run(),
        list().at("example.com").run(),
        tinkex("run list --base-url ftp://example.com").run(),
        list().env("TINKER_API_KEY", "tml-\u{7f}").run(),
    ];
    golden("errors_settings", &runs.map(|done| fails(done, 2)), &Volatile::default());
}

#[test]
fn a_failed_request_exits_1_with_the_reason() {
    let server = MockServer::start();
    let run = |id: &str, status: u16, body: Value| {
        respond(&server, GET, &format!("training_runs/{id}"), |then| {
            then.status(status).header("x-should-retry", "false").json_body(body)
        })
    };
    let mocks = [
        (3, run("missing", 404, json!({ "detail": "Training run not found" }))),
        (1, run("refused", 401, json!({ "detail": "invalid key" }))),
        (1, run("invalid", 422, json!({ "detail": [{ "loc": ["path", "run"], "msg": "not a run" }] }))),
        (1, run("down", 503, json!({ "detail": "down for maintenance\n\u{1b}[2Jtomorrow" }))),
        (2, run("shape", 200, json!({ "training_run_id": 7 }))),
    ];
    let runs = ["missing", "missing -v", "refused", "invalid", "down", "shape", "shape -v", "missing -f json"];
    let runs = runs.map(|run| fails(tinkex(&format!("run info {run}")).at(&server.base_url()).run(), 1));
    golden("errors_refused", &runs, &Volatile::default());
    mocks.iter().for_each(|(calls, mock)| mock.assert_calls(*calls));
}

#[test]
fn an_unknown_checkpoint_exits_1() {
    let server = MockServer::start();
    let list =
        respond(&server, GET, "training_runs/run/checkpoints", |then| then.json_body(json!({ "checkpoints": [] })));
    let done = tinkex("checkpoint info tinker://run/weights/a").at(&server.base_url()).run();
    golden("errors_no_such_checkpoint", &[fails(done, 1)], &Volatile::default());
    list.assert();
}

#[test]
fn an_unreachable_service_exits_1() {
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{closed_port}");
    let done = tinkex("run list -v").at(&url).run();
    golden("errors_unreachable", &[fails(done, 1)], &Volatile::default().url(&url));
}

#[test]
fn long_commands_check_the_service_first() {
    let closed_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for words in
        ["sample --model m hi", "checkpoint download tinker://run/weights/a", "train examples/data/piglatin.jsonl"]
    {
        let done = fails(tinkex(words).at(&format!("http://{closed_port}")).env("TINKER_LOG", "debug").run(), 1);
        // The library itself would make ten more attempts, for about a minute.
        assert_eq!(done.stderr.matches("retrying in").count(), 2, "{done:?}");
    }
}

#[test]
fn an_address_in_use_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = tinkex(&format!("serve --addr {address}")).run();
    golden("errors_serve", &[fails(done, 1)], &Volatile::default().value(&address, "HOST-AND-PORT"));
}

#[test]
fn the_log_goes_to_stderr_without_the_key() {
    let server = MockServer::start();
    let list = respond(&server, GET, "sessions?limit=20&offset=0", |then| then.json_body(json!({ "sessions": [] })));
    let run = |log: &str| tinkex("session list -f json").at(&server.base_url()).env("TINKER_LOG", log).run();
    let loud = run("trace,ureq=trace");
    assert_eq!(loud.code, Some(0));
    assert_eq!(loud.stdout, "{\n  \"sessions\": []\n}\n");
    assert!(loud.stderr.contains("TRACE ureq"), "{loud:?}");
    assert_eq!(run("off").stderr, "");
    list.assert_calls(2);
}

#[test]
fn a_repeated_key_is_masked() {
    let server = MockServer::start();
    let detail = serde_json::json!({"detail": format!("the key {KEY} is unknown")});
    respond(&server, GET, "sessions?limit=20&offset=0", |then| then.status(401).json_body(detail));
    let done = fails(tinkex("session list -v").at(&server.base_url()).env("TINKER_LOG", "trace").run(), 1);
    assert!(done.stderr.contains("is unknown") && !done.stderr.contains(KEY), "{done:?}");
}

#[test]
fn responses_are_not_logged_unasked() {
    const URL: &str = "http://storage/trace?sig=Sig7Hidden";
    let server = MockServer::start();
    let body = serde_json::json!({"status": "ready", "url": URL});
    respond(&server, GET, "sessions/s/trace_export", |then| then.json_body(body));
    let done = tinkex("session export-trace s --url-only").at(&server.base_url()).env("TINKER_LOG", "trace").run();
    assert_eq!(done.stdout, format!("{URL}\n"));
    assert!(!done.stderr.contains("ureq") && !done.stderr.contains("Sig7Hidden"), "{done:?}");
}

//! Commands for what services of 2026 store, against a scripted service.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::download::names;
use super::program::{Done, Volatile, golden, tinkex};
use crate::support::{RecordedRequest, Reply, Service, healthy_service};

const DAY: &str = "2020-01-01T00:00:00Z";

fn checkpoint(id: &str, kind: &str, time: &str, more: Value) -> Value {
    let mut checkpoint = json!({
        "checkpoint_id": id, "checkpoint_type": kind, "time": time, "tinker_path": format!("tinker://run/{id}"),
        "size_bytes": 2048,
    });
    checkpoint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    checkpoint
}

fn checkpoints() -> Value {
    json!({"checkpoints": [
        checkpoint("weights/1", "training", DAY, json!({"expires_at": "2999-01-01T00:00:00Z"})),
        checkpoint("weights/2", "training", "2020-02-01T00:00:00Z", json!({"user_metadata": {"purpose": "eval", "seed": "1"}})),
        checkpoint("sampler_weights/3", "sampler", DAY, json!({"public": true, "expires_at": "2020-01-02T00:00:00Z"})),
        checkpoint("external_weights/4", "external", DAY, json!({"size_bytes": null})),
        checkpoint("5", "later", DAY, json!({})),
    ]})
}

fn usage() -> Value {
    let event = |info: Value| {
        json!({
            "bucket_start": "2025-11-01T12:00:00Z", "bucket_end": "2025-11-01T13:00:00Z", "base_model": "Qwen/Qwen3-8B",
            "user_name": "=A, \"B\"", "session_id": "s-1", "estimated_cost_usd": 0.125, "event_info": info,
        })
    };
    json!({
        "data": [
            event(json!({"type": "training", "token_count": 123})),
            event(json!({"type": "sampling_prefill", "token_count": 1, "cached": true})),
            event(json!({"type": "storage", "gigabyte_hours": 0.5, "free": true})),
            event(json!({"type": "later", "count": 2})),
        ],
        "sessions": {"s-1": {"user_metadata": {"k": "v"}}},
        "cost_data_through": "2025-11-01T13:00:00Z",
    })
}

/// A service with these checkpoints, models and bills, which takes every change.
fn service() -> Service {
    Service::start(|request| match (&*request.method, request.path.split('?').next().unwrap()) {
        ("GET", "training_runs/run/checkpoints") => Reply::ok(checkpoints()),
        ("GET", "checkpoints") => {
            let mut page = checkpoints();
            page["cursor"] = json!({"offset": 0, "limit": 100, "total_count": 5});
            Reply::ok(page)
        }
        ("GET", "training_runs") => Reply::ok(json!({
            "training_runs": [{
                "training_run_id": "run", "base_model": request.path, "model_owner": "me", "is_lora": true,
                "last_request_time": DAY, "user_metadata": {"k": "v"},
                "last_checkpoint": checkpoint("weights/1", "training", DAY, json!({})),
            }],
            "cursor": {"offset": 0, "limit": 20, "total_count": 1},
        })),
        ("GET", "get_server_capabilities") => Reply::ok(json!({"supported_models": [
            {"model_name": "Qwen/Qwen3-8B", "max_context_length": 32768, "trainable": true, "sampleable": false},
            {"model_name": "meta-llama/Llama-3.1-8B"},
            {},
        ]})),
        ("GET", "billing/usage/events") => Reply::ok(usage()),
        ("GET", "billing/usage/checkpoints/current") => Reply::ok(json!({
            "effective_rate_usd_per_gigabyte_month": 0.1,
            "data": [{
                "project_id": "p-1", "user_email": "a@b", "checkpoint_count": 2, "size_bytes": 3072,
                "size_gigabytes": 3e-6, "estimated_monthly_cost_usd": 0.0003,
            }],
        })),
        ("GET", "sessions/s-1") => Reply::ok(json!({
            "training_run_ids": ["run"], "sampler_ids": [], "display_name": "night run", "user_metadata": {"k": "v"},
        })),
        // Of 2025: without search.
        ("POST", "sessions/search") => Reply::Json(404, json!({"detail": "Not Found"})),
        ("PUT" | "DELETE", path) if path.contains("missing") => {
            Reply::Json(404, json!({"detail": "no such checkpoint"}))
        }
        ("PUT" | "DELETE", _) => Reply::no_content(),
        other => panic!("{other:?}"),
    })
}

fn in_both_formats(service: &Service, commands: &[&str]) -> Vec<Done> {
    let both = commands.iter().flat_map(|words| [(*words).to_owned(), format!("{words} --format json")]);
    both.map(|words| tinkex(&words).at(&service.url()).run()).collect()
}

/// The requests that change something, with their bodies.
fn changes(service: &Service) -> Vec<String> {
    let is_change = |request: &RecordedRequest| request.method != "GET";
    let shown = |request: RecordedRequest| format!("{} {} {}", request.method, request.path, request.body);
    service.requests().into_iter().filter(is_change).map(shown).collect()
}

#[test]
fn models_are_listed_by_part_of_their_name() {
    let service = service();
    let commands = ["model list", "model list qwen", "model list nothing"];
    golden("model", &in_both_formats(&service, &commands), &Volatile::default());
}

#[test]
fn lists_have_the_chosen_columns() {
    let service = service();
    let commands = [
        "checkpoint list",
        "checkpoint list --run-id run --limit 2 --columns id,expires,metadata",
        "run list -c id,checkpoint,sampler,metadata",
        "run list --accessible --project-id p-1 --columns model",
        "session info s-1",
    ];
    let runs = commands.map(|words| tinkex(words).at(&service.url()).run());
    golden("columns", &runs, &Volatile::default());
}

#[test]
fn lifetimes_are_set_for_each_checkpoint() {
    let service = service();
    let path = "tinker://run/weights/1";
    let runs = [
        format!("checkpoint set-ttl {path} tinker://run/external_weights/4 --ttl 7d"),
        format!("checkpoint set-ttl {path} --ttl 3600 --format json"),
        format!("checkpoint set-ttl {path} --remove"),
        format!("checkpoint set-ttl tinker://run/weights/missing {path} --ttl 90m"),
        format!("checkpoint set-ttl {path} --ttl 59m"),
        format!("checkpoint set-ttl {path} --ttl soon"),
        format!("checkpoint set-ttl {path} --ttl 7d --remove"),
        format!("checkpoint set-ttl {path}"),
    ];
    let runs = runs.map(|words| tinkex(&words).at(&service.url()).run());
    assert_eq!(runs.each_ref().map(|done| done.code), [0, 0, 0, 1, 2, 2, 2, 2].map(Some));
    golden("set_ttl", &runs, &Volatile::default());
    let one = "PUT training_runs/run/checkpoints/weights/1/ttl";
    assert_eq!(
        changes(&service),
        [
            format!("{one} {{\"ttl_seconds\":604800}}"),
            "PUT training_runs/run/checkpoints/external_weights/4/ttl {\"ttl_seconds\":604800}".to_owned(),
            format!("{one} {{\"ttl_seconds\":3600}}"),
            format!("{one} {{\"ttl_seconds\":null}}"),
            "PUT training_runs/run/checkpoints/weights/missing/ttl {\"ttl_seconds\":5400}".to_owned(),
            format!("{one} {{\"ttl_seconds\":5400}}"),
        ]
    );
}

#[test]
fn filters_choose_what_is_deleted() {
    let deleted = |words: &str| {
        let service = service();
        let done = tinkex(&format!("checkpoint delete {words} --yes --format json")).at(&service.url()).run();
        let paths = changes(&service).iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>();
        (done, paths)
    };
    let base = "training_runs/run/checkpoints/";
    for (words, expected) in [
        ("--run-id run --type training", vec!["weights/1", "weights/2"]),
        ("--before 2020-01-15 --type training", vec!["weights/1"]),
        ("--after 2020-01-01T00:00:01Z", vec!["weights/2"]),
        ("--type external --run-id run", vec!["external_weights/4"]),
        ("--type sampler --after 2021-01-01", vec![]),
    ] {
        let (done, paths) = deleted(words);
        assert_eq!(done.code, Some(0), "{done:?}");
        assert_eq!(paths, expected.iter().map(|id| format!("{base}{id}")).collect::<Vec<_>>(), "{words}");
        let document = done.json();
        assert_eq!(document["done"].as_array().unwrap().len(), expected.len());
        assert_eq!(document["failed"], json!([]));
    }
}

#[test]
fn a_hostile_path_cannot_control_the_terminal() {
    let service = Service::start(|request| match &*request.method {
        "GET" => Reply::ok(json!({"checkpoints": [{
            "checkpoint_id": "weights/1", "checkpoint_type": "training", "time": DAY, "tinker_path": "tinker://run/weights/\u{1b}[2J",
        }]})),
        _ => Reply::no_content(),
    });
    let done = tinkex("checkpoint delete --run-id run --yes").at(&service.url()).run();
    assert_eq!(done.stdout, "deleted tinker://run/weights/\\u{1b}[2J\n");
}

#[test]
fn filters_without_yes_need_a_terminal() {
    let service = service();
    for words in [
        "--run-id run",
        "tinker://run/weights/1 --run-id run --yes",
        "--before 7d --yes",
        "--yes",
        // Not a filter.
        "--type sampler --project p-1 --yes",
    ] {
        let done = tinkex(&format!("checkpoint delete {words}")).at(&service.url()).run();
        assert_eq!((done.code, &*done.stdout), (Some(2), ""), "{words}");
    }
    assert_eq!(service.requests().len(), 0);
}

#[test]
fn bills_are_tables_and_files() {
    let service = service();
    let folder = TempDir::new().unwrap();
    let commands = [
        "billing usage --from 2025-11-01 --to 2025-11-02T00:00:00Z --csv new/events.csv --sessions-csv sessions.csv",
        "billing usage --from 2025-11-01 --to 2025-11-02 --format json",
        "billing usage --from 2025-11-01 --to 2025-11-30",
        "billing usage --from 2025-11-01T00:30:00Z --to 2025-11-02",
        "billing checkpoint-storage --project-id p-1 --csv storage.csv",
        "billing checkpoint-storage --format json",
    ];
    let runs = commands.map(|words| tinkex(words).at(&service.url()).within(folder.path()).run());
    assert_eq!(runs.each_ref().map(|done| done.code), [0, 0, 2, 2, 0, 0].map(Some));
    golden("billing", &runs, &Volatile::default());
    let paths: Vec<_> = service.requests().into_iter().map(|request| request.path).collect();
    let query = "starting_on=2025-11-01T00%3A00%3A00Z&ending_before=2025-11-02T00%3A00%3A00Z";
    assert_eq!(paths[0], format!("billing/usage/events?{query}"));
    assert_eq!(paths[2], "billing/usage/checkpoints/current?project_id=p-1");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let events = read("new/events.csv");
    assert_eq!(events.lines().count(), 5);
    assert!(events.contains(",\"'=A, \"\"B\"\"\",s-1,,0.125,,,training,123,,,,\r\n"), "{events}");
    assert_eq!(read("sessions.csv"), "session_id,user_metadata\r\ns-1,\"{\"\"k\"\":\"\"v\"\"}\"\r\n");
    assert!(read("storage.csv").ends_with("\r\n0.1,p-1,,a@b,,2,3072,0.000003,0.0003\r\n"), "{}", read("storage.csv"));
}

#[test]
fn enormous_bills_are_added_up() {
    let item = json!({"checkpoint_count": u64::MAX, "size_bytes": u64::MAX, "size_gigabytes": 1.0});
    let service = Service::start(move |_| Reply::ok(json!({"data": [item, item]})));
    let done = tinkex("billing checkpoint-storage").at(&service.url()).run();
    assert!(done.stdout.starts_with("18446744073709551615 checkpoints"), "{done:?}");
}

#[test]
fn the_last_week_is_the_default_bill() {
    let service = service();
    assert_eq!(tinkex("billing usage").at(&service.url()).run().code, Some(0));
    let path = &service.requests()[0].path;
    let times: Vec<tinkex::types::Timestamp> = path
        .split_once('?')
        .unwrap()
        .1
        .split('&')
        .map(|pair| pair.split_once('=').unwrap().1.replace("%3A", ":").parse().unwrap())
        .collect();
    assert_eq!(times[1].unix_seconds() - times[0].unix_seconds(), 7 * 24 * 3600);
    assert_eq!(times[1].unix_seconds() % 3600, 0);
}

/// A service with two files of external weights and a trace, without archives. What it gets beyond that is handled as a healthy
/// service does.
fn exporting() -> Service {
    Service::start(|request| {
        let host = request.header("host").unwrap();
        let none = || Reply::Json(404, json!({"detail": "Not Found"}));
        match (&*request.method, &*request.path) {
            ("GET", path) if path.ends_with("/external_weights_urls") => Reply::ok(json!({
                "urls": {
                    "adapter_config.json": format!("http://{host}/files/config"),
                    "sub/adapter_model.safetensors": format!("http://{host}/files/model"),
                },
                "expires": "2999-01-01T00:00:00Z",
            })),
            ("GET", "/files/config") => Reply::Full { status: 200, headers: Vec::new(), body: b"{}".to_vec() },
            ("GET", "/files/model") => Reply::Full { status: 200, headers: Vec::new(), body: b"model".to_vec() },
            ("GET", "/files/trace") => Reply::Full { status: 200, headers: Vec::new(), body: b"trace".to_vec() },
            ("GET", path) if path.ends_with("/archive") => none(),
            ("GET", "training_runs/run/checkpoints") => Reply::ok(checkpoints()),
            ("GET", "training_runs/run") => Reply::ok(json!({
                "training_run_id": "run", "base_model": "base", "model_owner": "me", "is_lora": true, "lora_rank": 8,
                "last_request_time": "2025-11-01T12:00:00Z",
            })),
            ("GET", "sessions/s-1/trace_export") => {
                Reply::ok(json!({"status": "ready", "url": format!("http://{host}/files/trace")}))
            }
            ("POST", "weights_info") => Reply::ok(json!({"base_model": "base", "is_lora": true, "lora_rank": 8})),
            ("DELETE", _) => Reply::no_content(),
            _ => healthy_service(request),
        }
    })
}

fn bodies(service: &Service, path: &str) -> Vec<Value> {
    service.requests_to(path).into_iter().map(|request| request.body).collect()
}

#[test]
fn external_weights_are_downloaded_as_files() {
    let service = exporting();
    let folder = TempDir::new().unwrap();
    let run = |words: &str| tinkex(words).at(&service.url()).within(folder.path()).run();
    let path = "tinker://run/external_weights/4";
    let runs = [
        run(&format!("checkpoint download {path}")),
        run(&format!("checkpoint download {path}")),
        run(&format!("checkpoint download {path} --force --format json")),
        run(&format!("checkpoint download {path} -o other --archive")),
        run("session export-trace s-1"),
        run("session export-trace s-1 --overwrite --format json"),
        run("session export-trace s-1 --url-only"),
        run("session export-trace s-1"),
    ];
    assert_eq!(runs.each_ref().map(|done| done.code), [0, 2, 0, 2, 0, 0, 0, 2].map(Some), "{runs:?}");
    golden("external_weights", &runs, &Volatile::default().url(&service.url()));
    assert_eq!(names(folder.path()), ["run_external_weights_4", "s-1.pftrace"]);
    let files = folder.path().join("run_external_weights_4");
    assert_eq!(fs::read(files.join("sub/adapter_model.safetensors")).unwrap(), b"model");
    assert_eq!(fs::read(folder.path().join("s-1.pftrace")).unwrap(), b"trace");
}

#[test]
fn a_training_checkpoint_is_exported_with_yes() {
    let service = exporting();
    let folder = TempDir::new().unwrap();
    let run = |words: &str| tinkex(words).at(&service.url()).within(folder.path()).run();
    // Nobody to ask, no such checkpoint, and weights that cannot be trained on: nothing is created.
    let runs = [
        run("checkpoint download tinker://run/weights/1 -o a"),
        run("checkpoint download tinker://run/weights/missing -o a --yes"),
        run("checkpoint download tinker://run/sampler_weights/3 -o a --yes"),
    ];
    assert_eq!(runs.each_ref().map(|done| done.code), [2, 1, 1].map(Some), "{runs:?}");
    assert_eq!(service.requests_to("create_session").len(), 0);
    golden("export_refused", &runs, &Volatile::default());

    let done = run("checkpoint download tinker://run/weights/1 -o a --yes");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(done.stdout, "downloaded tinker://run/weights/1 to a (2 files, 7 B)\n");
    assert_eq!(names(&folder.path().join("a")), ["adapter_config.json", "sub"]);
    assert_eq!(bodies(&service, "load_weights")[0]["path"], "tinker://run/weights/1");
    let saved = &bodies(&service, "save_weights_external")[0];
    assert_eq!(saved["ttl_seconds"], 86_400);
    assert!(saved["path"].as_str().unwrap().starts_with("download-"), "{saved}");
    let deleted: Vec<_> = service.requests().into_iter().filter(|request| request.method == "DELETE").collect();
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].path, "training_runs/run/checkpoints/external_weights/a");
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn a_destination_that_exists_costs_no_session() {
    let service = exporting();
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    let words = "checkpoint download tinker://run/weights/1 -o a --yes";
    let done = tinkex(words).at(&service.url()).within(folder.path()).run();
    assert_eq!(done.code, Some(2), "{done:?}");
    assert_eq!(service.requests_to("create_session").len(), 0);
}

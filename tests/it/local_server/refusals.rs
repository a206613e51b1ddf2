//! Final refusals have a status that no client repeats: the official ones repeat some for 5 min, without a word.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tinkex::local::{LocalServer, WireFormats};

use super::client::{Client, Response, forward_backward, optim_step, sample, save};
use crate::source_tree::rust_files;

const BASE: &str = "tinkex/bytes-tiny";

/// What the official clients repeat for minutes.
fn is_repeated(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500..)
}

/// What a scene has for its requests to be wrong about.
struct Scene {
    client: Client,
    session: String,
    run: String,
    sampler: String,
    other: Client,
}

impl Scene {
    fn new(server: &LocalServer) -> Self {
        let mut client = Client::new(server);
        let run = client.model(BASE);
        let session = run.split(':').next().unwrap().to_owned();
        client.call("save_weights", save(&run, 1, "taken"));
        client.call("save_weights_for_sampler", save(&run, 2, "taken"));
        let external = json!({ "model_id": run, "path": "taken", "seq_id": 3 });
        client.call("save_weights_external", external);
        let sampler = client.sampler(BASE);
        client.call("asample", sample(&sampler, 0, "ab", json!({ "max_tokens": 1 })));
        let unloaded = json!({ "session_id": session, "model_seq_id": 8, "base_model": BASE });
        client.call("create_model", unloaded);
        client.call("unload_model", json!({ "model_id": format!("{session}:train:8") }));
        client.ok("create_sampling_session", open(&session, 3, BASE));
        Scene { client, session, run, sampler, other: Client::new(server).key("tml-other") }
    }
}

fn open(session: &str, seq: u64, base_model: &str) -> Value {
    json!({ "session_id": session, "sampling_session_seq_id": seq, "base_model": base_model })
}

fn create(session: &str, seq: u64, more: Value) -> Value {
    let mut body = json!({ "session_id": session, "model_seq_id": seq, "base_model": BASE });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Posts that are refused for good: endpoint, body, and words of the refusal.
fn refused_posts(scene: &Scene) -> Vec<(&'static str, Value, &'static str)> {
    let Scene { session, run, sampler, .. } = scene;
    let ended = format!("{session}:train:8");
    let mut custom = forward_backward(run, 5, "abc");
    custom["forward_backward_input"]["loss_fn"] = json!("custom");
    let mut setting = forward_backward(run, 5, "abc");
    setting["forward_backward_input"]["loss_fn_config"] = json!({ "clip_low_treshold": 0.99 });
    let overwritten = |kind: &str| json!({ "model_id": run, "seq_id": 5, "path": "taken", "type": kind });
    vec![
        (
            "save_weights",
            save(run, 5, "taken"),
            "already exists: use another name, delete that checkpoint, or save with overwrite",
        ),
        (
            "save_weights_for_sampler",
            overwritten("save_weights_for_sampler"),
            "already exists: use another name, or delete",
        ),
        ("save_weights_external", overwritten("save_weights_external"), "already exists: use another name, or delete"),
        ("save_weights", save(run, 5, ""), "name"),
        ("save_weights", json!({ "model_id": run, "seq_id": 5, "path": "a", "ttl_seconds": 1 }), "ttl_seconds"),
        // A number that belongs to another request, of each kind.
        ("optim_step", optim_step(run, 1, 0.5), "sequence number"),
        ("forward_backward", forward_backward(run, 1, "xyz"), "sequence number"),
        ("save_weights", save(run, 1, "other"), "sequence number"),
        ("asample", sample(sampler, 0, "xyz", json!({ "max_tokens": 1 })), "sequence number"),
        ("create_model", create(session, 0, json!({ "user_metadata": { "a": "b" } })), "sequence number"),
        ("create_sampling_session", open(session, 3, "tinkex/bytes-small"), "sequence number"),
        // What this server does not do.
        ("create_custom_loss", json!({ "session_id": session, "graph": {} }), "custom losses"),
        ("forward_backward", custom, "custom losses"),
        ("forward_backward", setting, "clip_low_treshold"),
        ("optim_step", json!({ "model_id": run, "seq_id": 5, "adam_params": { "lr": 0.5 } }), "adam_params.lr"),
        ("create_model", create(session, 5, json!({ "lora_config": { "rnak": 4 } })), "lora_config.rnak"),
        ("create_model", create(session, 5, json!({ "lora_config": { "rank": 4096 } })), "rank"),
        ("create_model", create(session, 5, json!({ "base_model": "tinkex/none" })), "tinkex/none"),
        ("create_model", create("session-99", 5, json!({})), "session-99"),
        // What does not exist, or no longer.
        ("optim_step", optim_step(&ended, 1, 0.5), "not in memory"),
        ("get_info", json!({ "model_id": ended }), "not in memory"),
        ("unload_model", json!({ "model_id": "session-99:train:0" }), "session-99"),
        ("asample", sample("session-99:sample:0", 0, "ab", json!({})), "session-99"),
        ("retrieve_future", json!({ "request_id": "none" }), ""),
        ("cancel_future", json!({ "request_id": "none" }), ""),
        ("session_heartbeat", json!({ "session_id": "session-99" }), "session-99"),
        ("weights_info", json!({ "tinker_path": "tinker://a/weights/b" }), ""),
        ("create_session", json!({ "project_id": "p".repeat(999) }), "project_id"),
        ("nothing", json!({}), ""),
        ("healthz", json!({}), ""),
    ]
}

#[test]
fn no_final_refusal_is_repeated_by_clients() {
    let server = LocalServer::builder().max_body(1 << 20).start().unwrap();
    let mut scene = Scene::new(&server);
    for (endpoint, body, words) in refused_posts(&scene) {
        let refused = scene.client.post(endpoint, body.clone());
        check(&refused, &format!("{endpoint} {body}"));
        assert!(String::from_utf8_lossy(&refused.body).contains(words), "{endpoint}: {refused:?}");
    }
    // A body of a wrong form, and what belongs to another key.
    for endpoint in ["create_model", "forward_backward", "asample", "save_weights", "load_weights", "retrieve_future"] {
        for body in [json!({ "model_id": [] }), json!([]), json!(null)] {
            check(&scene.client.post(endpoint, body), endpoint);
        }
    }
    let (run, sampler) = (scene.run.clone(), scene.sampler.clone());
    for (endpoint, body) in [
        ("optim_step", optim_step(&run, 9, 0.5)),
        ("asample", sample(&sampler, 9, "ab", json!({}))),
        ("session_heartbeat", json!({ "session_id": scene.session })),
    ] {
        assert_eq!(scene.other.post(endpoint, body).status, 403, "{endpoint}");
    }
    let taken = format!("training_runs/{run}/checkpoints/weights");
    for (method, path) in [
        ("GET", format!("{taken}/none/archive")),
        ("DELETE", format!("{taken}/none")),
        ("POST", format!("{taken}/none/publish")),
        ("PUT", format!("{taken}/taken/ttl")),
        ("GET", "training_runs/none".to_owned()),
        ("GET", "sessions/session-99/trace_export".to_owned()),
        ("GET", "billing/usage/events?group_by=nothing".to_owned()),
        ("PATCH", "create_model".to_owned()),
    ] {
        let refused = scene.client.request(method, &path);
        check(&refused, &format!("{method} {path}"));
    }
    check(&scene.client.post_protobuf("forward_backward", b"\xff\xff"), "broken protobuf");
    check(&scene.client.post_protobuf("create_model", b""), "protobuf where JSON is expected");
    scene.client.send("POST", "forward_backward", &" ".repeat((1 << 20) + 1));
    let refused = scene.client.receive().unwrap();
    check(&refused, "too large");
    assert_eq!(refused.status, 413);
}

fn check(refused: &Response, what: &str) {
    assert!(refused.status >= 400, "{what} is not refused: {refused:?}");
    assert!(!is_repeated(refused.status), "clients repeat {what}: {refused:?}");
}

#[test]
fn a_wrong_format_is_refused_for_good() {
    for (formats, content_type, body) in [
        (WireFormats::Json, "application/x-protobuf", &b"\xff\xfe"[..]),
        (WireFormats::Protobuf, "application/json", b"{}"),
        (WireFormats::Both, "text/plain", b"{}"),
    ] {
        let server = LocalServer::builder().wire(formats).start().unwrap();
        let mut client = Client::new(&server);
        for (header, value) in [("content-type", content_type), ("content-encoding", "br")] {
            client.send_with("POST", "forward_backward", &[(header, value)], body);
            check(&client.receive().unwrap(), value);
        }
    }
}

#[test]
fn unknown_transfer_encodings_are_refused_for_good() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    client.write("POST /api/v1/healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n").unwrap();
    check(&client.receive().unwrap(), "transfer-encoding: gzip");
}

/// Every refusal in the source with a status that clients repeat: file, status, how many, and why a client should repeat it.
const TEMPORARY: &[(&str, u16, usize, &str)] = &[
    ("api/endpoints/archives.rs", 500, 1, "the disk has failed or is full"),
    ("api/endpoints/auth.rs", 500, 2, "the disk is full, or the system gives no random numbers"),
    ("api/endpoints/checkpoints.rs", 500, 3, "the disk has failed or is full, or the system gives no random numbers"),
    ("api/endpoints/models.rs", 503, 1, "the system has no more threads at the moment"),
    ("api/endpoints/training.rs", 429, 1, "the run works through its queue"),
    ("http1/message.rs", 500, 1, "a fault of the server"),
    ("net/connection.rs", 408, 1, "the client did not send the whole request"),
    ("net/event_loop.rs", 503, 1, "connections are closed"),
    ("request_dispatcher.rs", 500, 1, "a fault of the server"),
    ("state/promises/task_output.rs", 500, 1, "a fault of the server"),
    ("state/server_state.rs", 500, 1, "the disk has failed or is full"),
    ("state/housekeeping.rs", 429, 1, "each model in memory is at work, and will be idle"),
    ("state/tables.rs", 409, 1, "the save that overwrites the checkpoint ends"),
    ("state/tasks/sample_queue.rs", 429, 1, "the samples before it are computed"),
    ("state/tasks/sample_queue.rs", 503, 1, "the server is started again"),
    ("state/waiting_batches.rs", 429, 1, "the batches before it are computed"),
];

/// The calls in the text of a file, by the number that is their first argument.
fn statuses(text: &str, call: &str) -> Vec<u16> {
    let status = |rest: &str| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    text.split(call).skip(1).filter_map(status).collect()
}

#[test]
fn statuses_that_clients_repeat_have_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/local/server");
    let mut found = BTreeMap::<(String, u16), usize>::new();
    for path in rust_files("src/local/server") {
        let file = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        let text: String = fs::read_to_string(&path).unwrap().split_whitespace().collect();
        for status in statuses(&text, "Response::temporary(") {
            *found.entry((file.clone(), status)).or_default() += 1;
        }
        let finals = statuses(&text, "Response::error(");
        assert!(!finals.iter().any(|status| is_repeated(*status)), "{file}: {finals:?}");
    }
    let expected = TEMPORARY.iter().map(|(file, status, count, _)| ((file.to_string(), *status), *count)).collect();
    assert_eq!(found, expected);
}

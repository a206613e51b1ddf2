//! Persistence: everything acknowledged survives the server, even if its process is killed.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::tempdir;
use tinkex::ErrorKind;
use tinkex::local::LocalServer;

use super::client::{Client, forward_backward, loss, optim_step, sample, save};

const BASE: &str = "tinkex/bytes-tiny";
const FOLDER: &str = "TINKEX_TEST_DATA_DIR";

/// A server in its own process: the test program, running only the test that serves.
struct Process {
    child: Child,
    port: u16,
}

impl Process {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "local_server::disk::serve_in_child_process", "--nocapture"])
            .env(FOLDER, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| line.unwrap().split_once("port=")?.1.trim().parse().ok());
        Process { child, port: port.unwrap() }
    }

    /// Kills it, as a crash would.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Not a test: serves until it is killed, when [`Process`] starts it.
#[test]
fn serve_in_child_process() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let server = LocalServer::builder().data_dir(folder).start().unwrap();
    println!("port={}", server.port());
    loop {
        std::thread::park();
    }
}

fn from_checkpoint(client: &mut Client, path: &str) -> String {
    let model = client.model(BASE);
    let load = json!({ "model_id": model, "path": path, "seq_id": 1, "optimizer": true });
    assert_eq!(client.call("load_weights", load)["path"], path);
    model
}

#[test]
fn everything_answered_survives_kill_nine() {
    let scratch = tempdir().unwrap();
    let process = Process::start(scratch.path());
    let mut client = Client::at(process.port);
    let run = client.model(BASE);
    client.call("forward_backward", forward_backward(&run, 1, "hello"));
    client.call("optim_step", optim_step(&run, 2, 0.01));
    client.call("save_weights", save(&run, 3, "one"));
    client.call("save_weights_for_sampler", save(&run, 4, "two"));
    client.call("save_weights_for_sampler", save(&run, 5, "gone"));
    client.request("POST", &format!("training_runs/{run}/checkpoints/weights/one/publish"));
    client.request("DELETE", &format!("training_runs/{run}/checkpoints/sampler_weights/gone"));
    let unnamed = json!({ "model_id": run, "sampling_session_seq_id": 7, "seq_id": 6 });
    let sampler = client.call("save_weights_for_sampler", unnamed)["sampling_session_id"].as_str().unwrap().to_owned();
    let seeded = json!({ "max_tokens": 20, "seed": 4 });
    let said = client.call("asample", sample(&sampler, 0, "hel", seeded.clone()));
    let at_save = loss(&mut client, &run, 7, "hello");
    let shown: Vec<_> = ["training_runs", "checkpoints", "sessions"].map(|list| client.get(list).json()).into();
    let of_session = client.get(&format!("sessions/{}", run.split(':').next().unwrap())).json();
    // One more step, which is only in memory, and a save without waiting for it.
    client.call("optim_step", optim_step(&run, 8, 0.01));
    let promise = client.promise("save_weights", save(&run, 9, "late"));
    process.kill();

    let process = Process::start(scratch.path());
    let mut client = Client::at(process.port);
    let listed = client.get("checkpoints").json()["checkpoints"].as_array().unwrap().clone();
    let late = listed.iter().position(|checkpoint| checkpoint["checkpoint_id"] == "weights/late");
    if late.is_some() {
        // Then it is complete.
        from_checkpoint(&mut client, &format!("tinker://{run}/weights/late"));
    } else {
        assert_eq!(client.get("training_runs").json()["training_runs"][0]["training_run_id"], run);
        assert_eq!(client.get("checkpoints").json(), shown[1]);
    }
    let session = run.split(':').next().unwrap();
    assert_eq!(client.get(&format!("sessions/{session}")).json(), of_session);
    let gone = client.post("retrieve_future", json!({ "request_id": promise }));
    assert_eq!(gone.status, 410);
    assert_eq!(client.post("optim_step", optim_step(&run, 10, 0.1)).status, 404);
    client.ok("session_heartbeat", json!({ "session_id": session }));

    assert_eq!(client.call("asample", sample(&sampler, 0, "hel", seeded)), said);
    let again = from_checkpoint(&mut client, &format!("tinker://{run}/weights/one"));
    assert_ne!(again, run);
    assert_eq!(loss(&mut client, &again, 2, "hello"), at_save);
    process.kill();
}

#[test]
fn used_numbers_survive_kill_nine() {
    let scratch = tempdir().unwrap();
    let process = Process::start(scratch.path());
    let mut client = Client::at(process.port);
    let run = client.model(BASE);
    let session = run.split(':').next().unwrap().to_owned();
    client.call("optim_step", optim_step(&run, 1, 0.01));
    let unnamed = json!({ "model_id": run, "sampling_session_seq_id": 7, "seq_id": 2 });
    let sampler = client.call("save_weights_for_sampler", unnamed.clone())["sampling_session_id"].clone();
    let sampler = sampler.as_str().unwrap();
    let join = json!({ "sampling_session_id": sampler });
    assert_eq!(client.ok("join_sampling_session", join.clone())["client_counter"], 1);
    let ask = |seq: u64| sample(sampler, seq, "hel", json!({ "max_tokens": 1 }));
    let poll = |cursor: &Value| {
        let target = json!({ "type": "sampling_session", "sampling_session_id": sampler, "cloned_sampler_id": 0 });
        json!({ "target": target, "prev_cursor": cursor, "retrieved_request_ids": [] })
    };
    let first = client.promise("asample", ask(0));
    client.result(&first);
    let cursor = client.ok("retrieve_futures", poll(&json!(0)))["cursor"].clone();
    process.kill();

    let process = Process::start(scratch.path());
    let mut client = Client::at(process.port);
    // A model lives as long as its server: neither of these runs again.
    assert_eq!(client.post("optim_step", optim_step(&run, 1, 0.01)).status, 404);
    assert_eq!(client.post("save_weights_for_sampler", unnamed).status, 404);
    let create = json!({ "session_id": session, "model_seq_id": 0, "base_model": BASE });
    assert_eq!(client.post("create_model", create).status, 400);
    let open = json!({ "session_id": session, "sampling_session_seq_id": 7, "base_model": BASE });
    assert_eq!(client.post("create_sampling_session", open).status, 400);
    assert_eq!(client.ok("join_sampling_session", join)["client_counter"], 2);
    // What finishes now comes after what finished before.
    assert_eq!(client.post("retrieve_future", json!({ "request_id": first })).status, 410);
    let second = client.promise("asample", ask(1));
    client.result(&second);
    let completions = client.ok("retrieve_futures", poll(&cursor))["completions"].clone();
    assert_eq!(completions[0]["request_id"], second);
    process.kill();
}

#[test]
fn training_resumes_exactly_from_a_checkpoint() {
    let scratch = tempdir().unwrap();
    let step = |client: &mut Client, model: &str, seq: u64| {
        client.call("forward_backward", forward_backward(model, seq, "hello"));
        client.call("optim_step", optim_step(model, seq + 1, 0.01));
    };
    let start = || LocalServer::builder().data_dir(scratch.path()).start().unwrap();
    let server = start();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    step(&mut client, &run, 1);
    client.call("save_weights", save(&run, 3, "one"));
    step(&mut client, &run, 4);
    let expected = loss(&mut client, &run, 6, "hello");
    drop(server);

    let server = start();
    let mut client = Client::new(&server);
    let again = from_checkpoint(&mut client, &format!("tinker://{run}/weights/one"));
    step(&mut client, &again, 2);
    assert_eq!(loss(&mut client, &again, 4, "hello"), expected);
}

#[test]
fn ids_are_not_reused_after_a_restart() {
    let scratch = tempdir().unwrap();
    let start = || LocalServer::builder().data_dir(scratch.path()).start().unwrap();
    let server = start();
    let mut client = Client::new(&server);
    let sampler = client.sampler(BASE);
    let run = client.model(BASE);
    let session = run.split(':').next().unwrap().to_owned();
    drop(server);

    let server = start();
    let mut client = Client::new(&server);
    assert_eq!(client.session(), "session-3");
    let create = json!({ "session_id": session, "model_seq_id": 0, "base_model": BASE });
    assert_eq!(client.post("create_model", create).status, 400);
    // Opening the same sampling session again succeeds; with another base it fails.
    let session = sampler.split(':').next().unwrap();
    let open = |base: &str| json!({ "session_id": session, "sampling_session_seq_id": 0, "base_model": base });
    assert_eq!(client.ok("create_sampling_session", open(BASE))["sampling_session_id"], sampler);
    assert_eq!(client.post("create_sampling_session", open("tinkex/bytes-small")).status, 400);
}

#[test]
fn unusable_directory_error_names_the_file() {
    let scratch = tempdir().unwrap();
    fs::create_dir_all(scratch.path().join("sessions/session-1")).unwrap();
    fs::write(scratch.path().join("sessions/session-1/session.json"), "{").unwrap();
    let error = LocalServer::builder().data_dir(scratch.path()).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("session.json"), "{error:?}");
}

#[test]
fn a_directory_of_an_earlier_version_is_read() {
    let scratch = tempdir().unwrap();
    for (number, metadata) in [(1, r#"["any", "JSON"]"#), (2, r#""text""#), (3, "null"), (4, r#"{"a": 1}"#)] {
        let folder = scratch.path().join(format!("sessions/session-{number}"));
        fs::create_dir_all(&folder).unwrap();
        let owner = "key-0123456789abcdef";
        let created = "2025-11-01T00:00:00Z";
        let record = format!(
            r#"{{"owner": "{owner}", "number": {number}, "created": "{created}", "tags": [], "user_metadata": {metadata}}}"#
        );
        fs::write(folder.join("session.json"), record).unwrap();
    }
    let server = LocalServer::builder().data_dir(scratch.path()).start().unwrap();
    assert_eq!(Client::new(&server).session(), "session-5");
}

#[test]
fn a_directory_belongs_to_one_server() {
    let scratch = tempdir().unwrap();
    let server = LocalServer::builder().data_dir(scratch.path()).start().unwrap();
    let error = LocalServer::builder().data_dir(scratch.path()).start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("another server"), "{error:?}");
    drop(server);
    LocalServer::builder().data_dir(scratch.path()).start().unwrap();
}

#[test]
fn expired_checkpoint_frees_its_files_and_name() {
    let scratch = tempdir().unwrap();
    let server = LocalServer::builder().data_dir(scratch.path()).min_ttl(Duration::ZERO).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    client.call("save_weights", save(&run, 1, "short"));
    let folder = scratch.path().join("runs").join(run.replace(':', "%3A")).join("weights/short");
    assert!(folder.join("adapter_model.safetensors").is_file());
    client.send("PUT", &format!("training_runs/{run}/checkpoints/weights/short/ttl"), r#"{"ttl_seconds": 0}"#);
    assert_eq!(client.receive().unwrap().status, 204);
    // Any request removes expired checkpoints first.
    client.get("healthz");
    assert!(!folder.exists());
    client.call("save_weights", save(&run, 2, "short"));
}

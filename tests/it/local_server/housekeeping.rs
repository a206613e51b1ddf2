//! What a long run leaves behind: nothing that grows.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tinkex::local::LocalServer;

use super::client::{Client, forward_backward, optim_step, sample};
use super::models::Gated;

const MODEL: &str = "test/gated";

/// More than the unnamed saves that a server keeps.
const ITERATIONS: u64 = 80;

/// A server on this directory, whose model holds nothing back.
fn start(directory: &TempDir) -> LocalServer {
    let (model, _) = Gated::new(MODEL);
    LocalServer::builder().model(model).data_dir(directory.path()).start().unwrap()
}

fn unnamed(model_id: &str, seq_id: u64, sampler_seq: u64) -> Value {
    json!({ "model_id": model_id, "seq_id": seq_id, "sampling_session_seq_id": sampler_seq })
}

fn save_unnamed(client: &mut Client, model_id: &str, seq_id: u64, sampler_seq: u64) -> String {
    let saved = client.call("save_weights_for_sampler", unnamed(model_id, seq_id, sampler_seq));
    saved["sampling_session_id"].as_str().unwrap().to_owned()
}

fn sample_one(sampler: &str, seq_id: u64) -> Value {
    sample(sampler, seq_id, "ab", json!({ "max_tokens": 1 }))
}

/// The number of files below a folder, and their bytes.
fn usage(folder: &Path) -> (usize, u64) {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let usages = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => usage(&entry.path()),
        false => (1, entry.metadata().unwrap().len()),
    });
    usages.fold((0, 0), |sum, usage| (sum.0 + usage.0, sum.1 + usage.1))
}

#[test]
fn on_policy_iterations_do_not_fill_the_disk() {
    let scratch = tempdir().unwrap();
    let server = start(&scratch);
    let mut client = Client::new(&server);
    let run = client.model(MODEL);
    let mut usages = Vec::new();
    for iteration in 0..2 * ITERATIONS {
        let sampler = save_unnamed(&mut client, &run, 3 * iteration + 1, iteration);
        client.call("asample", sample_one(&sampler, 0));
        client.call("forward_backward", forward_backward(&run, 3 * iteration + 2, "abc"));
        client.call("optim_step", optim_step(&run, 3 * iteration + 3, 0.1));
        if (iteration + 1) % ITERATIONS == 0 {
            let folders = ["runs", "samplers", "sessions"].map(|folder| usage(&scratch.path().join(folder)));
            usages.push(folders.into_iter().fold((0, 0), |sum, usage| (sum.0 + usage.0, sum.1 + usage.1)));
        }
    }
    let [(files, bytes), last] = usages[..] else { panic!("{usages:?}") };
    assert_eq!(last.0, files);
    // The last numbers in the records have more digits.
    assert!(last.1 < bytes + 1000, "{bytes} bytes, then {}", last.1);
}

#[test]
fn unused_unnamed_saves_are_removed_for_good() {
    let scratch = tempdir().unwrap();
    let server = start(&scratch);
    let mut client = Client::new(&server);
    let run = client.model(MODEL);
    let samplers: Vec<_> = (0..100)
        .map(|number| {
            let sampler = save_unnamed(&mut client, &run, number + 1, number);
            // The first one stays in use.
            client.call("asample", sample_one(&run.replace(":train:0", ":sample:0"), number));
            sampler
        })
        .collect();
    let is_removed = |client: &mut Client, sampler: &String| {
        let response = client.post("asample", sample_one(sampler, 1000));
        assert!(matches!(response.status, 200 | 410), "{response:?}");
        response.status == 410
    };
    let removed: Vec<_> = samplers.iter().filter(|sampler| is_removed(&mut client, sampler)).cloned().collect();
    assert_eq!(removed, samplers[1..37]);
    assert_eq!(client.get(&format!("samplers/{}", removed[0])).status, 410);

    drop(server);
    let server = start(&scratch);
    let mut client = Client::new(&server);
    for sampler in &samplers {
        assert_eq!(is_removed(&mut client, sampler), removed.contains(sampler), "{sampler}");
    }
    // Nor does another sampling session get its number.
    let session_id = run.split(':').next().unwrap();
    let open = json!({ "session_id": session_id, "sampling_session_seq_id": 1, "base_model": MODEL });
    assert_eq!(client.post("create_sampling_session", open).status, 410);
}

/// The names below a folder of the data directory.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_end_of_a_session_removes_inflight_weights() {
    let (scratch, (model, gate)) = (tempdir().unwrap(), Gated::new(MODEL));
    let server = LocalServer::builder().model(model).data_dir(scratch.path()).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(MODEL);
    let session_id = run.split(':').next().unwrap();
    let inflight = |seq: u64, number: u64| {
        let mut body = unnamed(&run, seq, number);
        body["kind"] = "inflight".into();
        body
    };
    client.call("save_weights_for_sampler", inflight(1, 0));
    save_unnamed(&mut client, &run, 2, 1);
    let folder = scratch.path().join("runs").join(run.replace(':', "%3A"));
    assert!(names(&folder).contains(&"inflight".to_owned()));
    // One save waits behind a pass until the session has ended.
    let pass = client.promise("forward_backward", forward_backward(&run, 3, "abc"));
    let late = client.promise("save_weights_for_sampler", inflight(4, 2));
    assert_eq!(
        client.post(&format!("sessions/{session_id}/finish"), json!({ "reason": { "type": "success" } })).status,
        204
    );
    assert_eq!((names(&folder), names(&scratch.path().join("samplers"))), (vec!["run.json".to_owned()], vec![]));
    drop(gate);
    client.result(&pass);
    client.result(&late);
    assert_eq!((names(&folder), names(&scratch.path().join("samplers"))), (vec!["run.json".to_owned()], vec![]));
}

#[test]
fn an_interrupted_end_is_completed_at_the_start() {
    let scratch = tempdir().unwrap();
    let server = start(&scratch);
    let mut client = Client::new(&server);
    let run = client.model(MODEL);
    let session_id = run.split(':').next().unwrap();
    save_unnamed(&mut client, &run, 1, 0);
    let mut body = unnamed(&run, 2, 1);
    body["kind"] = "inflight".into();
    client.call("save_weights_for_sampler", body);
    drop(server);
    // A server that is killed has written the end of the session, and not yet removed anything.
    let record = scratch.path().join("sessions").join(session_id).join("session.json");
    let mut session: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    session["finish"] = json!({ "reason": { "type": "success" } });
    fs::write(&record, session.to_string()).unwrap();

    let server = start(&scratch);
    assert_eq!(names(&scratch.path().join("samplers")), [""; 0]);
    assert_eq!(names(&scratch.path().join("runs").join(run.replace(':', "%3A"))), ["run.json"]);
    let mut client = Client::new(&server);
    assert_eq!(client.post("asample", sample_one(&format!("{session_id}:sample:0"), 0)).status, 410);
}

#[cfg(unix)]
#[test]
fn the_signing_secret_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = tempdir().unwrap();
    let _server = LocalServer::builder().data_dir(scratch.path()).start().unwrap();
    let record = fs::metadata(scratch.path().join("server.json")).unwrap();
    assert_eq!(record.permissions().mode() & 0o777, 0o600);
}

#[test]
fn clients_of_a_sampling_session_have_own_numbers() {
    let scratch = tempdir().unwrap();
    let start = || LocalServer::builder().data_dir(scratch.path()).start().unwrap();
    let server = start();
    let mut client = Client::new(&server);
    let sampler = client.sampler("tinkex/bytes-tiny");
    let join = json!({ "type": "join_sampling_session", "sampling_session_id": sampler });
    for number in 1..4 {
        assert_eq!(client.ok("join_sampling_session", join.clone())["client_counter"], number);
    }
    assert_eq!(Client::new(&server).key("tml-other").post("join_sampling_session", join.clone()).status, 403);
    let unknown = json!({ "type": "join_sampling_session", "sampling_session_id": "session-9:sample:0" });
    assert_eq!(client.post("join_sampling_session", unknown).status, 404);
    drop(server);
    let server = start();
    assert_eq!(Client::new(&server).ok("join_sampling_session", join)["client_counter"], 4);
}

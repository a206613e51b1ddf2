//! What clients of 2026 do with weights: models from checkpoints, overwriting, time limits, metadata, copies, inflight weights.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::tempdir;
use tinkex::local::{LocalServer, LocalServerBuilder};

use super::client::{Client, forward_backward, loss, optim_step, sample, save};
use super::models::Gated;

const BASE: &str = "tinkex/bytes-tiny";
const HOUR: u64 = 3600;

pub(super) fn with(mut body: Value, fields: Value) -> Value {
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn step(client: &mut Client, run: &str, seq: u64) {
    client.call("forward_backward", forward_backward(run, seq, "hello"));
    client.call("optim_step", optim_step(run, seq + 1, 0.01));
}

/// A run of rank 4 that was trained, with the training checkpoint "one".
pub(super) fn trained(client: &mut Client) -> String {
    let session_id = client.session();
    let lora = json!({ "rank": 4, "train_mlp": false });
    let body = json!({ "session_id": session_id, "model_seq_id": 0, "base_model": BASE, "lora_config": lora });
    let run = client.call("create_model", body)["model_id"].as_str().unwrap().to_owned();
    step(client, &run, 1);
    client.call("save_weights", save(&run, 3, "one"));
    run
}

/// The body that creates a model from a checkpoint.
fn from(session_id: &str, model_seq: u64, path: &str) -> Value {
    json!({ "session_id": session_id, "model_seq_id": model_seq, "path": path, "optimizer": false, "type": "load_weights" })
}

pub(super) fn checkpoints(client: &mut Client, run: &str) -> Vec<Value> {
    client.get(&format!("training_runs/{run}/checkpoints")).json()["checkpoints"].as_array().unwrap().clone()
}

#[test]
fn samplers_follow_a_checkpoint_that_is_overwritten() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    let path = format!("tinker://{run}/weights/one");
    let session_id = client.session();
    let open = |client: &mut Client, number: u64| {
        let body = json!({ "session_id": session_id, "sampling_session_seq_id": number, "model_path": path });
        client.ok("create_sampling_session", body)["sampling_session_id"].as_str().unwrap().to_owned()
    };
    // Longer than what the model keeps of prompts at the least.
    let ask = |client: &mut Client, sampler: &str, seq: u64| {
        let body = sample(sampler, seq, &"hello".repeat(20), json!({ "max_tokens": 3, "seed": 1 }));
        client.call("asample", with(body, json!({ "prompt_logprobs": true })))
    };
    let first = open(&mut client, 0);
    let before = ask(&mut client, &first, 1);
    assert_eq!(ask(&mut client, &first, 2)["prompt_cache_hit_tokens"], 100);
    step(&mut client, &run, 4);
    client.call("save_weights", with(save(&run, 6, "one"), json!({ "overwrite": true })));
    let after = ask(&mut client, &first, 3);
    let second = open(&mut client, 1);
    let expected = ask(&mut client, &second, 1);
    assert_eq!(
        (&after["sequences"], &after["prompt_logprobs"]),
        (&expected["sequences"], &expected["prompt_logprobs"])
    );
    assert_ne!(after["prompt_logprobs"], before["prompt_logprobs"]);
}

#[test]
fn a_model_starts_from_a_checkpoint() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    let (path, expected) = (format!("tinker://{run}/weights/one"), loss(&mut client, &run, 4, "hello"));
    let session_id = client.session();
    let body = with(from(&session_id, 3, &path), json!({ "user_metadata": { "k": "v" }, "base_model": BASE }));
    let promise = client.promise("load_weights", body.clone());
    let model_id = format!("{session_id}:train:3");
    assert_eq!(client.result(&promise), json!({ "path": path, "model_id": model_id, "type": "load_weights" }));
    assert_eq!(client.promise("load_weights", body.clone()), promise);
    assert_eq!(client.post("load_weights", with(body, json!({ "optimizer": true }))).status, 400);

    assert_eq!(loss(&mut client, &model_id, 1, "hello"), expected);
    let info = client.ok("get_info", json!({ "model_id": model_id }));
    assert_eq!((&info["lora_rank"], &info["optimizer_config"]), (&json!(4), &json!({ "type": "adamw" })));
    let shown = client.get(&format!("training_runs/{model_id}")).json();
    assert_eq!((&shown["user_metadata"], &shown["lora_rank"]), (&json!({ "k": "v" }), &json!(4)));
    client.call("save_weights", save(&model_id, 2, "again"));
    let info = client.ok("weights_info", json!({ "tinker_path": format!("tinker://{model_id}/weights/again") }));
    assert_eq!((&info["train_mlp"], &info["train_attn"]), (&json!(false), &json!(true)));
}

#[test]
fn the_optimizer_is_loaded_if_wanted() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    let path = format!("tinker://{run}/weights/one");
    step(&mut client, &run, 4);
    let expected = loss(&mut client, &run, 6, "hello");
    let session_id = client.session();
    for (number, optimizer) in [(0, true), (1, false)] {
        let body = with(from(&session_id, number, &path), json!({ "optimizer": optimizer }));
        let model_id = client.call("load_weights", body)["model_id"].as_str().unwrap().to_owned();
        step(&mut client, &model_id, 1);
        assert_eq!(loss(&mut client, &model_id, 3, "hello") == expected, optimizer);
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    client.call("save_weights_for_sampler", save(&run, 4, "two"));
    let (path, sampler) = (format!("tinker://{run}/weights/one"), format!("tinker://{run}/sampler_weights/two"));
    let session_id = client.session();
    let dimuon = json!({ "optimizer_config": { "type": "dimuon", "version": 1 } });
    let unknown = json!({ "optimizer_config": { "type": "adamw", "momentum": 0.5 } });
    for (body, status, words) in [
        (from(&session_id, 0, "tinker://x/y"), 404, "there is no checkpoint"),
        (from(&session_id, 0, &sampler), 400, "not a training checkpoint"),
        (
            with(from(&session_id, 0, &path), json!({ "base_model": "tinkex/bytes-small" })),
            400,
            "has weights for tinkex/bytes-tiny, not for tinkex/bytes-small",
        ),
        (with(from(&session_id, 0, &path), dimuon), 400, "not the optimizer \"dimuon\""),
        (with(from(&session_id, 0, &path), unknown), 400, "optimizer_config.momentum"),
        (with(from(&session_id, 0, &path), json!({ "model_id": run })), 400, "either model_id"),
        (json!({ "path": path, "optimizer": false }), 400, "either model_id"),
        (json!({ "path": path, "model_id": run, "base_model": BASE }), 400, "base_model is for a new model"),
    ] {
        let refused = client.post("load_weights", body);
        assert_eq!(refused.status, status);
        assert!(refused.detail().contains(words), "{}", refused.detail());
    }
    // Nothing was created.
    assert_eq!(client.get(&format!("sessions/{session_id}")).json()["training_run_ids"], json!([]));
}

#[test]
fn a_token_gives_access_to_weights() {
    let server = LocalServer::builder().api_key_check(|key| key != "tml-unknown").start().unwrap();
    let mut client = Client::new(&server);
    let mut other = Client::new(&server).key("tml-other");
    let run = trained(&mut client);
    let path = format!("tinker://{run}/weights/one");
    let session_id = other.session();
    let body = |token: Option<&str>| {
        let body = from(&session_id, 0, &path);
        token.map_or(body.clone(), |token| with(body, json!({ "weights_access_token": token })))
    };
    for token in [None, Some("tml-third"), Some("tml-unknown")] {
        assert_eq!(other.post("load_weights", body(token)).status, 403, "{token:?}");
    }
    let model_id = other.call("load_weights", body(Some("tml-test")))["model_id"].as_str().unwrap().to_owned();
    let load = json!({ "model_id": model_id, "path": path, "seq_id": 1 });
    assert!(other.call("load_weights", load.clone())["error"].as_str().unwrap().contains("another API key"));
    let load = with(load, json!({ "seq_id": 2, "weights_access_token": "tml-test" }));
    assert_eq!(other.call("load_weights", load)["path"], path);
}

#[test]
fn overwriting_replaces_a_checkpoint() {
    let scratch = tempdir().unwrap();
    for builder in [LocalServer::builder(), LocalServer::builder().data_dir(scratch.path())] {
        let server = builder.start().unwrap();
        let mut client = Client::new(&server);
        let run = trained(&mut client);
        step(&mut client, &run, 4);
        let expected = loss(&mut client, &run, 6, "hello");
        assert_eq!(client.post("save_weights", with(save(&run, 7, "one"), json!({ "overwrite": false }))).status, 400);
        let first = client.promise("save_weights", with(save(&run, 7, "one"), json!({ "overwrite": true })));
        let metadata = json!({ "overwrite": true, "user_metadata": { "loss": "0.3" } });
        client.call("save_weights", with(save(&run, 8, "one"), metadata));
        client.result(&first);
        step(&mut client, &run, 9);
        let path = format!("tinker://{run}/weights/one");
        client.call("load_weights", json!({ "model_id": run, "path": path, "seq_id": 11, "optimizer": true }));
        assert_eq!(loss(&mut client, &run, 12, "hello"), expected);
        let listed = checkpoints(&mut client, &run);
        assert_eq!((listed.len(), &listed[0]["user_metadata"]), (1, &json!({ "loss": "0.3" })));
    }
}

#[test]
fn sampling_sessions_follow_the_path_of_a_checkpoint() {
    let scratch = tempdir().unwrap();
    for builder in [LocalServer::builder(), LocalServer::builder().data_dir(scratch.path())] {
        let server = builder.start().unwrap();
        let mut client = Client::new(&server);
        let run = trained(&mut client);
        let path = format!("tinker://{run}/weights/one");
        let open = |client: &mut Client, number: u64| {
            let session_id = run.split(':').next().unwrap();
            let body = json!({ "session_id": session_id, "sampling_session_seq_id": number, "model_path": path });
            client.ok("create_sampling_session", body)["sampling_session_id"].as_str().unwrap().to_owned()
        };
        // Seeded, and with what is kept of the prompt.
        let said = |client: &mut Client, sampler: &str, seq: u64| {
            let said = client.call("asample", sample(sampler, seq, "hello", json!({ "max_tokens": 8, "seed": 1 })));
            said["sequences"].clone()
        };
        let sampler = open(&mut client, 0);
        let first = said(&mut client, &sampler, 0);
        (0..5).for_each(|number| step(&mut client, &run, 2 * number + 4));
        client.call("save_weights", with(save(&run, 14, "one"), json!({ "overwrite": true })));
        let later = said(&mut client, &sampler, 1);
        assert_ne!(later, first);
        let fresh = open(&mut client, 1);
        assert_eq!(later, said(&mut client, &fresh, 0));

        client.request("DELETE", &format!("training_runs/{run}/checkpoints/weights/one"));
        for sampler in [&sampler, &fresh] {
            let failed = client.call("asample", sample(sampler, 2, "hello", json!({ "max_tokens": 1 })));
            assert!(failed["error"].as_str().unwrap().contains("there is no checkpoint"), "{failed}");
        }
    }
}

#[test]
fn a_failed_save_frees_the_name() {
    let (model, gate) = Gated::new("test/gated");
    let scratch = tempdir().unwrap();
    let server = LocalServer::builder().model(model).data_dir(scratch.path()).start().unwrap();
    let mut client = Client::new(&server);
    drop(gate);
    let run = client.model("test/gated");
    client.call("save_weights", save(&run, 1, "one"));
    // A file where the checkpoints are cannot be replaced by a folder.
    let folder = scratch.path().join("runs").join(run.replace(':', "%3A")).join("sampler_weights");
    fs::write(&folder, "").unwrap();
    let failed = client.call("save_weights_for_sampler", save(&run, 2, "two"));
    assert_eq!(failed["category"], "server", "{failed}");
    fs::remove_file(&folder).unwrap();
    client.call("save_weights_for_sampler", save(&run, 3, "two"));
    assert_eq!(checkpoints(&mut client, &run).len(), 2);
}

#[test]
fn a_checkpoint_lives_an_hour_to_ten_years() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    let ten_years = 10 * 365 * 24 * HOUR;
    for (endpoint, seq) in [("save_weights", 4), ("save_weights_for_sampler", 5), ("save_weights_external", 6)] {
        for ttl in [0, 10, HOUR - 1, ten_years + 1, u64::MAX] {
            let refused = client.post(endpoint, with(save(&run, seq, "two"), json!({ "ttl_seconds": ttl })));
            assert_eq!(refused.status, 400);
            assert!(refused.detail().contains(&format!("ttl_seconds is {ttl}: use 3600 to {ten_years}")));
        }
        client.call(endpoint, with(save(&run, seq, "two"), json!({ "ttl_seconds": HOUR })));
    }
    for checkpoint in
        checkpoints(&mut client, &run).iter().filter(|checkpoint| checkpoint["checkpoint_id"] != "weights/one")
    {
        let time = |field: &str| checkpoint[field].as_str().unwrap().parse::<tinkex::types::Timestamp>().unwrap();
        assert_eq!(time("expires_at").unix_seconds() - time("time").unix_seconds(), 3600, "{checkpoint}");
        let path = format!("training_runs/{run}/checkpoints/{}", checkpoint["checkpoint_id"].as_str().unwrap());
        let mut put = |ttl: Value| {
            client.send("PUT", &format!("{path}/ttl"), &json!({ "ttl_seconds": ttl }).to_string());
            client.receive().unwrap().status
        };
        assert_eq!([put(json!(10)), put(json!(ten_years)), put(Value::Null)], [400, 204, 204]);
        assert_eq!(client.request("DELETE", &path).status, 204);
    }
    assert_eq!(checkpoints(&mut client, &run).len(), 1);
}

#[test]
fn a_copy_is_a_run_without_training() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let mut other = Client::new(&server).key("tml-other");
    let run = trained(&mut client);
    let source = format!("tinker://{run}/weights/one");
    let body = json!({ "destination_project_id": "p-1", "source_path": source, "ttl_seconds": HOUR });
    let copy = |client: &mut Client, key: &str, more: &str| {
        let body = body.to_string();
        let head = format!("host: local.test\r\nx-api-key: {key}\r\ncontent-length: {}", body.len());
        client.write(format!("POST /api/v1/copy_weights HTTP/1.1\r\n{head}{more}\r\n\r\n{body}")).unwrap();
        client.receive().unwrap()
    };
    assert_eq!(copy(&mut other, "tml-other", "").status, 403);
    let token = "\r\nx-tinker-weights-access-token: tml-test\r\nx-idempotency-key: one";
    let first = copy(&mut other, "tml-other", token).json();
    assert_eq!(copy(&mut other, "tml-other", token).json(), first);
    let again = copy(&mut other, "tml-other", &token.replace("one", "two")).json();
    assert_ne!(again, first);
    client.request("DELETE", &format!("training_runs/{run}/checkpoints/weights/one"));

    let path = first["tinker_path"].as_str().unwrap();
    let copied = path.strip_prefix("tinker://").unwrap().strip_suffix("/weights/one").unwrap();
    let shown = other.get(&format!("training_runs/{copied}")).json();
    assert_eq!((&shown["base_model"], &shown["lora_rank"]), (&json!(BASE), &json!(4)));
    assert!(shown["last_checkpoint"]["expires_at"].is_string(), "{shown}");
    let refused = other.post("forward_backward", forward_backward(copied, 1, "hello"));
    assert!(refused.status == 400 && refused.detail().contains("cannot be trained"), "{}", refused.detail());
    let session_id = other.session();
    assert_eq!(other.call("load_weights", from(&session_id, 0, path))["path"], path);
    assert_eq!(client.post("weights_info", json!({ "tinker_path": path })).status, 403);
}

/// The log-probability that a sampling session of the model [`Gated`] samples with: its weight.
fn weight(client: &mut Client, sampler: &str, seq: u64) -> f64 {
    let said = client.call("asample", sample(sampler, seq, "ab", json!({ "max_tokens": 1 })));
    said["sequences"][0]["logprobs"][0].as_f64().unwrap()
}

fn gated() -> LocalServerBuilder {
    let (model, gate) = Gated::new("test/gated");
    drop(gate);
    LocalServer::builder().model(model)
}

#[test]
fn inflight_samplers_follow_later_saves() {
    let scratch = tempdir().unwrap();
    let server = gated().data_dir(scratch.path()).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model("test/gated");
    let save = |client: &mut Client, kind: &str, sampler: u64, seq: u64| {
        let body = json!({ "model_id": run, "sampling_session_seq_id": sampler, "kind": kind, "seq_id": seq });
        client.call("save_weights_for_sampler", body)["sampling_session_id"].as_str().unwrap().to_owned()
    };
    let train = |client: &mut Client, seq: u64| {
        client.call("forward_backward", forward_backward(&run, seq, "abc"));
        client.call("optim_step", optim_step(&run, seq + 1, 0.5));
    };
    let (first, snapshot) = (save(&mut client, "inflight", 0, 1), save(&mut client, "snapshot", 1, 2));
    assert_eq!(weight(&mut client, &first, 0), -1.0);
    train(&mut client, 3);
    assert_eq!(weight(&mut client, &first, 1), -1.0);
    let second = save(&mut client, "inflight", 2, 5);
    let moved = weight(&mut client, &second, 0);
    assert!(moved > -1.0, "{moved}");
    assert_eq!((weight(&mut client, &first, 2), weight(&mut client, &snapshot, 0)), (moved, -1.0));
    drop(server);

    let server = gated().data_dir(scratch.path()).start().unwrap();
    let mut client = Client::new(&server);
    for (sampler, expected) in [(&first, moved), (&second, moved), (&snapshot, -1.0)] {
        assert_eq!(weight(&mut client, sampler, 9), expected);
    }
}

#[test]
fn unfit_sampler_saves_are_refused() {
    let server = LocalServer::start().unwrap();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    let unnamed = json!({ "model_id": run, "sampling_session_seq_id": 0, "seq_id": 4 });
    for (body, words) in [
        (with(unnamed.clone(), json!({ "kind": "other" })), "no kind \"other\""),
        (with(save(&run, 4, "a"), json!({ "kind": "inflight" })), "inflight weights have no name"),
        (with(unnamed.clone(), json!({ "ttl_seconds": HOUR })), "ttl_seconds is for weights with a name"),
        (with(unnamed.clone(), json!({ "user_metadata": {} })), "user_metadata is for weights with a name"),
        (with(unnamed, json!({ "path": "a" })), "path is for weights with a name"),
    ] {
        let refused = client.post("save_weights_for_sampler", body);
        assert!(refused.status == 400 && refused.detail().contains(words), "{}", refused.detail());
    }
}

#[test]
fn what_was_saved_survives_a_restart() {
    let scratch = tempdir().unwrap();
    let start = || LocalServer::builder().data_dir(scratch.path()).min_ttl(Duration::ZERO).start().unwrap();
    let server = start();
    let mut client = Client::new(&server);
    let run = trained(&mut client);
    let session_id = client.session();
    let path = format!("tinker://{run}/weights/one");
    let made = with(from(&session_id, 0, &path), json!({ "user_metadata": { "made": "from one" } }));
    client.call("load_weights", made);
    let described = json!({ "user_metadata": { "a": "b" }, "ttl_seconds": HOUR });
    client.call("save_weights", with(save(&run, 4, "two"), described.clone()));
    client.call("save_weights_for_sampler", with(save(&run, 5, "three"), described));
    client.call("save_weights_external", save(&run, 6, "four"));
    client.call("save_weights_external", with(save(&run, 7, "gone"), json!({ "ttl_seconds": 0 })));
    let body = json!({ "destination_project_id": "p-1", "source_path": path });
    let copied = client.ok("copy_weights", body)["tinker_path"].clone();
    let lists = ["checkpoints", "training_runs", &format!("training_runs/{run}/checkpoints")];
    let shown = lists.map(|list| client.get(list).json());
    assert_eq!(shown[0]["checkpoints"].as_array().unwrap().len(), 5);
    let expected = loss(&mut client, &run, 8, "hello");
    drop(server);

    let server = start();
    let mut client = Client::new(&server);
    assert_eq!(lists.map(|list| client.get(list).json()), shown);
    let session_id = client.session();
    client.call("load_weights", from(&session_id, 0, copied.as_str().unwrap()));
    assert_eq!(loss(&mut client, &format!("{session_id}:train:0"), 1, "hello"), expected);
}

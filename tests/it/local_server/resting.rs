//! Models that make room for others, and come back with all that training has made of them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::tempdir;
use tinkex::local::LocalServer;
use tinkex::types::{AdamParams, Datum, LoraConfig, LossFn, ModelInput, SamplingParams, TensorData};
use tinkex::{Config, ServiceClient};

use super::client::{Client, forward_backward, loss, optim_step, save};
use super::models::Gated;

const BASE: &str = "tinkex/bytes-tiny";
const MODEL: &str = "test/gated";

/// What a run gives in between: passes whose gradient waits for a step, and steps whose moments matter later.
fn train(client: &mut Client, run: &str, from: u64) -> [f64; 2] {
    let pass = |client: &mut Client, seq, text| {
        client.call("forward_backward", forward_backward(run, seq, text))["metrics"]["loss:sum"].as_f64().unwrap()
    };
    let first = pass(client, from, "hello");
    client.call("optim_step", optim_step(run, from + 1, 0.01));
    [first, pass(client, from + 2, "world")]
}

/// The losses of two runs that are trained in turns, of which only so many may be in memory.
fn losses(builder: tinkex::local::LocalServerBuilder) -> Vec<f64> {
    let server = builder.start().unwrap();
    let mut client = Client::new(&server);
    let runs = [client.model(BASE), client.model(BASE)];
    let mut losses = Vec::new();
    for round in 0..3 {
        for run in &runs {
            losses.extend(train(&mut client, run, 1 + 3 * round));
        }
    }
    losses.extend(runs.each_ref().map(|run| loss(&mut client, run, 10, "hello")));
    losses
}

#[test]
fn a_model_comes_back_as_it_was() {
    let expected = losses(LocalServer::builder());
    assert!(expected.first() > expected.last(), "{expected:?}");
    assert_eq!(losses(LocalServer::builder().max_models(1)), expected);
    let folder = tempdir().unwrap();
    assert_eq!(losses(LocalServer::builder().max_models(1).data_dir(folder.path())), expected);
}

#[test]
fn the_least_recently_used_model_rests() {
    let folder = tempdir().unwrap();
    let server = LocalServer::builder().max_models(2).data_dir(folder.path()).start().unwrap();
    let mut client = Client::new(&server);
    let (first, second) = (client.model(BASE), client.model(BASE));
    client.call("optim_step", optim_step(&first, 1, 0.1));
    let third = client.model(BASE);
    // To be sure that it is written: the next request for it waits for that.
    assert_eq!(resting(folder.path(), &[&first, &third]), [false, false]);
    client.call("optim_step", optim_step(&second, 1, 0.1));
    // It is in memory again, without its files, and the one that was used before the third made room.
    assert_eq!(resting(folder.path(), &[&second, &third]), [false, false]);
    // What needs no weights needs no memory.
    assert_eq!(client.ok("get_info", json!({ "model_id": first }))["model_name"], BASE);
    client.call("unload_model", json!({ "model_id": second }));
    assert_eq!(client.post("get_info", json!({ "model_id": second })).status, 404);
}

/// Whether these runs have files of a resting model.
fn resting(folder: &Path, runs: &[&str]) -> Vec<bool> {
    let exists = |run: &&str| {
        let folders = fs::read_dir(folder.join("runs")).unwrap().map(|entry| entry.unwrap().path());
        let of_run = |path: &Path| path.to_string_lossy().replace("%3A", ":").ends_with(*run);
        folders.filter(|path| of_run(path)).any(|path| path.join("resting").exists())
    };
    runs.iter().map(exists).collect()
}

#[test]
fn an_unloaded_model_leaves_no_files() {
    let folder = tempdir().unwrap();
    let server = LocalServer::builder().max_models(1).data_dir(folder.path()).start().unwrap();
    let mut client = Client::new(&server);
    let (first, second) = (client.model(BASE), client.model(BASE));
    // Each comes back once, so that the other one has been written.
    client.call("optim_step", optim_step(&first, 1, 0.1));
    client.call("optim_step", optim_step(&second, 1, 0.1));
    client.call("unload_model", json!({ "model_id": first }));
    let refused = client.post("optim_step", optim_step(&first, 2, 0.1));
    assert!(refused.status == 404 && refused.detail().contains("unloaded"), "{refused:?}");
    client.call("optim_step", optim_step(&second, 2, 0.1));
    // The server waits for no worker when it stops: the next one removes what an unfinished one left.
    drop(server);
    let server = LocalServer::builder().data_dir(folder.path()).start().unwrap();
    assert_eq!(resting(folder.path(), &[&first, &second]), [false, false]);
    drop(server);
}

#[test]
fn numbers_stay_known_while_a_model_rests() {
    let server = LocalServer::builder().max_models(1).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(BASE);
    let first = client.promise("optim_step", optim_step(&run, 1, 0.1));
    client.result(&first);
    let saved = client.call("save_weights", save(&run, 2, "one"));
    let _other = client.model(BASE);
    assert_eq!(client.promise("optim_step", optim_step(&run, 1, 0.1)), first);
    assert_eq!(client.post("optim_step", optim_step(&run, 1, 0.2)).status, 400);
    assert_eq!(client.post("save_weights", save(&run, 3, "one")).status, 400);
    assert_eq!(
        client.call("save_weights", save(&run, 3, "two"))["path"],
        saved["path"].as_str().unwrap().replace("one", "two")
    );
}

#[test]
fn a_model_at_work_makes_no_room() {
    let (model, gate) = Gated::new(MODEL);
    let server = LocalServer::builder().model(model).max_models(1).start().unwrap();
    let mut client = Client::new(&server);
    let run = client.model(MODEL);
    let pass = client.promise("forward_backward", forward_backward(&run, 1, "abc"));
    let session = client.session();
    let create = json!({ "session_id": session, "model_seq_id": 0, "base_model": MODEL });
    let refused = client.post("create_model", create.clone());
    assert!(refused.status == 429 && refused.detail().contains("at work"), "{refused:?}");
    drop(gate);
    client.result(&pass);
    let other = client.call("create_model", create)["model_id"].as_str().unwrap().to_owned();
    let info: Value = client.ok("get_info", json!({ "model_id": other }));
    assert_eq!(info["model_name"], MODEL);
}

#[test]
fn a_save_that_found_no_room_succeeds_later() {
    let (model, gate) = Gated::new(MODEL);
    let server = LocalServer::builder().model(model).max_models(1).start().unwrap();
    let mut client = Client::new(&server);
    let (first, second) = (client.model(MODEL), client.model(MODEL));
    let pass = client.promise("forward_backward", forward_backward(&second, 1, "abc"));
    for name in ["one", "two"] {
        assert_eq!(client.post("save_weights", save(&first, 1, name)).status, 429);
    }
    drop(gate);
    client.result(&pass);
    let mut saved = client.call("save_weights", save(&first, 1, "one"));
    let path = saved["path"].take();
    assert!(path.as_str().is_some_and(|path| path.ends_with("/weights/one")), "{path}");
    // No save is thought to be under way: it can be changed.
    let ttl = format!("training_runs/{first}/checkpoints/weights/one/publish");
    assert_eq!(client.request("POST", &ttl).status, 204);
}

#[test]
fn a_sweep_of_many_clients_trains() {
    let server = LocalServer::start().unwrap();
    let config = Config::builder()
        .base_url(server.base_url())
        .api_key("tml-local")
        .telemetry(false)
        .build_with(|_| None)
        .unwrap();
    let service = ServiceClient::connect(config).unwrap();
    let datum = Datum::new(ModelInput::from_tokens([97, 98]))
        .input("target_tokens", vec![98_i64, 99])
        .and_then(|datum| datum.input("weights", TensorData::from(vec![1.0_f32, 1.0])))
        .unwrap();
    // One more than the server has in memory.
    let trainers: Vec<_> = (0..65)
        .map(|seed| service.create_lora_training_client(BASE, LoraConfig::new().rank(1).seed(seed)).unwrap())
        .collect();
    for round in 0..2 {
        let pending: Vec<_> = trainers
            .iter()
            .map(|trainer| {
                let pass = trainer.submit_forward_backward([datum.clone()], LossFn::CrossEntropy).unwrap();
                let step = trainer.submit_optim_step(AdamParams::new().learning_rate(0.01)).unwrap();
                (pass, step)
            })
            .collect();
        for (pass, step) in pending {
            assert!(pass.wait().unwrap().metrics["loss:sum"] > 0.0, "{round}");
            step.wait().unwrap();
        }
    }
    // Each has a sampling client at the same time.
    let samplers: Vec<_> =
        trainers.iter().map(|trainer| trainer.save_weights_and_get_sampling_client().unwrap()).collect();
    for sampler in samplers {
        sampler.sample(&ModelInput::from_tokens([97]), 1, &SamplingParams::new().max_tokens(1)).unwrap();
    }
}

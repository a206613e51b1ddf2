//! `tinkex export`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use tempfile::tempdir;
use tinkex::local::LocalServer;
use tinkex::local::pretrained::ModelLoader;
use tinkex::types::{AdamParams, Datum, LoraConfig, LossFn, ModelInput};
use tinkex::{Config, SamplingClient, ServiceClient};

use super::adapter_folder::{golden, largest_difference, load, logprobs, names};
use crate::cli::program::{Done, KEY, tinkex_with};

const BASE: &str = "llama-gqa-tied-f32";

fn base() -> PathBuf {
    golden(BASE)
}

fn connect(server: &LocalServer) -> ServiceClient {
    let config = Config::builder().base_url(server.base_url()).api_key(KEY).build_with(|_| None).unwrap();
    ServiceClient::connect(config).unwrap()
}

/// A server with a model and a checkpoint of it, whose path is the second part; the last part samples from it.
fn trained() -> (LocalServer, String, SamplingClient) {
    let model = ModelLoader::new(base().to_str().unwrap()).load().unwrap();
    let server = LocalServer::builder().model(Arc::new(model)).start().unwrap();
    let service = connect(&server);
    let trainer = service.create_lora_training_client(BASE, LoraConfig::new().rank(4)).unwrap();
    let datum = Datum::new(ModelInput::from_tokens([5, 42, 79])).input("target_tokens", vec![42_i64, 79, 116]).unwrap();
    let batch = vec![datum.input("weights", vec![1.0_f32; 3]).unwrap()];
    for _ in 0..3 {
        trainer.forward_backward(batch.clone(), LossFn::CrossEntropy).unwrap();
        trainer.optim_step(AdamParams::new().learning_rate(0.05)).unwrap();
    }
    let path = trainer.save_weights_for_sampler("final").unwrap().path;
    let sampler = service.create_sampling_client(&path).unwrap();
    (server, path, sampler)
}

fn run(url: &str, folder: &Path, words: &[&str]) -> Done {
    tinkex_with([&["export"], words].concat()).at(url).within(folder).run()
}

#[test]
fn a_checkpoint_of_a_service_becomes_a_model() {
    let (server, path, sampler) = trained();
    let folder = tempdir().unwrap();
    let (url, base) = (server.base_url(), base());
    let run = |words: &[&str]| run(&url, folder.path(), words);
    let base = base.to_str().unwrap();
    let report = run(&[&path, "--to", "merged", "--merge", base, "-f", "json"]).json();
    assert_eq!(names(folder.path()), ["merged"]);
    let expected = json!({
        "checkpoint": path, "base": base, "path": "merged", "files": 4, "matrices": 15, "untied": true, "bytes": report["bytes"],
    });
    assert_eq!(report, expected);
    // The model says what the service says of the checkpoint.
    let tokens: Vec<u32> = (0..24).map(|at| 5 + at * 37 % 250).collect();
    let said = sampler.compute_logprobs(&ModelInput::from_tokens(tokens)).unwrap();
    let said: Vec<f32> = said.into_iter().flatten().collect();
    let difference = largest_difference(&said, &logprobs(&load(&folder.path().join("merged")), None));
    assert!(difference < 1e-4, "{difference}");

    let done = run(&[&path, "--to", "merged"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("merged already exists") && done.stderr.contains("--overwrite"), "{done:?}");
    let done = run(&[&path, "--to", "merged", "--overwrite"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert!(done.stdout.starts_with(&format!("exported {path} to merged (2 files, ")), "{done:?}");
    assert_eq!(names(&folder.path().join("merged")), ["adapter_config.json", "adapter_model.safetensors"]);
    // What was exported is a checkpoint, too, and needs no service.
    drop((server, sampler));
    let done = run(&["merged", "--to", "again", "--merge", base, "--dtype", "bf16"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("a head of its own"), "{done:?}");
    assert_eq!(names(folder.path()), ["again", "merged"]);
}

#[test]
fn failures_say_what_to_do_and_leave_nothing() {
    let server = LocalServer::start().unwrap();
    let (url, folder) = (server.base_url(), tempdir().unwrap());
    let base = base();
    let base = base.to_str().unwrap();
    for (words, code, why) in [
        (vec!["tinker://no/weights/1", "--to", "x"], 1, "the server returned 40"),
        (vec!["tinker://no", "--to", "x"], 2, "tinker://no"),
        (vec!["no/such", "--to", "x"], 1, "no/such"),
        (vec![base, "--to", "x"], 1, "its adapter_config.json cannot be read"),
        (vec!["c", "--to", "x", "--dtype", "f16"], 2, "--merge"),
        (vec!["c"], 2, "--to"),
    ] {
        let done = run(&url, folder.path(), &words);
        assert_eq!((done.code, done.stdout.as_str()), (Some(code), ""), "{done:?}");
        assert!(done.stderr.contains(why) && done.stderr.contains("hint: "), "{done:?}");
        assert_eq!(names(folder.path()), [""; 0], "{done:?}");
    }
}

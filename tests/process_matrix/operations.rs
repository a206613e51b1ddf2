//! What a client does: a row for each kind of request that something can go wrong with.

use std::time::Duration;

use ndarray::Array1;
use tinkex::types::{AdamParams, LossFn, ModelInput, SamplingParams};
use tinkex::{CustomLoss, Result, RetryConfig, Wire};

use crate::cell::Scene;
use crate::support::double::{Numbers, Server, assert_echo, batch};

/// An operation, and the request that is struck.
pub struct Operation {
    pub name: &'static str,
    /// The path of the request, where `*` stands for anything; or `DELETE`, for any such request.
    pub target: &'static str,
    /// How many such requests are left alone.
    pub skip: usize,
    /// Whether it is the first request of the call.
    pub is_first: bool,
    pub server: fn() -> Server,
    pub wire: Wire,
    /// What is there before.
    pub needs: Needs,
    pub run: fn(&Scene) -> Result<()>,
    /// What is run at the server, and how often.
    pub effect: (&'static str, usize),
}

impl Operation {
    /// Whether the request that is struck, or that needs it, is sent for as long as `timeout_submit` says.
    pub fn is_submission(&self) -> bool {
        let paths = ["create_model", "create_sampling_session", "forward", "forward_backward", "optim_step", "asample"];
        let of_weights = ["save_weights", "save_weights_for_sampler", "load_weights"];
        let is_one = |path| paths.contains(&path) || of_weights.contains(&path);
        is_one(self.target) || is_one(self.effect.0)
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Needs {
    /// The call connects.
    Nothing,
    Service,
    Trainer,
    Sampler,
    /// A trainer with saved weights, in `Scene::saved`.
    Saved,
}

/// A server of 2025, which runs any number at once.
fn json() -> Server {
    Server { numbers: Numbers::Keyed, ..Server::json_2025() }
}

fn protobuf() -> Server {
    Server { numbers: Numbers::Keyed, ..Server::official_2026() }
}

fn together() -> Server {
    protobuf().with_config("sample_use_retrieve_futures", true)
}

fn with_tokens() -> Server {
    protobuf().with_config("pjwt_auth_enabled", true)
}

fn in_chunks() -> Server {
    protobuf().with_config("fwdbwd_max_chunk_len", 128)
}

/// Three chunks.
const LARGE: std::ops::Range<u32> = 0..258;

#[allow(clippy::needless_update, reason = "a row may have all fields")]
pub fn all() -> Vec<Operation> {
    let row = Operation {
        name: "",
        target: "",
        skip: 0,
        is_first: true,
        server: protobuf,
        wire: Wire::Auto,
        needs: Needs::Service,
        run: |_| Ok(()),
        effect: ("", 0),
    };
    macro_rules! rows {
        ($($name:literal, $target:literal, { $($field:ident: $value:expr),* $(,)? })*) => {
            vec![$(Operation { name: $name, target: $target, $($field: $value,)* ..row }),*]
        };
    }
    let connect: fn(&Scene) -> Result<()> = Scene::connect;
    rows! {
        "connect: settings", "client/config", { needs: Needs::Nothing, run: connect }
        "connect: token", "auth/token", { needs: Needs::Nothing, server: with_tokens, is_first: false, run: connect }
        "connect: session", "create_session", { needs: Needs::Nothing, is_first: false, run: connect }
        "health", "healthz", { run: |scene| scene.service().health().map(drop) }
        "heartbeat", "session_heartbeat", { is_first: false, run: |scene| scene.until_struck() }
        "telemetry", "telemetry", { is_first: false, run: |scene| {
            scene.service().telemetry().log("event", serde_json::json!({}), tinkex::types::Severity::Info);
            scene.service().telemetry().flush();
            scene.until_struck()
        } }
        "close", "*/finish", { run: |scene| {
            scene.close();
            Ok(())
        } }
        "create_lora_training_client: submission", "create_model", { run: create }
        "create_lora_training_client: poll", "retrieve_future", { is_first: false, run: create }
        "forward_backward in JSON: submission", "forward_backward", {
            needs: Needs::Trainer, server: json, run: pass, effect: ("forward_backward", 1) }
        "forward_backward in JSON: poll", "retrieve_future", {
            needs: Needs::Trainer, server: json, run: pass, is_first: false, effect: ("forward_backward", 1) }
        "forward_backward in protobuf: submission", "forward_backward", {
            needs: Needs::Trainer, wire: Wire::Protobuf, run: pass, effect: ("forward_backward", 1) }
        "forward_backward in protobuf: poll", "retrieve_future", {
            needs: Needs::Trainer, wire: Wire::Protobuf, run: pass, is_first: false, effect: ("forward_backward", 1) }
        "forward_backward in JSON, numbers in order: submission", "forward_backward", {
            needs: Needs::Trainer, server: Server::json_2025, run: pass, effect: ("forward_backward", 1) }
        "forward_backward in three chunks: second submission", "forward_backward", {
            needs: Needs::Trainer, server: json, run: large_pass, skip: 1, is_first: false, effect: ("forward_backward", 3) }
        "forward_backward in three chunks: poll", "retrieve_future", {
            needs: Needs::Trainer, server: json, run: large_pass, is_first: false, effect: ("forward_backward", 3) }
        "forward_backward in three chunks of protobuf: second submission", "forward_backward", {
            needs: Needs::Trainer, server: in_chunks, wire: Wire::Protobuf, run: large_pass, skip: 1, is_first: false,
            effect: ("forward_backward", 3) }
        "forward_backward in three chunks of protobuf: poll", "retrieve_future", {
            needs: Needs::Trainer, server: in_chunks, wire: Wire::Protobuf, run: large_pass, is_first: false,
            effect: ("forward_backward", 3) }
        "forward_backward_custom: first pass", "forward", {
            needs: Needs::Trainer, server: json, run: custom, effect: ("forward_backward", 1) }
        "forward_backward_custom: second pass", "forward_backward", {
            needs: Needs::Trainer, server: json, run: custom, is_first: false, effect: ("forward_backward", 1) }
        "forward_backward_custom in protobuf: first pass", "forward_backward", {
            needs: Needs::Trainer, wire: Wire::Protobuf, run: custom, effect: ("forward_backward", 1) }
        "forward_backward_custom in protobuf: second pass", "forward_backward", {
            needs: Needs::Trainer, wire: Wire::Protobuf, run: custom, skip: 1, is_first: false,
            effect: ("forward_backward", 1) }
        "optim_step: submission", "optim_step", { needs: Needs::Trainer, run: step, effect: ("optim_step", 1) }
        "optim_step: poll", "retrieve_future", {
            needs: Needs::Trainer, run: step, is_first: false, effect: ("optim_step", 1) }
        "optim_step, numbers in order: submission", "optim_step", {
            needs: Needs::Trainer, server: Server::json_2025, run: step, effect: ("optim_step", 1) }
        "optim_step with a token: submission", "optim_step", {
            needs: Needs::Trainer, server: with_tokens, run: step, effect: ("optim_step", 1) }
        "optim_step with an expired token: exchange", "auth/token", {
            needs: Needs::Trainer, server: with_tokens, is_first: false, effect: ("optim_step", 1), run: |scene| {
                scene.expire_tokens();
                step(scene)
            } }
        "optim_step at a server of 2025: poll", "retrieve_future", {
            needs: Needs::Trainer, server: json, run: step, is_first: false, effect: ("optim_step", 1) }
        "save_state: submission", "save_weights", {
            needs: Needs::Trainer, run: save, effect: ("save_weights", 1) }
        "save_state, numbers in order: submission", "save_weights", {
            needs: Needs::Trainer, server: Server::json_2025, run: save, effect: ("save_weights", 1) }
        "save_state: poll", "retrieve_future", {
            needs: Needs::Trainer, run: save, is_first: false, effect: ("save_weights", 1) }
        "save_state at a server of 2025: poll", "retrieve_future", {
            needs: Needs::Trainer, server: json, run: save, is_first: false, effect: ("save_weights", 1) }
        "load_state: submission", "load_weights", {
            needs: Needs::Saved, run: load, effect: ("load_weights", 1) }
        "save_weights_and_get_sampling_client: submission", "save_weights_for_sampler", {
            needs: Needs::Trainer, run: |scene| scene.trainer().save_weights_and_get_sampling_client().map(drop),
            effect: ("save_weights_for_sampler", 1) }
        "create_sampling_client", "create_sampling_session", {
            run: |scene| scene.service().create_sampling_client("base").map(drop) }
        "sample: submission", "asample", { needs: Needs::Sampler, run: sample, effect: ("asample", 1) }
        "sample: poll", "retrieve_future", {
            needs: Needs::Sampler, run: sample, is_first: false, effect: ("asample", 1) }
        "sample: poll of the session", "retrieve_futures", {
            needs: Needs::Sampler, server: together, run: sample, is_first: false, effect: ("asample", 1) }
        "compute_logprobs: submission", "asample", { needs: Needs::Sampler, run: logprobs, effect: ("asample", 1) }
        "get_info", "get_info", { needs: Needs::Trainer, run: |scene| scene.trainer().get_info().map(drop) }
        "get_info with an expired token: exchange", "auth/token", {
            needs: Needs::Trainer, server: with_tokens, is_first: false, run: |scene| {
                scene.expire_tokens();
                scene.trainer().get_info().map(drop)
            } }
        "get_training_run", "training_runs/*", { needs: Needs::Trainer, run: |scene| {
            scene.service().create_rest_client().get_training_run(scene.trainer().model_id()).map(drop)
        } }
        "delete_checkpoint", "DELETE", { needs: Needs::Saved, effect: ("delete", 1), run: |scene| {
            scene.service().create_rest_client().delete_checkpoint_from_tinker_path(&scene.saved())
        } }
        "download: archive", "*/archive", { needs: Needs::Saved, server: json, run: download }
        "download: file", "*/archive.tar", { needs: Needs::Saved, server: json, run: download, is_first: false }
    }
}

/// What works afterwards on the same client.
pub fn later(scene: &Scene, needs: Needs) -> Result<()> {
    match needs {
        Needs::Nothing | Needs::Service => scene.service().health().map(drop),
        Needs::Trainer | Needs::Saved => {
            let output = scene.trainer().forward_backward(batch([900]), LossFn::CrossEntropy)?;
            assert_echo(&output, [900], "later");
            scene.trainer().optim_step(AdamParams::default()).map(drop)
        }
        Needs::Sampler => sample_of(scene, 7),
    }
}

fn create(scene: &Scene) -> Result<()> {
    scene.service().create_lora_training_client("base", tinkex::types::LoraConfig::new()).map(drop)
}

fn pass(scene: &Scene) -> Result<()> {
    let output = scene.trainer().forward_backward(batch([1, 2]), LossFn::CrossEntropy)?;
    assert_echo(&output, [1, 2], "pass");
    Ok(())
}

fn large_pass(scene: &Scene) -> Result<()> {
    let output = scene.trainer().forward_backward(batch(LARGE), LossFn::CrossEntropy)?;
    assert_eq!(output.loss_fn_outputs.len(), LARGE.len());
    for (number, output) in LARGE.zip(&output.loss_fn_outputs) {
        assert_eq!(output.logprobs().unwrap()[0], -((8 * number + 1) as f32) / 1024.0);
    }
    Ok(())
}

fn custom(scene: &Scene) -> Result<()> {
    let loss = |_: &[tinkex::types::Datum], logprobs: &[Array1<f32>]| -> Result<_> {
        Ok(CustomLoss::new(1.0, logprobs.iter().map(|logprobs| Array1::ones(logprobs.len())).collect()))
    };
    scene.trainer().forward_backward_custom(batch([3]), loss).map(drop)
}

fn step(scene: &Scene) -> Result<()> {
    // Metrics are not required.
    let metrics = scene.trainer().optim_step(AdamParams::default())?.metrics;
    assert!(metrics.is_none_or(|metrics| metrics["steps"] == 1.0));
    Ok(())
}

fn save(scene: &Scene) -> Result<()> {
    let saved = scene.trainer().save_state("state")?;
    assert!(saved.path.ends_with("/weights/state"));
    Ok(())
}

fn load(scene: &Scene) -> Result<()> {
    scene.trainer().load_state(scene.saved().as_str()).map(drop)
}

fn sample(scene: &Scene) -> Result<()> {
    sample_of(scene, 5)
}

fn sample_of(scene: &Scene, token: u32) -> Result<()> {
    let sampler = scene.sampler().with_retry_config(RetryConfig::default().base(Duration::from_secs(1)));
    let response = sampler.sample(&ModelInput::from_tokens([token]), 2, &SamplingParams::default().max_tokens(2))?;
    assert_eq!(response.sequences.len(), 2);
    assert!(response.sequences.iter().all(|sequence| sequence.tokens == [0, token]));
    Ok(())
}

fn logprobs(scene: &Scene) -> Result<()> {
    let logprobs = scene.sampler().compute_logprobs(&ModelInput::from_tokens([1, 512]))?;
    assert_eq!(logprobs, [None, Some(-0.5)]);
    Ok(())
}

fn download(scene: &Scene) -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("weights");
    let rest = scene.service().create_rest_client();
    let result = rest.download_checkpoint_archive_from_tinker_path(&scene.saved(), &*into).map(drop);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, usize::from(result.is_ok()), "a part of a download is left");
    result
}

//! Every blocking call ends after its `timeout_operation`, whether the service is silent or sends a byte now and then.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::unbounded;
use ndarray::array;
use serde_json::Value;
use tempfile::tempdir;
use tinkex::rest::{CopyWeights, DownloadOptions};
use tinkex::types::{
    AdamParams, AuditEventType, LoraConfig, LossFn, ModelInput, RequestKind, SamplerKind, SamplingParams,
    SessionSearch, Timestamp,
};
use tinkex::{
    Config, CustomLoss, Error, ErrorKind, Limit, RestClient, SampleOptions, SamplingClient, ServiceClient,
    TokenizerSource, TrainingClient, wait_all,
};

use crate::source_tree::public_methods;
use crate::support::{RecordedRequest, Reply, Service, batch, connect, healthy_service};

/// In real time: the limits of sockets are those of the operating system.
const LIMIT: Duration = Duration::from_millis(200);

/// A call that takes longer than this does not end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A checkpoint, and one whose archive is known while the storage of archives is as silent as the service.
const PATH: &str = "tinker://run/weights/a";
const STORED: &str = "tinker://stored/weights/a";

/// What a call needs. The clients have the limit.
struct Scene {
    config: Config,
    client: ServiceClient,
    trainer: TrainingClient,
    sampler: SamplingClient,
    rest: RestClient,
    folder: PathBuf,
}

type Call = fn(&Scene) -> Result<(), Error>;

fn prompt() -> ModelInput {
    ModelInput::from_tokens([1, 2, 3])
}

fn adam() -> AdamParams {
    AdamParams::default()
}

fn params() -> SamplingParams {
    SamplingParams::default()
}

fn copied() -> CopyWeights {
    CopyWeights::new(PATH).destination_project_id("p")
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Every public call that blocks on the service, by its name in `docs/public-api.txt`.
const CALLS: &[(&str, Call)] = &[
    ("ServiceClient::connect", |scene| ServiceClient::connect(scene.config.clone()).map(drop)),
    ("ServiceClient::copy_weights", |scene| scene.client.copy_weights(&copied()).map(drop)),
    ("ServiceClient::create_lora_training_client", |scene| {
        scene.client.create_lora_training_client("base", LoraConfig::default()).map(drop)
    }),
    ("ServiceClient::create_sampling_client", |scene| scene.client.create_sampling_client("base").map(drop)),
    ("ServiceClient::create_training_client_from_state", |scene| {
        scene.client.create_training_client_from_state(PATH).map(drop)
    }),
    ("ServiceClient::create_training_client_from_state_with_optimizer", |scene| {
        scene.client.create_training_client_from_state_with_optimizer(PATH).map(drop)
    }),
    ("ServiceClient::export_and_download_checkpoint", |scene| {
        scene.client.export_and_download_checkpoint(PATH, scene.folder.join("export")).map(drop)
    }),
    ("ServiceClient::get_server_capabilities", |scene| scene.client.get_server_capabilities().map(drop)),
    ("ServiceClient::health", |scene| scene.client.health().map(drop)),
    ("LoraBuilder::create", |scene| scene.client.training_client().lora("base").create().map(drop)),
    ("FromStateBuilder::create", |scene| scene.client.training_client().from_state(PATH).create().map(drop)),
    ("Pending::wait", |scene| scene.client.pending::<Value>("optim_step:m:1", RequestKind::OptimStep).wait().map(drop)),
    ("wait_all", |scene| {
        let results =
            (1..4).map(|n| scene.client.pending::<Value>(&format!("optim_step:m:{n}"), RequestKind::OptimStep));
        wait_all(results).map(drop)
    }),
    ("TrainingClient::forward", |scene| scene.trainer.forward(batch(), LossFn::CrossEntropy).map(drop)),
    ("TrainingClient::forward_backward", |scene| {
        scene.trainer.forward_backward(batch(), LossFn::CrossEntropy).map(drop)
    }),
    ("TrainingClient::forward_backward_custom", |scene| {
        let loss = |_: &[_], _: &[_]| Ok::<_, Infallible>(CustomLoss::new(0.0, vec![array![0.0, 0.0, 0.0]]));
        scene.trainer.forward_backward_custom(batch(), loss).map(drop)
    }),
    ("TrainingClient::optim_step", |scene| scene.trainer.optim_step(adam()).map(drop)),
    ("TrainingClient::get_info", |scene| scene.trainer.get_info().map(drop)),
    ("TrainingClient::tokenizer", |scene| scene.trainer.tokenizer().map(drop)),
    ("TrainingClient::tokenizer_id", |scene| scene.trainer.tokenizer_id().map(drop)),
    ("TrainingClient::tokenizer_source", |scene| scene.trainer.tokenizer_source().map(drop)),
    ("TrainingClient::unload_model", |scene| scene.trainer.unload_model().map(drop)),
    ("TrainingClient::load_state", |scene| scene.trainer.load_state(PATH).map(drop)),
    ("TrainingClient::load_state_with_optimizer", |scene| scene.trainer.load_state_with_optimizer(PATH).map(drop)),
    ("TrainingClient::save_state", |scene| scene.trainer.save_state("a").map(drop)),
    ("TrainingClient::save_weights_and_get_sampling_client", |scene| {
        scene.trainer.save_weights_and_get_sampling_client().map(drop)
    }),
    ("TrainingClient::save_weights_and_get_sampling_client_with", |scene| {
        scene.trainer.save_weights_and_get_sampling_client_with(SamplerKind::Snapshot).map(drop)
    }),
    ("TrainingClient::save_weights_external", |scene| scene.trainer.save_weights_external("a").map(drop)),
    ("TrainingClient::save_weights_for_sampler", |scene| scene.trainer.save_weights_for_sampler("a").map(drop)),
    ("SamplingClient::compute_logprobs", |scene| scene.sampler.compute_logprobs(&prompt()).map(drop)),
    ("SamplingClient::compute_logprobs_last_n", |scene| scene.sampler.compute_logprobs_last_n(&prompt(), 1).map(drop)),
    ("SamplingClient::from_sampler_handle", |scene| {
        let handle = scene.sampler.get_sampler_handle()?;
        SamplingClient::from_sampler_handle(scene.config.clone(), &handle).map(drop)
    }),
    ("SamplingClient::get_base_model", |scene| scene.sampler.get_base_model().map(drop)),
    ("SamplingClient::tokenizer", |scene| scene.sampler.tokenizer().map(drop)),
    ("SamplingClient::tokenizer_id", |scene| scene.sampler.tokenizer_id().map(drop)),
    ("SamplingClient::tokenizer_source", |scene| scene.sampler.tokenizer_source().map(drop)),
    ("SamplingClient::sample", |scene| scene.sampler.sample(&prompt(), 1, &params()).map(drop)),
    ("SamplingClient::sample_with", |scene| scene.sampler.sample_with(SampleOptions::new(prompt())).map(drop)),
    ("SampleMany::wait_all", |scene| scene.sampler.sample_many([prompt(), prompt()]).wait_all().map(drop)),
    ("RestClient::assign_session_project", |scene| scene.rest.assign_session_project("s", "p")),
    ("RestClient::get_session", |scene| scene.rest.get_session("s").map(drop)),
    ("RestClient::list_sessions", |scene| scene.rest.list_sessions(1, 0).map(drop)),
    ("RestClient::search_sessions", |scene| scene.rest.search_sessions(&SessionSearch::new()).map(drop)),
    ("RestClient::get_sampler", |scene| scene.rest.get_sampler("s").map(drop)),
    ("RestClient::get_server_capabilities", |scene| scene.rest.get_server_capabilities().map(drop)),
    ("RestClient::get_weights_info_by_tinker_path", |scene| scene.rest.get_weights_info_by_tinker_path(PATH).map(drop)),
    ("RestClient::list_checkpoints", |scene| scene.rest.list_checkpoints("run").map(drop)),
    ("RestClient::list_user_checkpoints", |scene| scene.rest.list_user_checkpoints(1, 0).map(drop)),
    ("RestClient::copy_weights", |scene| scene.rest.copy_weights(&copied()).map(drop)),
    ("RestClient::delete_checkpoint", |scene| scene.rest.delete_checkpoint("run", "weights/a")),
    ("RestClient::delete_checkpoint_from_tinker_path", |scene| scene.rest.delete_checkpoint_from_tinker_path(PATH)),
    ("RestClient::get_checkpoint_archive_url", |scene| {
        scene.rest.get_checkpoint_archive_url("run", "weights/a").map(drop)
    }),
    ("RestClient::get_checkpoint_archive_url_from_tinker_path", |scene| {
        scene.rest.get_checkpoint_archive_url_from_tinker_path(PATH).map(drop)
    }),
    ("RestClient::get_external_weights_urls", |scene| {
        scene.rest.get_external_weights_urls("tinker://run/external_weights/a").map(drop)
    }),
    ("RestClient::publish_checkpoint", |scene| scene.rest.publish_checkpoint("run", "weights/a")),
    ("RestClient::publish_checkpoint_from_tinker_path", |scene| scene.rest.publish_checkpoint_from_tinker_path(PATH)),
    ("RestClient::set_checkpoint_ttl", |scene| scene.rest.set_checkpoint_ttl("run", "weights/a", None)),
    ("RestClient::set_checkpoint_ttl_from_tinker_path", |scene| {
        scene.rest.set_checkpoint_ttl_from_tinker_path(PATH, None)
    }),
    ("RestClient::unpublish_checkpoint", |scene| scene.rest.unpublish_checkpoint("run", "weights/a")),
    ("RestClient::unpublish_checkpoint_from_tinker_path", |scene| {
        scene.rest.unpublish_checkpoint_from_tinker_path(PATH)
    }),
    ("RestClient::download_checkpoint_archive", |scene| {
        scene.rest.download_checkpoint_archive("run", "weights/a", scene.folder.join("archive")).map(drop)
    }),
    ("RestClient::download_checkpoint_archive_from_tinker_path", |scene| {
        scene.rest.download_checkpoint_archive_from_tinker_path(STORED, scene.folder.join("stored")).map(drop)
    }),
    ("RestClient::download_session_trace", |scene| {
        scene.rest.download_session_trace("s", DownloadOptions::new(scene.folder.join("trace"))).map(drop)
    }),
    ("RestClient::export_session_trace", |scene| scene.rest.export_session_trace("s", PATIENCE).map(drop)),
    ("RestClient::get_audit_log", |scene| scene.rest.get_audit_log(&AuditEventType::All, None).map(drop)),
    ("RestClient::get_billing_usage", |scene| {
        scene.rest.get_billing_usage(&time("2026-01-01T00:00:00Z"), &time("2026-01-02T00:00:00Z")).map(drop)
    }),
    ("RestClient::get_current_checkpoint_storage_usage", |scene| {
        scene.rest.get_current_checkpoint_storage_usage(None).map(drop)
    }),
    ("RestClient::get_training_run", |scene| scene.rest.get_training_run("run").map(drop)),
    ("RestClient::get_training_run_by_tinker_path", |scene| scene.rest.get_training_run_by_tinker_path(PATH).map(drop)),
    ("RestClient::list_training_runs", |scene| scene.rest.list_training_runs(1, 0).map(drop)),
    ("RestClient::list_training_runs_of_project", |scene| {
        scene.rest.list_training_runs_of_project("p", 1, 0).map(drop)
    }),
    ("Pages::next", |scene| scene.rest.sessions().next().unwrap().map(drop)),
    ("FoundSessions::next", |scene| scene.rest.found_sessions(SessionSearch::new()).next().unwrap().map(drop)),
    ("Request::send", |scene| scene.client.api().get("/api/v1/healthz").send().map(drop)),
    ("TokenizerSource::load", |scene| hub(scene).load("owner/model").map(drop)),
    ("TokenizerSource::load_file", |scene| hub(scene).load_file("owner/model", "config.json").map(drop)),
];

/// Calls with a `Result` that ask nobody; `whoami` does not unless the service gives tokens.
const OTHERS: &[&str] = &[
    "Api::new",
    "Pending::try_get",
    "Pending::wait_timeout",
    "Response::boolean",
    "Response::json",
    "Response::text",
    "RestClient::new",
    "RestClient::whoami",
    "SamplingClient::get_sampler_handle",
];

/// A hub as silent as the service.
fn hub(scene: &Scene) -> TokenizerSource {
    let folder = scene.folder.join("tokenizers");
    let source = TokenizerSource::from_env_with(|_| None).cache_dir(folder.join("cache"));
    source.hub_cache_dir(folder.join("hub")).endpoint(scene.config.base_url()).config(&scene.config)
}

/// Has all calls made at once of a service that is healthy until all clients are there, and then sends this.
fn all_end(reply: fn() -> Reply) {
    let is_mute = Arc::new(AtomicBool::new(false));
    let mute = Arc::clone(&is_mute);
    let storage = Service::start(move |_| reply());
    let link = format!("{}/archive", storage.url());
    let service = Service::start(move |request: &RecordedRequest| match mute.load(Ordering::SeqCst) {
        true if request.path.contains("runs/stored/") => Reply::with_headers(302, &[("location", &link)], &Value::Null),
        true => reply(),
        false => healthy_service(request),
    });
    let folder = tempdir().unwrap();
    let config = || service.config().api_key("tml-call-limits").timeout_drop(LIMIT);
    let client = connect(config());
    let limited = config().timeout_operation(Some(LIMIT)).build_with(|_| None).unwrap();
    let scenes: Vec<_> = CALLS
        .iter()
        .map(|_| Scene {
            config: limited.clone(),
            client: client.with_timeout_operation(Some(LIMIT)),
            trainer: client
                .create_lora_training_client("base", LoraConfig::default())
                .unwrap()
                .with_timeout_operation(Some(LIMIT)),
            sampler: client
                .create_sampling_client("tinker://run/sampler_weights/a")
                .unwrap()
                .with_timeout_operation(Some(LIMIT)),
            rest: client.create_rest_client().with_timeout_operation(Some(LIMIT)),
            folder: folder.path().to_owned(),
        })
        .collect();
    is_mute.store(true, Ordering::SeqCst);
    let (ended, ends) = unbounded();
    let mut running = BTreeSet::new();
    for ((name, call), scene) in CALLS.iter().zip(scenes) {
        running.insert(*name);
        let ended = ended.clone();
        thread::spawn(move || ended.send((*name, call(&scene))));
    }
    let mut wrong = Vec::new();
    while !running.is_empty() {
        let Ok((name, outcome)) = ends.recv_timeout(PATIENCE) else { break };
        running.remove(name);
        match outcome {
            Err(error) if error.kind() == ErrorKind::Timeout(Limit::Operation) => {}
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert!(running.is_empty(), "these do not end: {running:?}");
    assert!(wrong.is_empty(), "these end in another way:\n{}", wrong.join("\n"));
}

#[test]
fn every_call_of_a_silent_service_ends() {
    all_end(|| Reply::Silence);
}

#[test]
fn every_call_ends_though_the_head_drips() {
    all_end(|| Reply::Drip(drops(b"HTTP/1.1 200 OK\r\nx-filler: "), Duration::from_millis(20)));
}

#[test]
fn every_call_ends_though_the_body_drips() {
    all_end(|| {
        Reply::Drip(drops(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n{\"a\": \""), Duration::from_millis(20))
    });
}

/// The beginning, and then a byte at a time for longer than any call takes.
fn drops(beginning: &[u8]) -> Vec<Vec<u8>> {
    std::iter::once(beginning.to_vec()).chain((0..3000).map(|_| b"x".to_vec())).collect()
}

#[test]
fn no_blocking_call_is_left_out() {
    const TYPES: [&str; 14] = [
        "Api",
        "FoundSessions",
        "FromStateBuilder",
        "LoraBuilder",
        "Pages",
        "Pending",
        "Request",
        "Response",
        "RestClient",
        "SampleMany",
        "SamplingClient",
        "ServiceClient",
        "TokenizerSource",
        "TrainingClient",
    ];
    let listed: BTreeSet<_> = CALLS.iter().map(|(name, _)| *name).chain(OTHERS.iter().copied()).collect();
    let mut expected = BTreeSet::new();
    for (owner, name, signature) in public_methods() {
        let fallible =
            signature.contains("-> tinkex::Result<") || signature.contains("-> core::option::Option<tinkex::Result<");
        if fallible && TYPES.contains(&&*owner) && name != "submit" && !name.starts_with("submit_") {
            expected.insert(format!("{owner}::{name}"));
        }
    }
    assert!(expected.len() > 60, "only {} calls were found", expected.len());
    let missing: Vec<_> = expected.iter().filter(|name| !listed.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

//! This crate's clients save, load, copy and download weights on the local server.

use std::fs;
use std::time::Duration;

use tempfile::tempdir;
use tinkex::local::LocalServer;
use tinkex::rest::CopyWeights;
use tinkex::types::{
    AdamParams, CheckpointType, Datum, ExternalSaveOptions, LoraConfig, LossFn, ModelInput, SamplerKind,
    SamplerSaveOptions, SamplingParams, SaveOptions,
};
use tinkex::{Config, Proxy, SamplingClient, ServiceClient, TrainingClient, TrainingOptions};

const BASE: &str = "tinkex/bytes-tiny";
const HOUR: Duration = Duration::from_secs(3600);

fn connect(server: &LocalServer, key: &str) -> ServiceClient {
    let config = Config::builder().api_key(key).base_url(server.base_url()).proxy(Proxy::Off).project_id("p-1");
    ServiceClient::connect(config.build_with(|_| None).unwrap()).unwrap()
}

fn datum() -> Datum {
    let datum = Datum::new(ModelInput::from_tokens([1, 2, 3])).input("target_tokens", vec![2_i64, 3, 4]).unwrap();
    datum.input("weights", vec![1.0_f32; 3]).unwrap()
}

fn loss(trainer: &TrainingClient) -> f64 {
    trainer.forward(vec![datum()], LossFn::CrossEntropy).unwrap().metrics["loss:sum"]
}

fn step(trainer: &TrainingClient) {
    trainer.forward_backward(vec![datum()], LossFn::CrossEntropy).unwrap();
    trainer.optim_step(AdamParams::new().learning_rate(0.01)).unwrap();
}

fn train(service: &ServiceClient) -> TrainingClient {
    let options = TrainingOptions::new().lora(LoraConfig::new().rank(4)).user_metadata("run", "first");
    let trainer = service.create_lora_training_client(BASE, options).unwrap();
    step(&trainer);
    trainer
}

#[test]
fn a_client_continues_from_a_state() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server, "tml-local");
    let trainer = train(&service);
    let options = SaveOptions::new("a").ttl(HOUR).user_metadata("loss", "0.3");
    let path = trainer.save_state(options.clone()).unwrap().path;
    assert_eq!(trainer.save_state(options.overwrite(true)).unwrap().path, path);
    let at_save = loss(&trainer);
    step(&trainer);

    let other = connect(&server, "tml-other");
    let shared = |token: &str| other.training_client().from_state(&path).weights_access_token(token);
    assert_eq!(shared("tml-third").create().unwrap_err().status(), Some(403));
    for (again, with_optimizer) in [
        (service.training_client().from_state(&path).with_optimizer().create().unwrap(), true),
        (shared("tml-local").create().unwrap(), false),
    ] {
        assert_eq!(again.get_info().unwrap().lora_rank, Some(4));
        assert_eq!(loss(&again), at_save);
        step(&again);
        assert_eq!(loss(&again) == loss(&trainer), with_optimizer);
    }
    let saved = service.create_rest_client().list_checkpoints(trainer.model_id()).unwrap().checkpoints;
    assert_eq!((saved.len(), saved[0].expires_at.is_some()), (1, true));
    assert_eq!(saved[0].user_metadata.as_ref().unwrap()["loss"], "0.3");
}

#[test]
fn external_weights_are_downloaded() {
    let (server, scratch) = (LocalServer::start().unwrap(), tempdir().unwrap());
    let service = connect(&server, "tml-local");
    let trainer = train(&service);
    let saved = trainer.save_weights_external(ExternalSaveOptions::new("ext").ttl(HOUR)).unwrap();
    let rest = service.create_rest_client();
    let folder = scratch.path().join("adapter");
    rest.download_checkpoint_archive_from_tinker_path(&saved.path, folder.as_path()).unwrap();
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);
    let size: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert_eq!(saved.size_bytes, Some(size));

    let path = trainer.save_state("state").unwrap().path;
    service.export_and_download_checkpoint(&path, scratch.path().join("exported").as_path()).unwrap();
    for name in names {
        let read = |folder: &str| fs::read(scratch.path().join(folder).join(name)).unwrap();
        assert!(read("adapter") == read("exported"), "{name}");
    }
    let left = rest.list_checkpoints(trainer.model_id()).unwrap().checkpoints;
    let kinds: Vec<_> = left.iter().map(|checkpoint| checkpoint.checkpoint_type.clone()).collect();
    assert_eq!(kinds, [CheckpointType::External, CheckpointType::Training]);
}

#[test]
fn a_copy_outlives_its_source() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server, "tml-local");
    let trainer = train(&service);
    let options = SamplerSaveOptions::new("s").user_metadata("set", "dev");
    let (state, sampler) =
        (trainer.save_state("a").unwrap().path, trainer.save_weights_for_sampler(options).unwrap().path);
    let rest = service.create_rest_client();
    let copies = [&state, &sampler].map(|path| rest.copy_weights(&CopyWeights::new(path).ttl(HOUR)).unwrap());
    for path in [state, sampler] {
        rest.delete_checkpoint_from_tinker_path(&path).unwrap();
    }
    let again = service.training_client().from_state(&copies[0]).create().unwrap();
    assert_eq!(loss(&again), loss(&trainer));
    let info = rest.get_weights_info_by_tinker_path(&copies[1]).unwrap();
    assert_eq!((info.lora_rank, info.optimizer_config.name()), (Some(4), "adamw"));
    service.create_sampling_client(&copies[1]).unwrap();
}

#[test]
fn an_inflight_client_samples_with_the_latest_weights() {
    let server = LocalServer::start().unwrap();
    let service = connect(&server, "tml-local");
    let trainer = train(&service);
    let inflight = || trainer.save_weights_and_get_sampling_client_with(SamplerKind::Inflight).unwrap();
    let (follows, snapshot) = (inflight(), trainer.save_weights_and_get_sampling_client().unwrap());
    let params = SamplingParams::default().max_tokens(4).seed(7);
    // A client keeps what it computed for a prompt, so each sample here has a prompt of its own.
    let sample = |client: &SamplingClient, prompt: [u32; 2]| {
        let response = client.sample(&ModelInput::from_tokens(prompt), 1, &params).unwrap();
        response.sequences[0].logprobs.clone()
    };
    let before = sample(&follows, [1, 2]);
    assert_eq!(sample(&snapshot, [1, 2]), before);
    for _ in 0..5 {
        step(&trainer);
    }
    let later = inflight();
    let moved = sample(&follows, [3, 4]);
    assert_eq!(sample(&later, [3, 4]), moved);
    assert_ne!(sample(&snapshot, [3, 4]), moved);
    assert_eq!(sample(&snapshot, [1, 2]), before);
}

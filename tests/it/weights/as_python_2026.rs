//! The scenarios 10, 11, 12, 28, 30 and 31 of the Python client 0.38.0: the same calls make the same bodies.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tinkex::types::{
    AdamParams, DimuonOptimizerConfig, DimuonParams, ExternalSaveOptions, LoadOptions, LoraConfig, SamplerKind,
    SamplerSaveOptions, SaveOptions,
};
use tinkex::{ServiceClient, TrainingOptions};

use super::client;
use crate::support::{Reply, Service, golden};

/// What 0.38.0 sends and this crate leaves out: the object and key, the value that it has for every server that knows it, and
/// why.
const LEFT_OUT: [(&str, &str, &str, &str); 6] = [
    ("adam_params", "weight_decay", "0.0", STRICT),
    ("adam_params", "grad_clip_norm", "0.0", STRICT),
    ("save_weights", "overwrite", "false", STRICT),
    ("save_weights_for_sampler", "kind", "\"snapshot\"", STRICT),
    ("create_model", "optimizer_config", "{\"type\":\"adamw\"}", STRICT),
    ("create_model", "user_metadata", "{}", "metadata that is set but empty is the same as none"),
];

/// `extra: forbid` in `v0.4.1/pure_types`, from which servers of 2025 take their types.
const STRICT: &str = "servers that check as 0.4.1 does refuse a key that they do not know";

/// The requests that these scenarios are about.
const COMPARED: [&str; 7] = [
    "create_model",
    "get_info",
    "optim_step",
    "save_weights",
    "load_weights",
    "save_weights_for_sampler",
    "save_weights_external",
];

/// A service that replays the responses of a scenario, by path and promise. It creates every model that is asked for.
fn replay(name: &str) -> Service {
    let mut responses = HashMap::<String, VecDeque<Value>>::new();
    let fixture = golden::fixture_2026(name);
    for exchange in fixture["exchanges"].as_array().unwrap() {
        let path = exchange["path"].as_str().unwrap().trim_start_matches("/api/v1/");
        let promise = exchange["body"]["json"]["request_id"].as_str().unwrap_or_default();
        responses.entry(format!("{path} {promise}")).or_default().push_back(exchange["response"]["json"].clone());
    }
    let responses = Mutex::new(responses);
    Service::start(move |request| {
        let asked = format!("{} {}", request.path, request.request_id());
        match responses.lock().unwrap().get_mut(&asked).and_then(VecDeque::pop_front) {
            Some(response) => Reply::ok(response),
            None => Reply::Json(404, json!({"detail": "not in the scenario"})),
        }
    })
}

fn without_left_out(name: &str, body: &mut Value) {
    if let Value::Object(fields) = body {
        fields.retain(|key, value| {
            let value = value.to_string();
            !LEFT_OUT.iter().any(|(of, field, default, _)| (*of, *field, *default) == (name, key, &*value))
        });
        fields.iter_mut().for_each(|(key, value)| without_left_out(key, value));
    }
}

/// Plays a scenario and compares the bodies that [`COMPARED`] names, in order.
fn same_bodies(name: &str, play: impl FnOnce(&ServiceClient)) {
    let service = replay(name);
    play(&client(&service));
    let theirs: Vec<(String, Value)> = golden::fixture_2026(name)["exchanges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|exchange| {
            let path = exchange["path"].as_str().unwrap().trim_start_matches("/api/v1/").to_owned();
            let mut body = exchange["body"]["json"].clone();
            without_left_out(&path, &mut body);
            (path, body)
        })
        .collect();
    // 0.38.0 asks for the information about each model at once; here it is asked for when it is wanted.
    let wanted = service.requests_to("get_info").len();
    let mut info = 0;
    let theirs: Vec<_> = theirs
        .into_iter()
        .filter(|(path, _)| COMPARED.contains(&&**path))
        .filter(|(path, _)| {
            info += usize::from(path == "get_info");
            path != "get_info" || info <= wanted
        })
        .collect();
    let ours = service.requests().into_iter().filter(|request| COMPARED.contains(&&*request.path));
    let ours: Vec<_> = ours.map(|request| (request.path, request.body)).collect();
    assert_eq!(ours, theirs, "{name}");
}

#[test]
fn scenario_10_two_models() {
    same_bodies("10_create_model_default", |service| {
        service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
        service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default().rank(16)).unwrap();
    });
}

#[test]
fn scenario_11_every_option_of_a_model() {
    same_bodies("11_create_model_all_options", |service| {
        let lora = LoraConfig::new().rank(8).seed(42).train_unembed(false).train_mlp(false);
        let all = TrainingOptions::from(lora).user_metadata("purpose", "golden").user_metadata("n", "1");
        service.create_lora_training_client("meta-llama/Llama-3.1-8B", all).unwrap();
        // Metadata that is set but empty is the same as none here.
        let empty = service.create_lora_training_client("m", LoraConfig::new().seed(0));
        empty.unwrap();
        let dimuon = TrainingOptions::new().optimizer_config(DimuonOptimizerConfig::new());
        service.create_lora_training_client("m", dimuon).unwrap();
    });
}

#[test]
fn scenario_12_information_is_asked_for_once() {
    same_bodies("12_get_info_unload", |service| {
        let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
        let info = trainer.get_info().unwrap();
        assert_eq!((info.lora_rank, info.optimizer_config.name()), (Some(32), "adamw"));
        assert_eq!(trainer.clone().get_info().unwrap(), info);
        assert_eq!(trainer.tokenizer_id().unwrap(), "Qwen/Qwen3-8B");
    });
}

#[test]
fn scenario_28_steps_of_both_optimizers() {
    same_bodies("28_optim_step", |service| {
        let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
        let custom = AdamParams::new().learning_rate(1e-5).beta1(0.8).beta2(0.99).eps(1e-8);
        let clipped = AdamParams::new().weight_decay(0.01).grad_clip_norm(1.0);
        for params in [AdamParams::new(), custom, AdamParams::new().learning_rate(3.0), clipped] {
            trainer.optim_step(params).unwrap();
        }
        trainer.optim_step(DimuonParams::new(0.02)).unwrap();
    });
}

#[test]
fn scenario_30_saves_and_loads() {
    same_bodies("30_weights", |service| {
        let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
        let hour = Duration::from_secs(3600);
        let saved = trainer.save_state("ckpt-1").unwrap().path;
        trainer.load_state(&saved).unwrap();
        trainer.load_state_with_optimizer(LoadOptions::new(&saved).weights_access_token("tok")).unwrap();
        trainer.save_state(SaveOptions::new("ckpt-2").ttl(hour).overwrite(true).user_metadata("a", "b")).unwrap();
        let encrypted = ExternalSaveOptions::new("ext-1").ttl(2 * hour).age_encryption_recipient("age1xyz");
        assert_eq!(
            trainer.save_weights_external(encrypted).unwrap().path,
            "tinker://run-golden/external_weights/ext-1"
        );
        trainer.save_weights_external("ext-2").unwrap();
        trainer.save_weights_for_sampler("samp-1").unwrap();
        let options = SamplerSaveOptions::new("samp-2").ttl(hour).user_metadata("a", "b");
        trainer.save_weights_for_sampler(options).unwrap();
        trainer.save_weights_and_get_sampling_client().unwrap();
        trainer.save_weights_and_get_sampling_client_with(SamplerKind::Inflight).unwrap();
        trainer.save_weights_and_get_sampling_client().unwrap();
    });
}

/// Scenario 31 has four models, each created by the load of its weights. Here only a load with a token does so: the others are
/// a create_model request and a load, which every server takes.
#[test]
fn scenario_31_a_token_creates_by_load() {
    let name = "31_training_client_from_state";
    let service = replay(name);
    let path = "tinker://run-golden/weights/0001";
    let service_client = client(&service);
    let shared = || service_client.training_client().from_state(path).weights_access_token("tok");
    shared().user_metadata("k", "override").user_metadata("x", "y").create().unwrap();
    let dimuon = DimuonOptimizerConfig::new();
    let second = shared().base_model("Qwen/Qwen3-8B").optimizer_config(dimuon).create().unwrap();
    assert_eq!(second.model_id(), "sess-golden-0001:train:1");
    let third = shared().with_optimizer().submit().unwrap().wait().unwrap();
    assert_eq!(third.model_id(), "sess-golden-0001:train:2");
    let fixture = golden::fixture_2026(name);
    let exchanges = fixture["exchanges"].as_array().unwrap().iter();
    let theirs = exchanges.filter(|exchange| exchange["path"] == "/api/v1/load_weights").take(3).map(|exchange| {
        let mut body = exchange["body"]["json"].clone();
        // Python was given it for the second model only.
        body["weights_access_token"] = json!("tok");
        body
    });
    let ours = service.requests_to("load_weights").into_iter().map(|request| request.body);
    assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
    assert!(service.requests_to("create_model").is_empty());
}

#[test]
fn each_key_left_out_is_in_a_scenario() {
    let all: String = ["11_create_model_all_options", "28_optim_step", "30_weights"]
        .map(|name| golden::fixture_2026(name).to_string())
        .concat();
    for (of, key, default, reason) in LEFT_OUT {
        assert!(all.contains(&format!("\"{key}\":{default}")), "0.38.0 sends no such {key} in {of}: {reason}");
    }
}

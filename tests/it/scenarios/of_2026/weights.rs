//! Saving and loading.

use std::time::Duration;

use tinkex::types::{
    DimuonOptimizerConfig, ExternalSaveOptions, LoadOptions, LoraConfig, SamplerKind, SamplerSaveOptions, SaveOptions,
};

use super::start;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn scenario_30_every_way_to_save() {
    let scenario = start("30_weights");
    let service = scenario.connect();
    let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
    let saved = trainer.save_state("ckpt-1").unwrap().path;
    assert_eq!(trainer.load_state(saved.as_str()).unwrap().path, Some(saved.clone()));
    trainer.load_state_with_optimizer(LoadOptions::new(saved).weights_access_token("tok")).unwrap();
    let options = SaveOptions::new("ckpt-2").ttl(HOUR).overwrite(true).user_metadata("a", "b");
    trainer.save_state(options).unwrap();
    let options = ExternalSaveOptions::new("ext-1").ttl(2 * HOUR).age_encryption_recipient("age1xyz");
    assert_eq!(trainer.save_weights_external(options).unwrap().path, "tinker://run-golden/external_weights/ext-1");
    trainer.save_weights_external("ext-2").unwrap();
    let saved = trainer.save_weights_for_sampler("samp-1").unwrap().path;
    trainer.save_weights_for_sampler(SamplerSaveOptions::new("samp-2").ttl(HOUR).user_metadata("a", "b")).unwrap();
    for (number, kind) in [SamplerKind::Snapshot, SamplerKind::Inflight, SamplerKind::Snapshot].into_iter().enumerate()
    {
        let sampler = trainer.save_weights_and_get_sampling_client_with(kind).unwrap();
        assert_eq!(sampler.sampling_session_id(), format!("sess-golden-0001:sample:{number}"));
    }
    let sampler = service.create_sampling_client(&saved).unwrap();
    assert_eq!(sampler.get_base_model().unwrap(), "Qwen/Qwen3-8B");
    scenario.is_played();
}

/// Python creates each model by the load of its weights. This crate does so only with a token: otherwise it sends a create_model
/// request and a load, which every server takes.
#[test]
fn scenario_31_a_token_creates_by_load() {
    let mut scenario = start("31_training_client_from_state");
    for exchange in &mut scenario.exchanges {
        if exchange["path"] == "/api/v1/load_weights" {
            // Python was given it for the second model only.
            exchange["body"]["json"]["weights_access_token"] = "tok".into();
        }
    }
    let service = scenario.connect();
    let from = |path| service.training_client().from_state(path).weights_access_token("tok");
    let path = "tinker://run-golden/weights/0001";
    let replaced = from(path).user_metadata("k", "override").user_metadata("x", "y").create().unwrap();
    let dimuon = DimuonOptimizerConfig::new();
    let other = from(path).base_model("Qwen/Qwen3-8B").optimizer_config(dimuon).create().unwrap();
    let resumed = from(path).with_optimizer().submit().unwrap().wait().unwrap();
    let last = from("tinker://x/y").create().unwrap();
    for (number, trainer) in [replaced, other, resumed, last].iter().enumerate() {
        assert_eq!(trainer.model_id(), format!("sess-golden-0001:train:{number}"));
    }
    scenario.is_played();
}

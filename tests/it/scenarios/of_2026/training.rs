//! Models, and optimizer steps.

use tinkex::types::{
    AdamOptimizerConfig, AdamParams, DimuonOptimizerConfig, DimuonParams, LoraConfig, OptimizerConfig,
};
use tinkex::{ErrorKind, TrainingOptions};

use super::{start, start_whole};

#[test]
fn scenario_10_two_models_with_defaults() {
    let scenario = start("10_create_model_default");
    let service = scenario.connect();
    let create = |rank| service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default().rank(rank)).unwrap();
    let ids = [32, 16].map(|rank| create(rank).model_id().to_owned());
    assert_eq!(ids, ["sess-golden-0001:train:0", "sess-golden-0001:train:1"]);
    scenario.is_played();
}

#[test]
fn scenario_11_models_with_every_option() {
    let scenario = start("11_create_model_all_options");
    let service = scenario.connect();
    let config = LoraConfig::new().rank(8).seed(42).train_unembed(false).train_mlp(false).train_attn(true);
    let options = TrainingOptions::from(config).user_metadata("purpose", "golden").user_metadata("n", "1");
    drop(service.create_lora_training_client("meta-llama/Llama-3.1-8B", options).unwrap());
    // Metadata that are set, but empty, are none here.
    assert_eq!(scenario.compare(), 5);
    let none = LoraConfig::new().train_unembed(false).train_mlp(false).train_attn(false);
    assert_eq!(service.create_lora_training_client("m", none).unwrap_err().kind(), ErrorKind::InvalidInput);
    drop(service.create_lora_training_client("m", LoraConfig::new().seed(0)).unwrap());
    let dimuon = TrainingOptions::from(LoraConfig::new()).optimizer_config(DimuonOptimizerConfig::new());
    drop(service.create_lora_training_client("m", dimuon).unwrap());
    let created = scenario.service.requests_to("create_model");
    assert_eq!(created[1].body["lora_config"]["seed"], 0);
    assert_eq!(created[2].body, scenario.exchanges[7]["body"]["json"]);
}

#[test]
fn scenario_12_information_is_asked_once() {
    let scenario = start_whole("12_get_info_unload");
    let trainer = scenario.trainer();
    for _ in 0..2 {
        let info = trainer.get_info().unwrap();
        assert_eq!((info.model_id.as_str(), info.lora_rank), (trainer.model_id(), Some(32)));
        assert_eq!(info.optimizer_config, OptimizerConfig::from(AdamOptimizerConfig::new()));
    }
    assert_eq!(trainer.tokenizer_id().unwrap(), "Qwen/Qwen3-8B");
    scenario.is_played();
}

#[test]
fn scenario_28_steps_of_both_optimizers() {
    let scenario = start("28_optim_step");
    let trainer = scenario.trainer();
    let all = AdamParams::new().learning_rate(1e-5).beta1(0.8).beta2(0.99).eps(1e-8);
    let clipped = AdamParams::new().weight_decay(0.01).grad_clip_norm(1.0);
    for params in [AdamParams::default(), all, AdamParams::default().learning_rate(3.0), clipped] {
        assert_eq!(trainer.optim_step(params).unwrap().metrics.unwrap()["grad_norm"], 0.125);
    }
    trainer.optim_step(DimuonParams::new(0.02)).unwrap();
    scenario.is_played();
}

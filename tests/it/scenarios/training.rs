//! Training, and training clients.

use serde_json::Value;
use tinkex::types::{AdamParams, Batch, Datum, LoraConfig, Loss, LossFn, ModelInput, UnloadModelResponse};
use tinkex::{ErrorKind, FromStateOptions, TrainingOptions};

use super::replay::Scenario;

/// The plain example of the fixtures: ascending tokens from `first`, the first one without weight.
pub(super) fn counted(first: u32, length: u32) -> Datum {
    let weights: Vec<f32> = (0..length).map(|index| if index == 0 { 0.0 } else { 1.0 }).collect();
    datum(
        &(first..first + length).collect::<Vec<_>>(),
        &(first + 1..first + 1 + length).map(i64::from).collect::<Vec<_>>(),
        &weights,
    )
}

pub(super) fn datum(tokens: &[u32], targets: &[i64], weights: &[f32]) -> Datum {
    let datum = Datum::new(ModelInput::from_tokens(tokens)).input("target_tokens", targets).unwrap();
    datum.input("weights", weights).unwrap()
}

/// What both clients do in scenario 24.
pub(super) fn importance_sampling(scenario: &Scenario) {
    let logprobs = [-0.1, -2.5, 0.0, -1e-9, -0.3_f32];
    let datum = |targets: [i64; 5]| {
        let datum = Datum::new(ModelInput::from_tokens([0, 1, 2, 3, 4])).input("target_tokens", targets).unwrap();
        datum.input("logprobs", logprobs).unwrap().input("advantages", [0.1, 1.0, -1.0, 2.0, 0.0]).unwrap()
    };
    let data = [datum([1, 2, 3, 4, 5]), datum([0, 1, 2, 3, 4])];
    scenario.trainer().forward_backward(data, LossFn::ImportanceSampling).unwrap();
    scenario.is_played();
}

/// What both clients do in scenario 26.
pub(super) fn a_forward_pass(scenario: &Scenario) {
    let loss = Loss::cross_entropy().config("a", 0.5);
    let output = scenario.trainer().forward([counted(10, 2), counted(20, 3)], loss).unwrap();
    assert_eq!(output.loss_fn_outputs.len(), 2);
    scenario.is_played();
}

/// What both clients do in scenario 29.
pub(super) fn a_pipeline(scenario: &Scenario) {
    let trainer = scenario.trainer();
    let pass = trainer.submit_forward_backward([counted(10, 2), counted(10, 2)], LossFn::CrossEntropy).unwrap();
    let step = trainer.submit_optim_step(AdamParams::default()).unwrap();
    let second = trainer.submit_forward_backward([counted(10, 2)], LossFn::CrossEntropy).unwrap();
    let saved = trainer.submit_save_state("s1").unwrap();
    assert_eq!(pass.wait().unwrap().loss_fn_outputs.len(), 2);
    step.wait().unwrap();
    assert_eq!(second.wait().unwrap().loss_fn_outputs.len(), 1);
    assert_eq!(saved.wait().unwrap().path, "tinker://run-golden/weights/s1");
    scenario.is_played_in_any_order_of_polls();
}

#[test]
fn scenario_10_two_models_with_defaults() {
    let scenario = Scenario::start("10_create_model_default");
    let service = scenario.connect();
    let first = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
    let second = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default().rank(16)).unwrap();
    assert_eq!((first.model_id(), second.model_id()), ("sess-golden-0001:train:0", "sess-golden-0001:train:1"));
    scenario.is_played();
}

#[test]
fn scenario_11_models_with_every_option() {
    let scenario = Scenario::start("11_create_model_all_options");
    let service = scenario.connect();
    let config = LoraConfig::new().rank(8).seed(42).train_unembed(false).train_mlp(false).train_attn(true);
    let options = TrainingOptions::from(config).user_metadata("purpose", "golden").user_metadata("n", "1");
    drop(service.create_lora_training_client("meta-llama/Llama-3.1-8B", options).unwrap());
    let none = LoraConfig::new().train_unembed(false).train_mlp(false).train_attn(false);
    let error = service.create_lora_training_client("m", none).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    // The rest of the scenario has metadata that are set but empty, which are the same as none here.
    assert_eq!(scenario.compare(), 3);
}

#[test]
fn scenario_20_one_datum() {
    let scenario = Scenario::start("20_fwdbwd_ce_1");
    let output = scenario.trainer().forward_backward([counted(10, 4)], LossFn::CrossEntropy).unwrap();
    assert_eq!(output.loss_fn_outputs[0].logprobs(), Some(&[-0.1, -0.2, -0.3, -0.4][..]));
    scenario.is_played();
}

#[test]
fn scenario_22_more_datums_than_one_chunk_takes() {
    let scenario = Scenario::start("22_fwdbwd_130_datums");
    let trainer = scenario.trainer();
    let batch: Batch = (0..130).map(|first| counted(first, 2)).collect();
    let output = trainer.forward_backward(&batch, LossFn::CrossEntropy).unwrap();
    assert_eq!(output.loss_fn_outputs.len(), 130);
    // Python returns an empty result for an empty batch; this crate refuses it. Neither sends anything.
    assert!(trainer.forward_backward(Batch::default(), LossFn::CrossEntropy).is_err());
    trainer.optim_step(AdamParams::default()).unwrap();
    scenario.is_played_in_any_order_of_polls();
}

#[test]
fn scenario_24_importance_sampling() {
    importance_sampling(&Scenario::start("24_fwdbwd_importance_sampling"));
}

#[test]
fn scenario_26_a_forward_pass() {
    a_forward_pass(&Scenario::start("26_forward"));
}

#[test]
fn scenario_28_optimizer_steps() {
    let scenario = Scenario::start("28_optim_step");
    let trainer = scenario.trainer();
    let all = AdamParams::new().learning_rate(1e-5).beta1(0.8).beta2(0.99).eps(1e-8);
    for params in [AdamParams::default(), all, AdamParams::default().learning_rate(3.0)] {
        assert_eq!(trainer.optim_step(params).unwrap().metrics.unwrap()["grad_norm"], 0.125);
    }
    scenario.is_played();
}

#[test]
fn scenario_29_a_pipeline_keeps_its_order() {
    a_pipeline(&Scenario::start("29_pipeline_order"));
}

#[test]
fn scenario_12_info_and_unload() {
    let scenario = Scenario::start("12_get_info_unload");
    let trainer = scenario.trainer();
    let info = trainer.get_info().unwrap();
    assert_eq!((info.model_id.as_str(), info.lora_rank), (trainer.model_id(), Some(32)));
    let UnloadModelResponse { model_id, .. } = trainer.unload_model().unwrap();
    assert_eq!(model_id, trainer.model_id());
    scenario.is_played();
}

#[test]
fn scenario_30_weights() {
    let scenario = Scenario::start("30_weights");
    let service = scenario.connect();
    let trainer = service.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
    let saved = trainer.save_state("ckpt-1").unwrap().path;
    assert_eq!(trainer.load_state(&saved).unwrap().path, Some(saved));
    let saved = trainer.save_weights_for_sampler("samp-1").unwrap().path;
    for number in [0, 1] {
        let sampler = trainer.save_weights_and_get_sampling_client().unwrap();
        assert_eq!(sampler.sampling_session_id(), format!("sess-golden-0001:sample:{number}"));
    }
    let sampler = service.create_sampling_client(&saved).unwrap();
    assert_eq!(sampler.sampling_session_id(), "sess-golden-0001:sample:2");
    assert_eq!(service.create_sampling_client("http://x/y").unwrap_err().kind(), ErrorKind::InvalidInput);
    scenario.is_played();
}

#[test]
fn scenario_31_training_client_from_state() {
    for submitted in [false, true] {
        let scenario = Scenario::start("31_training_client_from_state");
        let (service, path) = (scenario.connect(), "tinker://run-golden/weights/0001");
        let from_state = |path| {
            let builder = service.training_client().from_state(path);
            builder.user_metadata("k", "override").user_metadata("x", "y").submit()
        };
        let options = |path| FromStateOptions::new(path).user_metadata("k", "override").user_metadata("x", "y");
        let trainer = if submitted {
            from_state(path).unwrap().wait().unwrap()
        } else {
            service.create_training_client_from_state(options(path)).unwrap()
        };
        assert_eq!(trainer.model_id(), "sess-golden-0001:train:0");
        for path in ["x/weights/y", "", "weights"] {
            let error = service.create_training_client_from_state(options(path)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path}");
            assert_eq!(error.operation(), Some("create_training_client_from_state"));
            assert!(from_state(path).is_err(), "{path}");
        }
        scenario.is_played();
    }
}

#[test]
fn loading_with_the_optimizer_differs_by_one_flag() {
    let scenario = Scenario::start("31_training_client_from_state");
    let service = scenario.connect();
    let path = "tinker://run-golden/weights/0001";
    drop(service.create_training_client_from_state_with_optimizer(path).unwrap());
    let loads = scenario.service.requests_to("load_weights");
    assert_eq!((loads.len(), &loads[0].body["optimizer"], loads[0].seq_id()), (1, &Value::Bool(true), Some(1)));
    let created = &scenario.service.requests_to("create_model")[0].body;
    assert_eq!(created["user_metadata"], serde_json::json!({"k": "v"}), "the run's own");
}

#[cfg(feature = "ndarray")]
#[test]
fn scenario_27_custom_loss() {
    use tinkex::CustomLoss;
    let scenario = Scenario::start("27_fwdbwd_custom");
    let trainer = scenario.trainer();
    let data = [datum(&[10, 11, 12], &[11, 12, 13], &[0.0, 1.0, 1.0]), datum(&[30, 31], &[31, 32], &[0.0, 1.0])];
    let output = trainer.forward_backward_custom(data, |data, logprobs| -> tinkex::Result<_> {
        assert_eq!((data.len(), logprobs[0].as_slice()), (2, Some(&[-0.1_f32, -0.2, -0.3][..])));
        let loss = f64::from(logprobs.iter().flatten().map(|logprob| logprob * logprob).sum::<f32>());
        let gradients = logprobs.iter().map(|logprobs| logprobs * 2.0).collect();
        Ok(CustomLoss::new(loss, gradients).metric("custom/loss:sum", loss))
    });
    let output = output.unwrap();
    assert!((output.metrics["custom/loss:sum"] - 0.196_2).abs() < 1e-6);
    // As 0.38.0 does; 0.4.1 keeps the loss of the second pass as `loss:sum`.
    assert_eq!(output.metrics["loss:sum"], output.metrics["custom/loss:sum"]);
    assert_eq!((output.metrics["surrogate_loss:sum"], output.metrics["clock_cycle:unique"]), (3.0, 1002.0));
    assert_eq!((output.metrics.len(), output.loss_fn_outputs.len()), (7, 2));
    trainer.optim_step(AdamParams::default()).unwrap();
    let last = [datum(&[1, 2], &[1, 2], &[0.5, 1.5])];
    trainer.forward_backward(last, LossFn::CrossEntropy).unwrap();
    scenario.is_played();
}

//! How results are asked for.

use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, RequestErrorCategory, SamplingParams};
use tinkex::{Error, ErrorKind};

use super::start;
use crate::scenarios::replay::Scenario;
use crate::scenarios::training::counted;
use crate::support::{advance_past_wait, golden};

/// Makes an optimizer step in a scenario that is about its polls, and returns the waits between them.
fn step(name: &str) -> (Scenario, Vec<f64>, Result<(), Error>) {
    let scenario = start(name);
    let trainer = scenario.trainer();
    let (waits, step) = scenario.freely(|| trainer.optim_step(AdamParams::default()));
    (scenario, waits, step.map(drop))
}

#[test]
fn scenario_80_every_form_of_not_yet() {
    let (scenario, _, result) = step("80_future_poll_cadence");
    result.unwrap();
    scenario.is_played();
}

#[test]
fn scenario_81_every_state_of_a_queue() {
    let scenario = start("81_future_poll_sample_queue_state");
    let client = scenario.connect();
    let params = SamplingParams::default().max_tokens(1);
    let sample = || {
        let sampler = client.create_sampling_client("m").unwrap();
        scenario.freely(|| sampler.sample(&ModelInput::from_tokens([1]), 1, &params)).1.unwrap();
    };
    for _ in 0..4 {
        sample();
        let trainer = client.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
        scenario.freely(|| trainer.optim_step(AdamParams::default())).1.unwrap();
    }
    sample();
    scenario.is_played();
}

#[test]
fn scenario_82_a_failed_request() {
    let scenario = start("82_future_request_failed");
    let trainer = scenario.trainer();
    let results = golden::fixture_2026("82_future_request_failed")["results"].take();
    for (index, result) in results.as_array().unwrap()[..10].iter().enumerate() {
        let error = trainer.optim_step(AdamParams::default()).unwrap_err();
        let expected = &result["exception"];
        assert_eq!(error.kind(), ErrorKind::RequestFailed, "{index}: {error}");
        // Python takes `User` for unknown; this crate reads a category in any case.
        let label = result["label"].as_str().unwrap().to_lowercase();
        let category = match expected["category"].as_str() {
            Some("user") => RequestErrorCategory::User,
            Some("server") => RequestErrorCategory::Server,
            _ if label == "category='user'" => RequestErrorCategory::User,
            _ if label == "category='server'" => RequestErrorCategory::Server,
            _ => RequestErrorCategory::Unknown,
        };
        assert_eq!(error.category(), Some(&category), "{index}: {expected}");
        assert!(error.request_id().is_some());
    }
}

#[test]
fn scenario_83_an_expired_promise() {
    let scenario = start("83_future_410");
    let client = scenario.connect();
    let sampler = client.create_sampling_client("m").unwrap();
    let prompt = ModelInput::from_tokens([1]);
    let sample = || sampler.sample(&prompt, 1, &SamplingParams::default().max_tokens(1));
    scenario.freely(sample).1.unwrap();
    let model = tinkex::types::LoraConfig::default();
    let trainer = client.create_lora_training_client("Qwen/Qwen3-8B", model).unwrap();
    let (_, step) = scenario.freely(|| trainer.optim_step(AdamParams::default()));
    assert_eq!(step.unwrap_err().status(), Some(410));
    scenario.is_played();
}

#[test]
fn scenario_84_a_server_with_a_problem() {
    let (scenario, _, result) = step("84_future_5xx");
    result.unwrap();
    scenario.is_played();
}

#[test]
fn scenario_85_lost_connections() {
    let (scenario, _, result) = step("85_future_connection_errors");
    result.unwrap();
    // A poll that is lost with a reused connection goes out again at once, and is still the same poll.
    let polls = scenario.service.requests_to("retrieve_future");
    let iterations: Vec<_> = polls[1..].iter().map(|poll| poll.iteration().unwrap()).collect();
    assert_eq!((iterations.len(), iterations[0], iterations.is_sorted()), (6, 0, true), "{iterations:?}");
}

#[test]
fn scenario_87_a_wait_that_ends_early() {
    let scenario = start("87_future_timeout");
    let trainer = scenario.trainer();
    let pending = trainer.submit_optim_step(AdamParams::default()).unwrap();
    assert!(pending.wait_timeout(std::time::Duration::ZERO).is_none());
    // Python, too, goes on polling.
    scenario.freely(|| pending.wait()).1.unwrap();
    scenario.is_played();
}

#[test]
fn scenario_90_a_measured_result_is_fetched() {
    let scenario = start("90_config_metadata_only");
    let trainer = scenario.trainer();
    let (_, output) = scenario.freely(|| trainer.forward_backward([counted(10, 2)], LossFn::CrossEntropy));
    assert_eq!(output.unwrap().loss_fn_outputs[0].logprobs(), Some(&[-0.1, -0.2][..]));
    scenario.is_played();
}

#[test]
fn scenario_97_a_sample_is_cancelled() {
    let scenario = start("97_config_cancel");
    let sampler = scenario.connect().create_sampling_client("m").unwrap();
    let params = SamplingParams::default().max_tokens(1);
    let sample = sampler.submit_sample(&ModelInput::from_tokens([1]), 1, &params).unwrap();
    for count in 1..=3 {
        scenario.service.wait_for_count("retrieve_future", count);
        advance_past_wait(&scenario.clock, 1..=2000);
    }
    scenario.service.wait_for_count("retrieve_future", 4);
    sample.cancel();
    scenario.service.wait_for_count("cancel_future", 1);
    scenario.is_played();
}

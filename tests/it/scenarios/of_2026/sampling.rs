//! Sampling.

use tinkex::ErrorKind;
use tinkex::types::{ModelInput, SamplingParams, StopReason};

use super::start;

#[test]
fn scenario_40_two_samples() {
    let scenario = start("40_sample_default");
    let sampler = scenario.connect().create_sampling_client("Qwen/Qwen3-8B").unwrap();
    let prompt = ModelInput::from_tokens([1, 2, 3]);
    for (number, params) in [SamplingParams::default(), SamplingParams::default().max_tokens(5)].iter().enumerate() {
        let response = sampler.sample(&prompt, 1, params).unwrap();
        let sequence = &response.sequences[0];
        assert_eq!((&*sequence.tokens, &sequence.stop_reason), (&[101, 102, 103][..], &StopReason::Stop));
        assert_eq!(sequence.sequence_id.as_deref(), Some(&*format!("sess-golden-0001:sample:0:{number}:0")));
        assert_eq!(response.prompt_cache_hit_tokens, 2);
    }
    scenario.is_played();
}

#[test]
fn scenario_43_logprobs_of_a_prompt() {
    let scenario = start("43_compute_logprobs");
    let sampler = scenario.connect().create_sampling_client("m").unwrap();
    let logprobs = sampler.compute_logprobs(&ModelInput::from_tokens([1, 2, 3, 4])).unwrap();
    assert_eq!(logprobs, [None, Some(-0.125), Some(-0.25), Some(-0.375)]);
    scenario.is_played();
}

#[test]
fn scenario_44_neither_a_model_nor_a_path() {
    let scenario = start("44_sampling_client_errors");
    let client = scenario.connect();
    assert_eq!(client.create_sampling_client("").unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(scenario.compare(), 3);
}

//! Sampling.

use tinkex::ErrorKind;
use tinkex::types::{ModelInput, SamplingParams, StopReason};

use super::replay::Scenario;
use crate::support::image_prompt;

#[test]
fn scenario_40_two_samples() {
    let scenario = Scenario::start("40_sample_default");
    let sampler = scenario.connect().create_sampling_client("Qwen/Qwen3-8B").unwrap();
    let prompt = ModelInput::from_tokens([1, 2, 3]);
    for params in [SamplingParams::default(), SamplingParams::default().max_tokens(5)] {
        let reply = sampler.sample(&prompt, 1, &params).unwrap();
        assert_eq!(
            (&*reply.sequences[0].tokens, &reply.sequences[0].stop_reason),
            (&[101, 102, 103][..], &StopReason::Stop)
        );
    }
    scenario.is_played();
}

#[test]
fn scenario_42_images() {
    let scenario = Scenario::start("42_sample_chunks");
    let sampler = scenario.connect().create_sampling_client("m").unwrap();
    let params = SamplingParams::default().max_tokens(2);
    sampler.sample(&image_prompt(), 1, &params).unwrap();
    // The rest of the scenario has an empty prompt, which this crate refuses.
    assert_eq!(sampler.sample(&ModelInput::default(), 1, &params).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(scenario.compare(), 4);
}

#[test]
fn scenario_43_logprobs_of_a_prompt() {
    let scenario = Scenario::start("43_compute_logprobs");
    let sampler = scenario.connect().create_sampling_client("m").unwrap();
    let logprobs = sampler.compute_logprobs(&ModelInput::from_tokens([1, 2, 3, 4])).unwrap();
    assert_eq!(logprobs, [None, Some(-0.125), Some(-0.25), Some(-0.375)]);
    scenario.is_played();
}

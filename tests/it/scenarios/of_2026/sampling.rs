//! Sampling.

use tinkex::types::{ModelInput, SamplingParams, StopReason};

use super::start;

#[test]
fn scenario_40_two_samples() {
    let scenario = start("40_sample_default");
    let sampler = scenario.connect().create_sampling_client("Qwen/Qwen3-8B").unwrap();
    let prompt = ModelInput::from_tokens([1, 2, 3]);
    for params in [SamplingParams::default(), SamplingParams::default().max_tokens(5)] {
        let response = sampler.sample(&prompt, 1, &params).unwrap();
        let sequence = &response.sequences[0];
        assert_eq!((&*sequence.tokens, &sequence.stop_reason), (&[101, 102, 103][..], &StopReason::Stop));
    }
    scenario.is_played();
}

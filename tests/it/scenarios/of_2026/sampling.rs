//! Sampling.

use serde_json::Value;
use tinkex::ErrorKind;
use tinkex::types::{
    Datum, EncodedTextChunk, ImageAssetPointerChunk, ImageChunk, ImageFormat, LoraConfig, LossFn, ModelInput,
    SamplingParams, StopReason,
};

use super::{start, start_without};

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
fn scenario_42_images_without_a_size() {
    // The second is an empty prompt, which this crate refuses, and the fourth is audio, which it does not have.
    let is_left_out = |exchange: &Value| {
        let names =
            |body: &Value| ["golden:sample:2", "golden:sample:4"].map(Value::from).contains(&body["request_id"]);
        names(&exchange["body"]["json"]) || names(&exchange["response"]["json"])
    };
    let mut scenario = start_without("42_sample_chunks", is_left_out);
    let client = scenario.connect();
    let sampler = client.create_sampling_client("m").unwrap();
    let params = SamplingParams::default().max_tokens(2);
    let png = |data: &[u8]| ImageChunk::from_parts(data, ImageFormat::Png, None, None, None);
    let image = png(b"\x89PNG\r\n\x1a\n\0\xff").expected_tokens(4);
    let pointer = ImageAssetPointerChunk::new("s3://bucket/img.jpg", ImageFormat::Jpeg, None, None, None);
    let start = ModelInput::from_tokens([1, 2]).chunk(image.clone());
    let prompt = start.clone().chunk(pointer.expected_tokens(5)).chunk(EncodedTextChunk::new([3]));
    assert_eq!(sampler.sample(&prompt, 1, &params).unwrap().sequences[0].tokens, [101, 102, 103]);
    assert_eq!(sampler.sample(&ModelInput::new(), 1, &params).unwrap_err().kind(), ErrorKind::InvalidInput);
    sampler.sample(&ModelInput::new().chunk(png(&[0])), 1, &params).unwrap();
    let trainer = client.create_lora_training_client("Qwen/Qwen3-8B", LoraConfig::default()).unwrap();
    let datum = Datum::new(start).input("target_tokens", [1, 2, 3, 4, 5, 6_i64]).unwrap();
    trainer.forward_backward([datum.input("weights", [1.0; 6]).unwrap()], LossFn::CrossEntropy).unwrap();
    // What is refused here takes no number.
    let samples = scenario.exchanges.iter_mut().filter(|exchange| exchange["path"] == "/api/v1/asample");
    samples.enumerate().for_each(|(number, exchange)| exchange["body"]["json"]["seq_id"] = number.into());
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

use tinkex::toolkit::policy_datum;
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SampledSequence, SamplingParams};
use tinkex::{Config, Result, SampleOptions, ServiceClient};

/// Trains with group-relative advantages, and returns the mean reward of each iteration.
pub fn grpo(config: Config, prompts: &[&str], reward: impl Fn(&SampledSequence) -> f32) -> Result<Vec<f32>> {
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1))?;
    let tokenizer = trainer.tokenizer()?;
    let prompts: Vec<_> = prompts.iter().map(|text| ModelInput::from_text(&tokenizer, text)).collect::<Result<_>>()?;
    let params = SamplingParams::new().max_tokens(8).seed(7);
    let mut means = Vec::new();
    for _ in 0..20 {
        let sampler = trainer.save_weights_and_get_sampling_client()?;
        let request = |prompt| SampleOptions::new(prompt).num_samples(16).sampling_params(params.clone());
        let responses = sampler.sample_many(prompts.iter().map(request)).wait_all()?;
        let (mut data, mut total) = (Vec::new(), 0.0);
        for (prompt, response) in prompts.iter().zip(&responses) {
            let rewards: Vec<f32> = response.sequences.iter().map(&reward).collect();
            let mean = rewards.iter().sum::<f32>() / rewards.len() as f32;
            total += mean;
            for (sequence, reward) in response.sequences.iter().zip(&rewards) {
                data.push(policy_datum(prompt, sequence, reward - mean)?);
            }
        }
        trainer.forward_backward(data, LossFn::ImportanceSampling)?;
        trainer.optim_step(AdamParams::new().learning_rate(2e-2))?;
        means.push(total / prompts.len() as f32);
    }
    Ok(means)
}

#[test]
fn the_reward_rises() {
    let (_server, config) = super::server();
    let letters = |sequence: &SampledSequence| {
        let letters = sequence.tokens.iter().filter(|token| (97..=122).contains(*token)).count();
        letters as f32 / sequence.tokens.len().max(1) as f32
    };
    let rewards = grpo(config, &["one ", "two ", "three "], letters).unwrap();
    assert!(rewards[19] > rewards[0] + 0.3, "{rewards:?}");
}

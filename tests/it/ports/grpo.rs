use std::convert::Infallible;

use tinkex::rl::{AdvantageScale, PolicyExample, Rollouts, policy_examples};
use tinkex::types::{AdamParams, LoraConfig, LossFn, ModelInput, SampledSequence, SamplingParams};
use tinkex::{Config, Result, ServiceClient};

/// Trains with group-relative advantages, and returns the mean reward of each iteration.
pub fn grpo(config: Config, prompts: &[&str], reward: impl Fn(&SampledSequence) -> f64 + Sync) -> Result<Vec<f64>> {
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1))?;
    let tokenizer = trainer.tokenizer()?;
    let prompts: Vec<_> = prompts.iter().map(|text| ModelInput::from_text(&tokenizer, text)).collect::<Result<_>>()?;
    let params = SamplingParams::new().max_tokens(4).seed(7);
    let mut means = Vec::new();
    for _ in 0..10 {
        let sampler = trainer.save_weights_and_get_sampling_client()?;
        let rollouts = Rollouts::new(&sampler).group_size(16).sampling_params(params.clone());
        let scored = rollouts.score(&prompts, |_, sequence| Ok::<_, Infallible>(reward(sequence)))?;
        let examples = policy_examples(&scored.groups, AdvantageScale::Unscaled)?;
        means.push(scored.mean_reward());
        if examples.is_empty() {
            break;
        }
        let data: Vec<_> = examples.iter().map(PolicyExample::datum).collect::<Result<_>>()?;
        trainer.forward_backward(data, LossFn::ImportanceSampling)?;
        trainer.optim_step(AdamParams::new().learning_rate(2e-2))?;
    }
    Ok(means)
}

#[test]
fn the_reward_rises() {
    let (_server, config) = super::server();
    let letters = |sequence: &SampledSequence| {
        let letters = sequence.tokens.iter().filter(|token| (97..=122).contains(*token)).count();
        letters as f64 / sequence.tokens.len().max(1) as f64
    };
    let rewards = grpo(config, &["one ", "two "], letters).unwrap();
    let last = rewards.last().unwrap();
    assert!(*last > rewards[0] + 0.3, "{rewards:?}");
}

use std::path::Path;

use tinkex::hyperparams::Schedule;
use tinkex::toolkit::{JsonLines, WeightedTokens, nats_per_token};
use tinkex::types::{AdamParams, Batch, LoraConfig, LossFn, ModelInput, SamplingParams};
use tinkex::{Config, Result, ServiceClient};

/// Trains on pairs of prompt and completion, and returns the completion that the model then samples for the first prompt.
pub fn supervised(config: Config, pairs: &[(&str, &str)], metrics: &Path) -> Result<String> {
    let service = ServiceClient::connect(config)?;
    let trainer = service.create_lora_training_client("tinkex/bytes-tiny", LoraConfig::new().seed(1))?;
    let tokenizer = trainer.tokenizer()?;
    let datum = |(prompt, completion): &(&str, &str)| {
        let tokens = WeightedTokens::new().context(tokenizer.encode(prompt)?);
        tokens.trained(tokenizer.encode_continuation(completion)?).datum()
    };
    let batch: Batch = pairs.iter().map(datum).collect::<Result<Vec<_>>>()?.into();

    let schedule = Schedule::linear(2e-2, 60).warmup(5);
    let mut metrics = JsonLines::open(metrics)?;
    for step in 1..=60 {
        let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
        let update = trainer.submit_optim_step(AdamParams::new().learning_rate(schedule.rate(step)))?;
        let loss = nats_per_token(&batch, &pass.wait()?)?;
        update.wait()?;
        metrics.push(&serde_json::json!({"step": step, "loss": loss}))?;
    }

    let sampler = trainer.save_weights_and_get_sampling_client()?;
    let prompt = ModelInput::from_text(&tokenizer, pairs[0].0)?;
    let params = SamplingParams::new().max_tokens(16).temperature(0.0).stop("\n");
    let response = sampler.sample(&prompt, 1, &params)?;
    tokenizer.decode(&response.sequences[0].tokens)
}

#[test]
fn a_learned_completion_is_sampled() {
    let (_server, config) = super::server();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("metrics.jsonl");
    let pairs = [("cat ->", " atcay\n"), ("green ->", " eengray\n"), ("pig ->", " igpay\n")];
    let completion = supervised(config, &pairs, &file).unwrap();
    assert_eq!(completion.trim(), "atcay");
    let metrics = JsonLines::<serde_json::Value>::open(&file).unwrap().read().unwrap();
    let losses: Vec<f64> = metrics.iter().map(|line| line["loss"].as_f64().unwrap()).collect();
    assert!(losses.len() == 60 && losses[0] > 3.0 && losses[59] < 0.3, "{losses:?}");
}

//! Trains and samples with fixed seeds on the server at `TINKER_BASE_URL`, and prints the results as JSON.
//! `scripts/conformance/training.py` does the same with the Python client and compares the two.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;

use tinkex::types::{
    AdamParams, Batch, Datum, LoraConfig, Loss, LossFn, ModelInput, ProvenanceSpan, SamplingParams, TensorData,
};
use tinkex::{Config, ServiceClient};

/// The model, unless `TINKER_BASE_MODEL` names another one.
const BASE_MODEL: &str = "tinkex/bytes-tiny";
/// Losses for reinforcement learning, each with settings away from its defaults.
const POLICY_LOSSES: [(&str, &[(&str, f64)]); 6] = [
    ("importance_sampling", &[]),
    ("ppo", &[("clip_low_threshold", 0.9), ("clip_high_threshold", 1.1)]),
    ("cispo", &[("clip_low_threshold", 0.5), ("clip_high_threshold", 1.5)]),
    ("dro", &[("beta", 0.1)]),
    ("gspo", &[("clip_low_threshold", 0.9), ("clip_high_threshold", 1.1)]),
    ("stable_reinforce", &[("kl_coeff", 0.1)]),
];
const TEXTS: [&str; 3] = ["the quick brown fox", "jumps over", "the lazy dog again and again"];

fn main() -> Result<(), Box<dyn Error>> {
    let service = ServiceClient::connect(Config::from_env()?)?;
    let lora = LoraConfig::new().rank(8).seed(1);
    let base_model = std::env::var("TINKER_BASE_MODEL").unwrap_or_else(|_| BASE_MODEL.to_owned());
    let trainer = service.create_lora_training_client(&base_model, lora)?;
    let batch = TEXTS.iter().map(|text| next_byte_datum(text)).collect::<Result<Batch, _>>()?;

    let mut losses = vec![trainer.forward(&batch, LossFn::CrossEntropy)?.metrics["loss:sum"]];
    for _ in 0..5 {
        let pass = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
        let step = trainer.submit_optim_step(AdamParams::new().learning_rate(0.01))?;
        losses.push(pass.wait()?.metrics["loss:sum"]);
        step.wait()?;
    }
    let mut policy = BTreeMap::new();
    for (loss, settings) in POLICY_LOSSES {
        // It needs to know which tokens were sampled, for which JSON has no form.
        if loss == "stable_reinforce" && std::env::var("TINKER_WIRE").is_ok_and(|wire| wire == "json") {
            continue;
        }
        let batch = Batch::from(vec![policy_datum(loss)?]);
        let default = Loss::from(LossFn::from(loss));
        let set = settings.iter().fold(default.clone(), |loss, &(name, value)| loss.config(name, value));
        for loss_with_settings in [default, set] {
            let sum = trainer.forward(&batch, loss_with_settings)?.metrics["loss:sum"];
            policy.entry(loss).or_insert_with(Vec::new).push(sum);
        }
    }
    let batch = Batch::from(vec![several_targets()?]);
    let several_targets = trainer.forward(&batch, LossFn::CrossEntropy)?.metrics["loss:sum"];

    let sampler = trainer.save_weights_and_get_sampling_client()?;
    let greedy = SamplingParams::default().max_tokens(12).temperature(0.0);
    let greedy_response = sampler.sample(&prompt("the "), 1, &greedy)?;
    let seeded = SamplingParams::default().max_tokens(12).temperature(0.9).top_k(40).top_p(0.95).seed(5);
    let seeded_response = sampler.sample(&prompt("the "), 2, &seeded)?;
    let logprobs = sampler.compute_logprobs(&prompt("the lazy dog"))?;

    let results = serde_json::json!({
        "losses": losses,
        "policy": policy,
        "several_targets": several_targets,
        "greedy": greedy_response.sequences[0].tokens,
        "seeded": seeded_response.sequences.iter().map(|sequence| &sequence.tokens).collect::<Vec<_>>(),
        "logprobs": logprobs[1..],
    });
    writeln!(std::io::stdout(), "{results}")?;
    Ok(())
}

fn prompt(text: &str) -> ModelInput {
    ModelInput::from_tokens(text.bytes().map(u32::from).collect::<Vec<_>>())
}

/// A datum that trains the prediction of every byte from those before it.
fn next_byte_datum(text: &str) -> tinkex::Result<Datum> {
    let targets: Vec<i64> = text.bytes().skip(1).map(i64::from).collect();
    let weights = vec![1.0; targets.len()];
    Datum::new(prompt(&text[..text.len() - 1])).input("target_tokens", targets)?.input("weights", weights)
}

/// A datum for reinforcement learning.
fn policy_datum(loss: &str) -> tinkex::Result<Datum> {
    let datum = Datum::new(prompt("abcd"))
        .input("target_tokens", vec![98, 99, 100, 101])?
        .input("logprobs", vec![-1.0; 4])?
        .input("advantages", vec![0.5, -0.5, 1.0, 0.0])?;
    match loss {
        "gspo" => datum.input("sequence_ratio_mask", vec![0.0, 1.0, 1.0, 1.0]),
        "stable_reinforce" => Ok(datum.with_provenance(
            [ProvenanceSpan::prompt("sequence", 0, 1), ProvenanceSpan::sampled("sequence", 0, 3)],
            [ProvenanceSpan::sampled("sequence", 0, 4)],
        )),
        _ => Ok(datum),
    }
}

/// A datum with two weighted targets at each position.
fn several_targets() -> tinkex::Result<Datum> {
    let targets = TensorData::new(vec![98_i64, 99, 99, 100, 100, 101, 101, 0])?.with_shape([4, 2])?;
    let weights = TensorData::new(vec![0.75_f32, 0.25, 0.5, 0.5, 1.0, 0.25, 1.0, 0.0])?.with_shape([4, 2])?;
    Datum::new(prompt("abcd")).input("target_tokens", targets)?.input("weights", weights)
}

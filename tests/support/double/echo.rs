//! Batches whose outputs tell which datums they are for.

use tinkex::types::{Batch, Datum, ForwardBackwardOutput, LoraConfig, ModelInput};
use tinkex::{ServiceClient, TrainingClient};

pub fn create_trainer(service: &ServiceClient) -> TrainingClient {
    service.create_lora_training_client("base", LoraConfig::new().rank(8)).unwrap()
}

/// A datum that no other number makes: three tokens, targets and weights.
pub fn datum(number: u32) -> Datum {
    let tokens: Vec<u32> = (0..3).map(|index| 8 * number + index).collect();
    let targets: Vec<i64> = tokens.iter().map(|token| i64::from(token + 1)).collect();
    let datum = Datum::new(ModelInput::from_tokens(tokens)).input("target_tokens", targets).unwrap();
    datum.input("weights", vec![0.0_f32, 1.0, 0.5]).unwrap()
}

pub fn batch(numbers: impl IntoIterator<Item = u32>) -> Batch {
    numbers.into_iter().map(datum).collect()
}

/// Asserts that these are the outputs for these datums, as the double makes them.
pub fn assert_echo(output: &ForwardBackwardOutput, numbers: impl IntoIterator<Item = u32>, server: &str) {
    let expected: Vec<Vec<f32>> = numbers
        .into_iter()
        .map(|number| (1..4).map(|index| -((8 * number + index) as f32) / 1024.0).collect())
        .collect();
    let seen: Vec<&[f32]> = output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap()).collect();
    assert_eq!(seen, expected, "{server}");
    let sum: f32 = expected.iter().map(|logprobs| -logprobs[1] - 0.5 * logprobs[2]).sum();
    assert!((output.metrics["loss:sum"] - f64::from(sum)).abs() < 1e-6, "{server}: {:?}", output.metrics);
}

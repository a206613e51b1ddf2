//! The clients against a double of each server of this protocol, of both generations: `support/double`.

mod faults;
mod stored;
mod training;

use tinkex::types::{Batch, Datum, ForwardBackwardOutput, LoraConfig, ModelInput};
use tinkex::{ServiceClient, TrainingClient};

use crate::support::double::{Double, Server};

/// Each server, and the official one with settings that are off by default.
fn servers() -> impl Iterator<Item = Server> {
    let settings = ["sample_use_retrieve_futures", "proto_compress_fwdbwd"];
    Server::all().into_iter().chain(settings.map(|key| Server::official_2026().with_config(key, true)))
}

/// Runs a test against a double of each server.
fn for_each_server(test: impl Fn(&Double)) {
    for server in servers() {
        let double = Double::start(server);
        test(&double);
        double.assert_nothing_ran_twice();
        double.assert_numbers_have_no_holes();
    }
}

pub(super) fn create_trainer(service: &ServiceClient) -> TrainingClient {
    service.create_lora_training_client("base", LoraConfig::new().rank(8)).unwrap()
}

/// A datum that no other number makes: three tokens, targets and weights.
pub(super) fn datum(number: u32) -> Datum {
    let tokens: Vec<u32> = (0..3).map(|index| 8 * number + index).collect();
    let targets: Vec<i64> = tokens.iter().map(|token| i64::from(token + 1)).collect();
    let datum = Datum::new(ModelInput::from_tokens(tokens)).input("target_tokens", targets).unwrap();
    datum.input("weights", vec![0.0_f32, 1.0, 0.5]).unwrap()
}

pub(super) fn batch(numbers: impl IntoIterator<Item = u32>) -> Batch {
    numbers.into_iter().map(datum).collect()
}

/// Asserts that these are the outputs for these datums, as the double makes them.
fn assert_echo(output: &ForwardBackwardOutput, numbers: impl IntoIterator<Item = u32>, server: &str) {
    let expected: Vec<Vec<f32>> = numbers
        .into_iter()
        .map(|number| (1..4).map(|index| -((8 * number + index) as f32) / 1024.0).collect())
        .collect();
    let seen: Vec<&[f32]> = output.loss_fn_outputs.iter().map(|output| output.logprobs().unwrap()).collect();
    assert_eq!(seen, expected, "{server}");
    let sum: f32 = expected.iter().map(|logprobs| -logprobs[1] - 0.5 * logprobs[2]).sum();
    assert!((output.metrics["loss:sum"] - f64::from(sum)).abs() < 1e-6, "{server}: {:?}", output.metrics);
}

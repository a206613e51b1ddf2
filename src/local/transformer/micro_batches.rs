//! Training on a batch: in micro-batches, one after the other, each on all threads.
//!
//! Floating-point sums depend on the order of their terms. The micro-batches depend on the lengths of the examples alone, and
//! add their gradients one after the other, so the result does not depend on the number of threads.

use super::lora::{AdaptedRows, Lora, LoraGradient};
use super::network::Network;
use super::projection::Backward;
use super::target_logprobs::{Prediction, Predictions};
use crate::local::kernel::Real;
use crate::local::model::Example;

/// Tokens of a micro-batch of more than one example: matrix products are slow with few rows, and memory grows with many.
pub(super) const MICRO_BATCH_TOKENS: usize = 512;

/// Consecutive examples, with their indices in the batch.
type MicroBatch<'a> = Vec<(usize, &'a Example)>;

/// The log-probabilities of each example's targets. Adds the gradient of the batch's loss with respect to the adapter to
/// `gradient`.
pub(super) fn run_batch<T: Real>(
    network: Network<'_, T>,
    lora: &Lora<'_, T>,
    batch: &[Example],
    mut gradient: Option<LoraGradient<'_, T>>,
) -> Vec<Vec<T>> {
    let mut logprobs = vec![Vec::new(); batch.len()];
    for micro_batch in split(batch) {
        let results = run_micro_batch(network, lora, &micro_batch, gradient.as_mut());
        for ((index, _), result) in micro_batch.iter().zip(results) {
            logprobs[*index] = result;
        }
    }
    logprobs
}

/// Splits a batch, by the lengths of its examples alone. Examples without tokens are left out.
fn split(batch: &[Example]) -> Vec<MicroBatch<'_>> {
    let mut micro_batches: Vec<MicroBatch<'_>> = Vec::new();
    let mut tokens = 0;
    for (index, example) in batch.iter().enumerate().filter(|(_, example)| !example.tokens.is_empty()) {
        tokens += example.tokens.len();
        match micro_batches.last_mut() {
            Some(last) if tokens <= MICRO_BATCH_TOKENS => last.push((index, example)),
            _ => {
                micro_batches.push(vec![(index, example)]);
                tokens = example.tokens.len();
            }
        }
    }
    micro_batches
}

fn run_micro_batch<T: Real>(
    network: Network<'_, T>,
    lora: &Lora<'_, T>,
    micro_batch: &MicroBatch<'_>,
    gradient: Option<&mut LoraGradient<'_, T>>,
) -> Vec<Vec<T>> {
    let sequences: Vec<&[u32]> = micro_batch.iter().map(|(_, example)| example.tokens.as_slice()).collect();
    let adapters = [AdaptedRows { rows: 0..sequences.iter().map(|tokens| tokens.len()).sum(), lora }];
    let (output, pass) = network.forward(&sequences, &adapters, gradient.is_some());

    let mut first_row = 0;
    let (mut all, mut counts) = (Vec::new(), Vec::new());
    for (_, example) in micro_batch {
        let before = all.len();
        all.extend(
            example
                .predictions()
                .map(|(row, target)| Prediction { row: first_row + row, target: network.config.clamp_token(target) }),
        );
        counts.push(all.len() - before);
        first_row += example.tokens.len();
    }
    let mut predictions = Predictions::new(network.head(), lora, output, all);
    let mut logprobs = predictions.logprobs().into_iter();
    let logprobs: Vec<Vec<T>> = counts.into_iter().map(|count| logprobs.by_ref().take(count).collect()).collect();

    if let Some(gradient) = gradient {
        let examples = micro_batch.iter().zip(&logprobs);
        let dlogprobs: Vec<T> =
            examples.flat_map(|((_, example), logprobs)| example.objective.gradient(logprobs)).collect();
        let mut backward = Backward { lora, gradient };
        let doutput = predictions.backward(&dlogprobs, &mut backward);
        network.backward(doutput, pass, backward);
    }
    logprobs
}

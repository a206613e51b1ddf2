//! What a pass takes of memory.

use super::config::ModelConfig;
use super::micro_batches::MICRO_BATCH_TOKENS;
use super::target_logprobs::LOGITS_ROWS;
use crate::local::model::Example;

/// The memory of a pass with an adapter of this rank over a batch at its peak, in bytes: that of its largest micro-batch.
pub(super) fn pass_bytes(config: &ModelConfig, rank: usize, batch: &[Example], has_gradient: bool) -> u64 {
    let lengths = batch.iter().map(|example| example.tokens.len());
    let longest = lengths.clone().max().unwrap_or_default();
    let tokens = longest.max(MICRO_BATCH_TOKENS.min(lengths.sum()));
    let (queries, keys) = (config.query_size(), config.key_size());
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    // A layer has its two inputs, gate and up, queries and keys twice if they have a norm, values, and the attention's output, and
    // what each projection reduces to the rank. The backward pass needs those of all layers.
    let layers = if has_gradient { config.num_layers } else { 1 };
    let kept =
        (2 * (hidden + inner) + 3 * (queries + keys)).saturating_add(rank.saturating_mul(7)).saturating_mul(layers);
    // One layer at a time has the gradients of these, and copies of the widest.
    let working = 4 * hidden + 4 * inner + 2 * (queries + 2 * keys);
    let logits = tokens.min(LOGITS_ROWS) * config.vocab_size;
    let numbers = kept.saturating_add(working).saturating_mul(tokens).saturating_add(logits);
    numbers.saturating_mul(size_of::<f32>()) as u64
}

#[cfg(test)]
mod tests {
    use super::super::Transformer;
    use super::*;
    use crate::local::model::{AdapterOptions, Model, Objective};

    #[test]
    fn the_longest_example_counts() {
        let model = Transformer::bytes_tiny();
        let example = |tokens| Example::new(vec![0; tokens], Vec::new(), Objective::cross_entropy(Vec::new()));
        let pass = |lengths: &[usize], rank, has_gradient| {
            let batch: Vec<_> = lengths.iter().map(|&tokens| example(tokens)).collect();
            model.pass_bytes(&AdapterOptions::new().rank(rank), &batch, has_gradient)
        };
        let bytes = |lengths: &[usize]| pass(lengths, 8, true);
        assert_eq!(bytes(&[]), 0);
        assert!(bytes(&[64]) > 64 * 4 && bytes(&[64]) < bytes(&[64, 64]));
        // Micro-batches of short examples come one after the other.
        assert_eq!(bytes(&[512; 9]), bytes(&[512]));
        assert_eq!(bytes(&[1000, 5]), bytes(&[1000]));
        // Two layers keep seven products of each rank; a forward pass has those of one.
        let [small, large] = [1, 2].map(|rank| pass(&[100], rank, true));
        assert_eq!(large - small, 100 * 2 * 7 * 4);
        let [small, large] = [1, 2].map(|rank| pass(&[100], rank, false));
        assert_eq!(large - small, 100 * 7 * 4);
        assert!(large < pass(&[100], 2, true));
    }
}

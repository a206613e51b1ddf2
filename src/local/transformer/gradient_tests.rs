//! Gradients against finite differences, in double precision, through networks of many shapes.

use ndarray::{Array1, Array2};

use super::splitmix::SplitMix64;
use super::*;
use crate::local::kernel::Weight;
use crate::local::model::Objective;

/// A network of a random shape: with or without grouped queries, a head size of its own, gains, biases, norms of queries and keys,
/// divisors, an unembedding of its own, and matrices of half precision.
fn random_model(seed: u64) -> Transformer<f64> {
    let mut random = SplitMix64::new(seed);
    let mut one_of = |count: usize| (random.uniform() * count as f64) as usize;
    let num_kv_heads = 1 + one_of(2);
    let head_size = 2 * (1 + one_of(3));
    let config = ModelConfig {
        vocab_size: 11,
        hidden_size: 6,
        num_layers: 1 + one_of(2),
        num_heads: num_kv_heads * (1 + one_of(3)),
        num_kv_heads,
        head_size,
        intermediate_size: 7,
        context_length: 24,
        rms_norm_eps: [1e-5, 1e-2][one_of(2)],
        rope_theta: [100.0, 10_000.0][one_of(2)],
        rope_divisors: [None, Some(vec![2.5; head_size / 2])][one_of(2)].take(),
        end_tokens: Vec::new(),
    };
    let [is_tied, has_biases, has_norms, is_half] = [2; 4].map(|count| one_of(count) == 1);
    let mut parameters = Parameters::<f64>::random(&config, seed);
    let mut vector = |length: usize| Array1::from_shape_simple_fn(length, || 0.5 + random.uniform());
    for layer in &mut parameters.layers {
        layer.attention_norm = vector(config.hidden_size);
        layer.mlp_norm = vector(config.hidden_size);
        for projection in [&mut layer.query, &mut layer.key, &mut layer.value].into_iter().filter(|_| has_biases) {
            projection.bias = Some(vector(projection.weight.dim().0));
        }
        if has_norms {
            (layer.query_norm, layer.key_norm) = (Some(vector(head_size)), Some(vector(head_size)));
        }
        if is_half {
            halve(&mut layer.down.weight);
            halve(&mut layer.query.weight);
        }
    }
    parameters.final_norm = vector(config.hidden_size);
    if is_tied {
        parameters.unembedding = None;
    }
    Transformer::loaded("random", config, parameters, Threads::new(Some(2)), None)
}

/// Replaces numbers by those of half precision with the same sign and a power of two as magnitude.
fn halve(weight: &mut Weight<f64>) {
    let Weight::Full(full) = &*weight else { return };
    let half = full.mapv(|number| if number < 0.0 { 0xb000 } else { 0x3400 });
    *weight = Weight::Half(half);
}

fn adapter(model: &Transformer<f64>, seed: u64) -> Adapter<f64> {
    let options = AdapterOptions {
        rank: 2,
        seed: 1,
        train_attn: seed % 3 != 1,
        train_mlp: seed % 3 != 2,
        train_unembed: seed % 2 == 0,
    };
    let mut adapter = lora::init(&model.modules, &options);
    let mut random = SplitMix64::new(seed);
    for tensor in adapter.tensors.values_mut() {
        *tensor = random.matrix(tensor.dim(), 0.1);
    }
    adapter
}

/// Two sequences, with tokens that have no loss.
fn batch(seed: u64) -> Vec<Example> {
    let mut random = SplitMix64::new(seed + 100);
    let lengths = [5, 2];
    let example = |length: usize| {
        let mut tokens = |count| (0..count).map(|_| (random.uniform() * 11.0) as u32).collect::<Vec<_>>();
        let (inputs, targets) = (tokens(length), tokens(length));
        let weights = (0..length).map(|at| [0.0, 1.0, -0.5, 2.0][at % 4]).collect();
        Example::new(inputs, targets, Objective::cross_entropy(weights))
    };
    lengths.map(example).into()
}

#[test]
fn every_shape_has_the_gradient_of_finite_differences() {
    for seed in 0..20 {
        let model = random_model(seed);
        let (adapter, batch) = (adapter(&model, seed), batch(seed));
        let loss = |adapter: &Adapter<f64>| -> f64 {
            let logprobs = model.forward_backward(adapter, &batch, None);
            batch.iter().zip(&logprobs).map(|(example, logprobs)| example.objective.loss(logprobs)).sum()
        };
        let mut gradient = Tensors::new();
        model.forward_backward(&adapter, &batch, Some(&mut gradient));
        assert!(gradient.keys().eq(adapter.tensors.keys()));
        let mut random = SplitMix64::new(seed + 200);
        let largest = gradient.values().map(norm).fold(0.0, f64::max);
        for (name, tensor) in &adapter.tensors {
            // Every element contributes to the derivative along a random direction, so a single wrong one is found.
            let direction = random.matrix::<f64>(tensor.dim(), 1.0);
            let direction = &direction / norm(&direction);
            let loss_at = |offset: f64| {
                let mut moved = adapter.clone();
                moved.tensors.insert(name.clone(), tensor + &(&direction * offset));
                loss(&moved)
            };
            let step = 1e-5;
            let difference = (loss_at(step) - loss_at(-step)) / (2.0 * step);
            let derivative = (&gradient[name] * &direction).sum();
            let error = (derivative - difference).abs();
            assert!(
                error < 1e-7 * largest,
                "seed {seed}, {name}: {derivative} is not {difference}; {:?}",
                model.config
            );
        }
    }
}

fn norm(tensor: &Array2<f64>) -> f64 {
    tensor.mapv(|x| x * x).sum().sqrt()
}

#[test]
fn long_examples_have_the_gradient_of_their_rows() {
    // More rows than have logits at once: those with a gradient are computed again.
    let model = random_model(3);
    let adapter = adapter(&model, 6);
    let length = 1200;
    let tokens: Vec<u32> = (0..length).map(|at| (at * at % 11) as u32).collect();
    let example = |weight: &dyn Fn(usize) -> f32| {
        let objective = Objective::cross_entropy((0..length).map(weight).collect());
        Example::new(tokens.clone(), tokens.iter().rev().copied().collect(), objective)
    };
    let gradient = |example: Example| {
        let mut gradient = Tensors::new();
        let logprobs = model.forward_backward(&adapter, &[example], Some(&mut gradient));
        assert_eq!(logprobs[0].len(), length);
        gradient
    };
    let is_odd = |at: usize| (at % 2) as f32;
    let [odd, even, all] =
        [gradient(example(&is_odd)), gradient(example(&|at| 1.0 - is_odd(at))), gradient(example(&|_| 1.0))];
    for (name, all) in &all {
        assert!(norm(&(&odd[name] + &even[name] - all)) < 1e-9 * norm(all), "{name}");
    }
}

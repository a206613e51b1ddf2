//! Tests of the whole model.

use std::sync::Arc;

use ndarray::Array2;

use super::splitmix::SplitMix64;
use super::*;
use crate::local::adam::{Adam, AdamOptions};
use crate::local::model::{FinishReason, Objective};
use crate::types::TokenLogprob;

/// A model small enough for numeric differentiation.
fn tiny<T: Real>() -> Transformer<T> {
    let config = ModelConfig {
        vocab_size: 11,
        hidden_size: 8,
        num_layers: 2,
        num_heads: 2,
        num_kv_heads: 2,
        head_size: 4,
        intermediate_size: 12,
        context_length: 24,
        rms_norm_eps: 1e-6,
        rope_theta: 10_000.0,
        rope_divisors: None,
        end_tokens: Vec::new(),
    };
    Transformer::new("tiny", config, 5)
}

fn adapter_options() -> AdapterOptions {
    AdapterOptions { rank: 2, seed: 1, train_attn: true, train_mlp: true, train_unembed: true }
}

/// An adapter whose factors are all nonzero.
fn trained<T: Real>(model: &Transformer<T>) -> Adapter<T> {
    let mut adapter = lora::init(&model.modules, &adapter_options());
    let mut random = SplitMix64::new(9);
    for tensor in adapter.tensors.values_mut() {
        *tensor = random.matrix(tensor.dim(), 0.1);
    }
    adapter
}

fn with(adapter: &Adapter) -> SamplingContext {
    SamplingContext::new(Arc::new(adapter.clone()))
}

fn prompt_logprobs(model: &Transformer, adapter: Option<&Adapter>, tokens: &[u32], top_k: usize) -> PromptLogprobs {
    let context = adapter.map_or_else(SamplingContext::base, with);
    model.prompt_logprobs(&context, tokens, &PromptOptions::new().top_k(top_k))
}

/// The same sequences with each objective.
fn batches(lengths: &[usize], vocab: u32) -> Vec<Vec<Example>> {
    let with = |objective: &dyn Fn(Vec<f32>, Vec<f32>) -> Objective| -> Vec<Example> {
        let examples = batch(lengths, vocab).into_iter();
        let cycle = |length: usize, values: [f32; 4]| (0..length).map(|at| values[at % 4]).collect();
        let objective =
            |length| objective(cycle(length, [-2.0, -2.5, -3.0, -1.5]), cycle(length, [1.0, -0.5, 0.25, 0.0]));
        examples.map(|example| Example { objective: objective(example.tokens.len()), ..example }).collect()
    };
    let marked = |logprobs: &[f32]| vec![true; logprobs.len()];
    vec![
        batch(lengths, vocab),
        with(&Objective::importance_sampling),
        with(&Objective::ppo),
        with(&Objective::cispo),
        with(&Objective::dro),
        with(&|logprobs, advantages| {
            let (mask, low, high) = (marked(&logprobs), vec![0.2; logprobs.len()], vec![3.0; logprobs.len()]);
            Objective::gspo(logprobs, advantages, mask).clip_low(low).clip_high(high)
        }),
        with(&|logprobs, advantages| {
            let sampled = marked(&logprobs);
            Objective::stable_reinforce(logprobs, advantages, sampled)
        }),
    ]
}

/// Sequences of the given lengths, with weights of either sign and some zeros.
fn batch(lengths: &[usize], vocab: u32) -> Vec<Example> {
    let mut random = SplitMix64::new(3);
    let mut token = || (random.uniform() * f64::from(vocab)) as u32;
    let mut example = |length| {
        let tokens: Vec<u32> = (0..length).map(|_| token()).collect();
        let targets = tokens.iter().skip(1).copied().chain([token()]).collect();
        let weights = (0..length).map(|at| [0.0, 1.0, 0.5, -0.25][at % 4]).collect();
        Example::new(tokens, targets, Objective::cross_entropy(weights))
    };
    lengths.iter().map(|&length| example(length)).collect()
}

fn loss<T: Real>(model: &Transformer<T>, adapter: &Adapter<T>, batch: &[Example]) -> f64 {
    let logprobs = model.forward_backward(adapter, batch, None);
    batch.iter().zip(&logprobs).map(|(example, logprobs)| example.objective.loss(logprobs)).sum()
}

#[test]
fn gradients_match_finite_differences() {
    let model = tiny::<f64>();
    let adapter = trained(&model);
    for mut batch in batches(&[6, 3, 1], 11) {
        let mut gradient = Tensors::new();
        let logprobs = model.forward_backward(&adapter, &batch, Some(&mut gradient));
        // What an objective holds constant would change with the weights: the cross-entropy of the same derivatives has no such
        // terms. The rounding of its weights is too small to matter.
        for (example, logprobs) in batch.iter_mut().zip(&logprobs) {
            let weights = example.objective.gradient(logprobs).into_iter().map(|derivative| -derivative as f32);
            example.objective = Objective::cross_entropy(weights.collect());
        }
        let mut same = Tensors::new();
        model.forward_backward(&adapter, &batch, Some(&mut same));
        for (name, gradient) in &gradient {
            let (difference, size) = (norm(&(gradient - &same[name])), norm(gradient));
            assert!(difference < 1e-6 * size, "{name}: {difference} of {size}");
        }
        check_against_finite_differences(&batch);
    }
}

fn norm(tensor: &Array2<f64>) -> f64 {
    tensor.mapv(|x| x * x).sum().sqrt()
}

fn check_against_finite_differences(batch: &[Example]) {
    let model = tiny::<f64>();
    let adapter = trained(&model);
    let mut gradient = Tensors::new();
    model.forward_backward(&adapter, batch, Some(&mut gradient));
    assert_eq!(gradient.keys().collect::<Vec<_>>(), adapter.tensors.keys().collect::<Vec<_>>());
    assert_eq!(gradient.len(), 2 * (7 * 2 + 1));

    let step = 1e-5;
    let mut random = SplitMix64::new(11);
    for (name, tensor) in &adapter.tensors {
        // Every element contributes to the derivative along a random direction, so a single wrong one is found.
        let direction = random.matrix::<f64>(tensor.dim(), 1.0);
        let direction = &direction / norm(&direction);
        let loss_at = |offset: f64| {
            let mut moved = adapter.clone();
            moved.tensors.insert(name.clone(), tensor + &(&direction * offset));
            loss(&model, &moved, batch)
        };
        let difference = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        let derivative = (&gradient[name] * &direction).sum();
        let size = norm(&gradient[name]);
        assert!(size > 1e-3, "the gradient of {name} is too small to check: {size}");
        assert!((derivative - difference).abs() < 1e-6 * size, "{name}: {derivative} is not {difference}");
    }
}

#[test]
fn several_targets_of_a_token_add_up() {
    let model = tiny::<f64>();
    let adapter = trained(&model);
    // The targets of each token, with one of them twice, as a matrix; and as one example for each column.
    let columns = [[3, 1, 4, 1], [5, 9, 2, 6], [3, 5, 8, 9]].map(|column| column.to_vec());
    let weights = [[1.0, 0.5, 0.0, 0.25], [0.5, -1.0, 2.0, 0.0], [0.25, 0.0, 1.0, 1.0]].map(|column| column.to_vec());
    let example = |targets: &[u32], weights: &[f32]| {
        Example::new(vec![2, 7, 1, 8], targets.to_vec(), Objective::cross_entropy(weights.to_vec()))
    };
    let targets: Vec<u32> = (0..4).flat_map(|row| [0, 1, 2].map(|column: usize| columns[column][row])).collect();
    let matrix: Vec<f32> = (0..4).flat_map(|row| [0, 1, 2].map(|column: usize| weights[column][row])).collect();
    let together = example(&targets, &matrix).targets_per_token(3);
    check_against_finite_differences(std::slice::from_ref(&together));

    let apart: Vec<_> = columns.iter().zip(&weights).map(|(targets, weights)| example(targets, weights)).collect();
    let (mut sum, mut whole) = (Tensors::new(), Tensors::new());
    let separate = model.forward_backward(&adapter, &apart, Some(&mut sum));
    let joint = &model.forward_backward(&adapter, std::slice::from_ref(&together), Some(&mut whole))[0];
    for (index, logprob) in joint.iter().enumerate() {
        assert!((logprob - separate[index % 3][index / 3]).abs() < 1e-12, "{index}");
    }
    for (name, whole) in &whole {
        assert!((whole - &sum[name]).iter().all(|difference| difference.abs() < 1e-12), "{name}");
    }
}

#[test]
fn gradients_accumulate() {
    let model = tiny::<f32>();
    let adapter = trained(&model);
    let batch = batch(&[6, 5], 11);
    let (mut once, mut twice) = (Tensors::new(), Tensors::new());
    model.forward_backward(&adapter, &batch, Some(&mut once));
    model.forward_backward(&adapter, &batch, Some(&mut twice));
    model.forward_backward(&adapter, &batch, Some(&mut twice));
    for (name, once) in &once {
        assert!((once * 2.0 - &twice[name]).iter().all(|difference| difference.abs() < 1e-4), "{name}");
    }
}

#[test]
fn chunks_give_the_gradient_of_the_batch() {
    let model = tiny::<f64>();
    let adapter = trained(&model);
    for batch in batches(&[6, 1, 9, 3, 20, 4], 11) {
        let (mut whole, mut chunked) = (Tensors::new(), Tensors::new());
        model.forward_backward(&adapter, &batch, Some(&mut whole));
        for chunk in batch.chunks(2) {
            model.forward_backward(&adapter, chunk, Some(&mut chunked));
        }
        for (name, whole) in &whole {
            assert!((whole - &chunked[name]).iter().all(|difference| difference.abs() < 1e-12), "{name}");
        }
    }
}

#[test]
fn only_the_requested_modules_are_adapted() {
    let model = tiny::<f32>();
    let names = |train_attn, train_mlp, train_unembed| {
        let adapter = model.new_adapter(&AdapterOptions { train_attn, train_mlp, train_unembed, ..adapter_options() });
        let mut gradient = Tensors::new();
        Model::forward_backward(&model, &adapter, &batch(&[5], 11), Some(&mut gradient));
        let shapes =
            |tensors: &Tensors| tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dim())).collect::<Vec<_>>();
        assert_eq!(shapes(&adapter.tensors), shapes(&gradient));
        adapter.tensors.into_keys().collect::<Vec<_>>()
    };
    assert!(names(true, false, false).iter().all(|name| name.contains("self_attn")));
    assert!(names(false, true, false).iter().all(|name| name.contains("mlp")));
    let unembed = ["base_model.model.lm_head.lora_A.weight", "base_model.model.lm_head.lora_B.weight"];
    assert_eq!(names(false, false, true), unembed);
}

#[test]
fn new_adapter_is_seeded_but_neutral() {
    let model = tiny::<f32>();
    let adapter = model.new_adapter(&adapter_options());
    assert_eq!(adapter, model.new_adapter(&adapter_options()));
    assert_ne!(adapter, model.new_adapter(&AdapterOptions { seed: 2, ..adapter_options() }));
    let tokens = [1, 2, 3, 4, 5, 6];
    assert_eq!(prompt_logprobs(&model, Some(&adapter), &tokens, 3), prompt_logprobs(&model, None, &tokens, 3));
    assert_ne!(prompt_logprobs(&model, Some(&trained(&model)), &tokens, 3), prompt_logprobs(&model, None, &tokens, 3));
}

#[test]
fn thread_count_does_not_change_any_bit() {
    let model = tiny::<f32>();
    let adapter = trained(&model);
    let batch = batch(&[20; 60], 11);
    let run = |threads| {
        let (model, mut gradient) = (Transformer { threads: Threads::new(Some(threads)), ..tiny() }, Tensors::new());
        (model.forward_backward(&adapter, &batch, Some(&mut gradient)), gradient)
    };
    let alone = run(1);
    for threads in [2, 3, 8, 20] {
        assert!(run(threads) == alone, "{threads} threads");
    }
}

#[test]
fn training_is_reproducible_to_the_last_bit() {
    let model = tiny::<f32>();
    let batch = batch(&[20; 30], 11);
    let options = AdamOptions { learning_rate: 0.01, ..AdamOptions::default() };
    let train = || {
        let (mut adapter, mut adam) = (model.new_adapter(&adapter_options()), Adam::default());
        for _ in 0..4 {
            let mut gradient = Tensors::new();
            model.forward_backward(&adapter, &batch, Some(&mut gradient));
            adam.step(&mut adapter.tensors, &gradient, &options);
        }
        adapter
    };
    let first = train();
    assert!(first != model.new_adapter(&adapter_options()) && first == train());
}

#[test]
fn examples_of_a_batch_are_independent() {
    let model = tiny::<f32>();
    let adapter = trained(&model);
    let batch = batch(&[5, 0, 9, 1], 11);
    let together = model.forward_backward(&adapter, &batch, None);
    for (example, together) in batch.iter().zip(&together) {
        let alone = &model.forward_backward(&adapter, std::slice::from_ref(example), None)[0];
        assert_eq!(alone.len(), example.tokens.len());
        assert!(alone.iter().zip(together).all(|(alone, together)| (alone - together).abs() < 1e-5));
    }
}

#[test]
fn attention_is_causal() {
    let model = tiny::<f32>();
    let first = prompt_logprobs(&model, None, &[1, 2, 3, 4, 5], 0).logprobs;
    let second = prompt_logprobs(&model, None, &[1, 2, 3, 9, 9], 0).logprobs;
    assert_eq!(first[..3], second[..3]);
    assert_ne!(first[4], second[4]);
}

#[test]
fn training_lowers_the_loss() {
    let model = tiny::<f32>();
    let mut adapter = model.new_adapter(&adapter_options());
    let tokens = vec![1, 2, 3, 4, 5, 6, 7, 8];
    let example = |tokens: &[u32]| {
        Example::new(tokens[..7].to_vec(), tokens[1..].to_vec(), Objective::cross_entropy(vec![1.0; 7]))
    };
    let batch = [example(&tokens), example(&tokens.iter().rev().copied().collect::<Vec<_>>())];
    let options = AdamOptions { learning_rate: 0.02, ..AdamOptions::default() };
    let before = loss(&model, &adapter, &batch);
    let mut adam = Adam::default();
    for _ in 0..60 {
        let mut gradient = Tensors::new();
        model.forward_backward(&adapter, &batch, Some(&mut gradient));
        adam.step(&mut adapter.tensors, &gradient, &options);
    }
    let after = loss(&model, &adapter, &batch);
    assert!(after < before / 10.0, "{before} -> {after}");

    let greedy = GenerationOptions { temperature: 0.0, max_tokens: Some(6), ..GenerationOptions::default() };
    assert_eq!(model.sample(&with(&adapter), &tokens[..2], 1, &greedy).sequences[0].tokens, tokens[2..]);
}

#[test]
fn sampled_logprobs_match_a_full_forward_pass() {
    let model = tiny::<f32>();
    let adapter = trained(&model);
    let prompt = [3, 1, 4, 1, 5];
    for temperature in [0.0, 0.7, 1.0, 5.0] {
        let options =
            GenerationOptions { temperature, max_tokens: Some(12), seed: Some(2), ..GenerationOptions::default() };
        let sample = &model.sample(&with(&adapter), &prompt, 1, &options).sequences[0];
        assert_eq!(sample.tokens.len(), 12);
        let whole = prompt_logprobs(&model, Some(&adapter), &[&prompt[..], &sample.tokens].concat(), 0).logprobs;
        for (sampled, whole) in sample.logprobs.iter().zip(&whole[5..]) {
            assert!((sampled - whole.unwrap()).abs() < 1e-4, "{sampled} {whole:?}");
        }
    }
}

#[test]
fn prompt_logprobs_match_training_logprobs() {
    let model = tiny::<f32>();
    let adapter = trained(&model);
    let example = &batch(&[8], 11)[0];
    let prompt = prompt_logprobs(&model, Some(&adapter), &example.tokens, 11);
    let trained = &model.forward_backward(&adapter, std::slice::from_ref(example), None)[0];
    assert_eq!((prompt.logprobs.len(), prompt.logprobs[0], &prompt.top_k[0]), (8, None, &None));
    for at in 1..8 {
        let (logprob, top_k) = (prompt.logprobs[at].unwrap(), prompt.top_k[at].as_ref().unwrap());
        assert!((logprob - trained[at - 1]).abs() < 1e-5);
        assert!(top_k.contains(&TokenLogprob { token: example.tokens[at], logprob }));
        assert!(top_k.is_sorted_by(|left, right| left.logprob >= right.logprob));
        assert!((top_k.iter().map(|top| top.logprob.exp()).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_eq!(prompt_logprobs(&model, None, &[], 1), PromptLogprobs::default());
}

#[test]
fn samples_of_a_seed_differ_but_repeat() {
    let model = tiny::<f32>();
    let sample = |count, seed| {
        let options = GenerationOptions { max_tokens: Some(10), seed, ..GenerationOptions::default() };
        model.sample(&SamplingContext::base(), &[1, 2], count, &options).sequences
    };
    let three = sample(3, Some(7));
    assert_eq!(three, sample(3, Some(7)));
    assert_eq!(three[..1], sample(1, Some(7)));
    assert_ne!(three[0], three[1]);
    assert_ne!(three, sample(3, Some(8)));
    assert_ne!(sample(1, None), sample(1, None));
}

#[test]
fn sampling_ends_at_stop_max_tokens_or_context() {
    let model = tiny::<f32>();
    let sample = |prompt: &[u32], max_tokens, stop: &[&[u32]]| {
        let stop_sequences = stop.iter().map(|stop| stop.to_vec()).collect();
        let options = GenerationOptions { max_tokens, stop_sequences, seed: Some(4), ..GenerationOptions::default() };
        let sample = model.sample(&SamplingContext::base(), prompt, 1, &options).sequences.remove(0);
        assert_eq!(sample.tokens.len(), sample.logprobs.len());
        (sample.tokens, sample.finish_reason)
    };
    let (free, reason) = sample(&[1, 2], None, &[]);
    assert_eq!((free.len(), reason), (22, FinishReason::Length));
    assert_eq!(sample(&[1, 2], Some(6), &[]), (free[..6].to_vec(), FinishReason::Length));
    assert_eq!(sample(&[1, 2], Some(0), &[]), (Vec::new(), FinishReason::Length));
    assert_eq!(sample(&[1; 24], None, &[]), (Vec::new(), FinishReason::Length));

    // The stop sequence is part of the sample; an empty one is ignored.
    let pair = &free[4..6];
    let end = free.windows(2).position(|window| window == pair).unwrap() + 2;
    assert_eq!(sample(&[1, 2], None, &[&[], pair]), (free[..end].to_vec(), FinishReason::Stop));
    let end = free.iter().position(|&token| token == free[5]).unwrap() + 1;
    assert_eq!(sample(&[1, 2], None, &[&free[5..6]]), (free[..end].to_vec(), FinishReason::Stop));
}

#[test]
fn end_of_text_stops_a_sample() {
    let model = Transformer::bytes_tiny();
    let options = GenerationOptions { temperature: 1e6, seed: Some(1), ..GenerationOptions::default() };
    let sample = &model.sample(&SamplingContext::base(), &[], 1, &options).sequences[0];
    assert_eq!((sample.tokens.last(), sample.finish_reason), (Some(&END_OF_TEXT), FinishReason::Stop));
}

#[test]
fn invalid_input_does_not_panic() {
    let model = tiny::<f32>();
    let mut adapter = model.new_adapter(&adapter_options());
    let weights = vec![1.0; 2];
    let long = Example::new(vec![99; 40], vec![u32::MAX; 50], Objective::cross_entropy(weights));
    let short = Example::new(vec![1; 4], vec![1; 2], Objective::cross_entropy(vec![1.0; 9]));
    let none = short.clone().targets_per_token(0);
    let ragged = Example { targets: vec![1; 5], ..short.clone() }.targets_per_token(3);
    let mut gradient = Tensors::new();
    let logprobs = model.forward_backward(&adapter, &[long, short, none, ragged], Some(&mut gradient));
    assert_eq!(logprobs.iter().map(Vec::len).collect::<Vec<_>>(), [40, 2, 2, 5]);
    let samples = model.sample(&SamplingContext::base(), &[99; 40], 1, &GenerationOptions::default());
    assert!(samples.sequences[0].tokens.is_empty());
    assert_eq!(prompt_logprobs(&model, None, &[99; 40], 50).logprobs.len(), 40);

    // An adapter of another model.
    adapter.tensors.values_mut().for_each(|tensor| *tensor = Array2::ones((2, 2)));
    assert_eq!(prompt_logprobs(&model, Some(&adapter), &[1, 2], 1), prompt_logprobs(&model, None, &[1, 2], 1));
}

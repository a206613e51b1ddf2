//! What must hold of the whole model.

use super::*;
use crate::local::{
    adam::{Adam, AdamStep},
    model::{Loss, StopReason},
};

/// A model small enough to try every weight of an adapter.
fn tiny<T: NdFloat>() -> Transformer<T> {
    let sizes = Sizes { vocab: 11, width: 8, layers: 2, heads: 2, hidden: 12, context: 24 };
    Transformer::new("tiny", sizes, 5)
}

fn options() -> AdapterOptions {
    AdapterOptions { rank: 2, seed: 1, train_attn: true, train_mlp: true, train_unembed: true }
}

/// An adapter that has learned something: neither factor is zero.
fn trained<T: NdFloat>(model: &Transformer<T>) -> Adapter<T> {
    let mut adapter = lora::fresh(&model.weights().base, &options());
    let mut random = Random::new(9);
    for tensor in adapter.tensors.values_mut() {
        *tensor = random.matrix(tensor.dim(), 0.1);
    }
    adapter
}

/// The same sequences under each loss.
fn batches(lengths: &[usize], vocab: u32) -> [Vec<Example>; 3] {
    let with = |loss: &dyn Fn(usize) -> Loss| -> Vec<Example> {
        let examples = batch(lengths, vocab).into_iter();
        examples.map(|example| Example { loss: loss(example.tokens.len()), ..example }).collect()
    };
    let number = |length: usize, of: [f32; 4]| -> Vec<f32> { (0..length).map(|at| of[at % 4]).collect() };
    let logprobs = |length| number(length, [-2.0, -2.5, -3.0, -1.5]);
    let advantages = |length| number(length, [1.0, -0.5, 0.25, 0.0]);
    [
        batch(lengths, vocab),
        with(&|length| Loss::ImportanceSampling { logprobs: logprobs(length), advantages: advantages(length) }),
        with(&|length| {
            let clip = vec![(0.8, 1.2); length];
            Loss::Ppo { logprobs: logprobs(length), advantages: advantages(length), clip }
        }),
    ]
}

/// Sequences of the given lengths, with weights of either sign and some zeros.
fn batch(lengths: &[usize], vocab: u32) -> Vec<Example> {
    let mut random = Random::new(3);
    let mut token = || (random.unit() * f64::from(vocab)) as u32;
    let mut example = |length| {
        let tokens: Vec<u32> = (0..length).map(|_| token()).collect();
        let targets = tokens.iter().skip(1).copied().chain([token()]).collect();
        let weights = (0..length).map(|at| [0.0, 1.0, 0.5, -0.25][at % 4]).collect();
        Example { tokens, targets, loss: Loss::CrossEntropy { weights } }
    };
    lengths.iter().map(|&length| example(length)).collect()
}

fn loss<T: NdFloat>(model: &Transformer<T>, adapter: &Adapter<T>, batch: &[Example]) -> f64 {
    let logprobs = model.forward_backward(adapter, batch, None);
    batch.iter().zip(&logprobs).map(|(example, logprobs)| example.loss.value(logprobs)).sum()
}

#[test]
fn the_gradient_is_that_of_finite_differences_for_every_tensor_of_an_adapter() {
    for batch in batches(&[6, 3, 1], 11) {
        gradient_is_that_of_finite_differences(&batch);
    }
}

fn gradient_is_that_of_finite_differences(batch: &[Example]) {
    let model = tiny::<f64>();
    let adapter = trained(&model);
    let mut gradient = Tensors::new();
    model.forward_backward(&adapter, batch, Some(&mut gradient));
    assert_eq!(gradient.keys().collect::<Vec<_>>(), adapter.tensors.keys().collect::<Vec<_>>());
    assert_eq!(gradient.len(), 2 * (7 * 2 + 1));

    let step = 1e-5;
    let length = |tensor: &Array2<f64>| tensor.mapv(|x| x * x).sum().sqrt();
    let mut random = Random::new(11);
    for (name, tensor) in &adapter.tensors {
        // Along a random direction every element counts: one that were wrong would show along the first already.
        for _ in 0..2 {
            let direction = random.matrix::<f64>(tensor.dim(), 1.0);
            let direction = &direction / length(&direction);
            let loss_at = |offset: f64| {
                let mut moved = adapter.clone();
                moved.tensors.insert(name.clone(), tensor + &(&direction * offset));
                loss(&model, &moved, batch)
            };
            let difference = (loss_at(step) - loss_at(-step)) / (2.0 * step);
            let slope = (&gradient[name] * &direction).sum();
            let size = length(&gradient[name]);
            assert!(size > 1e-3, "{name} hardly matters: {size}");
            assert!((slope - difference).abs() < 1e-6 * size, "{name}: {slope} is not {difference}");
        }
    }
}

#[test]
fn a_gradient_adds_to_what_was_there() {
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
fn a_batch_in_chunks_gives_the_gradient_of_the_whole() {
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
fn only_the_parts_that_the_options_name_are_adapted() {
    let model = tiny::<f32>();
    let names = |train_attn, train_mlp, train_unembed| {
        let adapter = model.new_adapter(&AdapterOptions { train_attn, train_mlp, train_unembed, ..options() });
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
fn a_fresh_adapter_comes_from_its_seed_and_leaves_the_base_model_as_it_is() {
    let model = tiny::<f32>();
    let adapter = model.new_adapter(&options());
    assert_eq!(adapter, model.new_adapter(&options()));
    assert_ne!(adapter, model.new_adapter(&AdapterOptions { seed: 2, ..options() }));
    let tokens = [1, 2, 3, 4, 5, 6];
    assert_eq!(model.prompt_logprobs(Some(&adapter), &tokens, 3), model.prompt_logprobs(None, &tokens, 3));
    assert_ne!(model.prompt_logprobs(Some(&trained(&model)), &tokens, 3), model.prompt_logprobs(None, &tokens, 3));
}

#[test]
fn results_are_the_same_to_the_last_bit_on_any_number_of_threads() {
    let model = tiny::<f32>();
    let projections = model.projections(Some(&trained(&model))).into_owned();
    let batch = batch(&[20; 60], 11);
    let run = |threads| {
        let (logprobs, slopes) = batch::run(model.network(&projections), &batch, true, threads);
        let slopes = slopes.unwrap();
        (logprobs, slopes.placed().map(|(_, slope)| slope.clone()).collect::<Vec<_>>())
    };
    let alone = run(1);
    for threads in [2, 3, 8, 20] {
        assert!(run(threads) == alone, "{threads} threads");
    }
}

#[test]
fn training_twice_from_one_seed_ends_at_the_same_weights_to_the_last_bit() {
    let model = tiny::<f32>();
    let batch = batch(&[20; 30], 11);
    let params = AdamStep { learning_rate: 0.01, ..AdamStep::default() };
    let train = || {
        let (mut adapter, mut adam) = (model.new_adapter(&options()), Adam::default());
        for _ in 0..4 {
            let mut gradient = Tensors::new();
            model.forward_backward(&adapter, &batch, Some(&mut gradient));
            adam.step(&mut adapter.tensors, &gradient, &params);
        }
        adapter
    };
    let first = train();
    assert!(first != model.new_adapter(&options()) && first == train());
}

#[test]
fn an_example_does_not_feel_the_others_of_its_batch() {
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
fn a_token_does_not_depend_on_those_after_it() {
    let model = tiny::<f32>();
    let first = model.prompt_logprobs(None, &[1, 2, 3, 4, 5], 0).logprobs;
    let second = model.prompt_logprobs(None, &[1, 2, 3, 9, 9], 0).logprobs;
    assert_eq!(first[..3], second[..3]);
    assert_ne!(first[4], second[4]);
}

#[test]
fn training_lowers_the_loss() {
    let model = tiny::<f32>();
    let mut adapter = model.new_adapter(&options());
    let tokens = vec![1, 2, 3, 4, 5, 6, 7, 8];
    let example = |tokens: &[u32]| Example {
        tokens: tokens[..7].to_vec(),
        targets: tokens[1..].to_vec(),
        loss: Loss::CrossEntropy { weights: vec![1.0; 7] },
    };
    let batch = [example(&tokens), example(&tokens.iter().rev().copied().collect::<Vec<_>>())];
    let params = AdamStep { learning_rate: 0.02, ..AdamStep::default() };
    let before = loss(&model, &adapter, &batch);
    let mut adam = Adam::default();
    for _ in 0..60 {
        let mut gradient = Tensors::new();
        model.forward_backward(&adapter, &batch, Some(&mut gradient));
        adam.step(&mut adapter.tensors, &gradient, &params);
    }
    let after = loss(&model, &adapter, &batch);
    assert!(after < before / 10.0, "{before} -> {after}");

    let greedy = SampleOptions { temperature: 0.0, max_tokens: Some(6), ..SampleOptions::default() };
    assert_eq!(model.sample(Some(&adapter), &tokens[..2], 1, &greedy)[0].tokens, tokens[2..]);
}

#[test]
fn sampled_tokens_have_the_logprobs_that_a_whole_forward_pass_gives_them() {
    let model = tiny::<f32>();
    let adapter = trained(&model);
    let prompt = [3, 1, 4, 1, 5];
    for temperature in [0.0, 0.7, 1.0, 5.0] {
        let options = SampleOptions { temperature, max_tokens: Some(12), seed: Some(2), ..SampleOptions::default() };
        let sample = &model.sample(Some(&adapter), &prompt, 1, &options)[0];
        assert_eq!(sample.tokens.len(), 12);
        let whole = model.prompt_logprobs(Some(&adapter), &[&prompt[..], &sample.tokens].concat(), 0).logprobs;
        for (sampled, whole) in sample.logprobs.iter().zip(&whole[5..]) {
            assert!((sampled - whole.unwrap()).abs() < 1e-4, "{sampled} {whole:?}");
        }
    }
}

#[test]
fn prompt_logprobs_are_those_of_training_and_top_k_is_ranked() {
    let model = tiny::<f32>();
    let adapter = trained(&model);
    let example = &batch(&[8], 11)[0];
    let found = model.prompt_logprobs(Some(&adapter), &example.tokens, 11);
    let trained = &model.forward_backward(&adapter, std::slice::from_ref(example), None)[0];
    assert_eq!((found.logprobs.len(), found.logprobs[0], &found.top_k[0]), (8, None, &None));
    for at in 1..8 {
        let (logprob, top_k) = (found.logprobs[at].unwrap(), found.top_k[at].as_ref().unwrap());
        assert!((logprob - trained[at - 1]).abs() < 1e-5);
        assert!(top_k.contains(&(example.tokens[at], logprob)));
        assert!(top_k.is_sorted_by(|(_, left), (_, right)| left >= right));
        assert!((top_k.iter().map(|(_, logprob)| logprob.exp()).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_eq!(model.prompt_logprobs(None, &[], 1), PromptLogprobs::default());
}

#[test]
fn a_seed_gives_the_same_samples_again_and_its_samples_differ() {
    let model = tiny::<f32>();
    let sample = |count, seed| {
        let options = SampleOptions { max_tokens: Some(10), seed, ..SampleOptions::default() };
        model.sample(None, &[1, 2], count, &options)
    };
    let three = sample(3, Some(7));
    assert_eq!(three, sample(3, Some(7)));
    assert_eq!(three[..1], sample(1, Some(7)));
    assert_ne!(three[0], three[1]);
    assert_ne!(three, sample(3, Some(8)));
    assert_ne!(sample(1, None), sample(1, None));
}

#[test]
fn sampling_ends_at_a_stop_sequence_at_max_tokens_or_at_the_context_length() {
    let model = tiny::<f32>();
    let sample = |prompt: &[u32], max_tokens, stop: &[&[u32]]| {
        let stop = stop.iter().map(|stop| stop.to_vec()).collect();
        let options = SampleOptions { max_tokens, stop, temperature: 1.0, seed: Some(4), ..SampleOptions::default() };
        let sample = model.sample(None, prompt, 1, &options).remove(0);
        assert_eq!(sample.tokens.len(), sample.logprobs.len());
        (sample.tokens, sample.stop_reason)
    };
    let (free, reason) = sample(&[1, 2], None, &[]);
    assert_eq!((free.len(), reason), (22, StopReason::Length));
    assert_eq!(sample(&[1, 2], Some(6), &[]), (free[..6].to_vec(), StopReason::Length));
    assert_eq!(sample(&[1, 2], Some(0), &[]), (Vec::new(), StopReason::Length));
    assert_eq!(sample(&[1; 24], None, &[]), (Vec::new(), StopReason::Length));

    // What stops a sample belongs to it; an empty sequence stops nothing.
    let pair = &free[4..6];
    let end = free.windows(2).position(|window| window == pair).unwrap() + 2;
    assert_eq!(sample(&[1, 2], None, &[&[], pair]), (free[..end].to_vec(), StopReason::Stop));
    let end = free.iter().position(|&token| token == free[5]).unwrap() + 1;
    assert_eq!(sample(&[1, 2], None, &[&free[5..6]]), (free[..end].to_vec(), StopReason::Stop));
}

#[test]
fn the_end_of_a_text_stops_a_sample() {
    let model = Transformer::bytes_tiny();
    let options = SampleOptions { temperature: 1e6, seed: Some(1), ..SampleOptions::default() };
    let sample = &model.sample(None, &[], 1, &options)[0];
    assert_eq!((sample.tokens.last(), sample.stop_reason), (Some(&END_OF_TEXT), StopReason::Stop));
}

#[test]
fn input_that_the_server_should_have_refused_does_not_panic() {
    let model = tiny::<f32>();
    let mut adapter = model.new_adapter(&options());
    let weights = vec![1.0; 2];
    let long = Example { tokens: vec![99; 40], targets: vec![u32::MAX; 50], loss: Loss::CrossEntropy { weights } };
    let short = Example { tokens: vec![1; 4], targets: vec![1; 2], loss: Loss::CrossEntropy { weights: vec![1.0; 9] } };
    let mut gradient = Tensors::new();
    let logprobs = model.forward_backward(&adapter, &[long, short], Some(&mut gradient));
    assert_eq!(logprobs.iter().map(Vec::len).collect::<Vec<_>>(), [40, 2]);
    assert!(model.sample(None, &[99; 40], 1, &SampleOptions::default())[0].tokens.is_empty());
    assert_eq!(model.prompt_logprobs(None, &[99; 40], 50).logprobs.len(), 40);

    // An adapter of another model.
    adapter.tensors.values_mut().for_each(|tensor| *tensor = Array2::ones((2, 2)));
    assert_eq!(model.prompt_logprobs(Some(&adapter), &[1, 2], 1), model.prompt_logprobs(None, &[1, 2], 1));
}

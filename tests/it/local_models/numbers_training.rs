//! Losses, gradients and optimizer steps against the references.

use std::collections::BTreeMap;

use serde_json::Value;
use tinkex::local::adam::{Adam, AdamOptions};
use tinkex::local::model::{Adapter, AdapterOptions, Example, Model, Objective, Tensors};
use tinkex::local::transformer::Transformer;
use tinkex::ndarray::Array2;

use super::numbers::{tokens, tolerance};

/// The tensor that the README's formula gives for a name.
fn formula(name: &str, shape: (usize, usize), bound: f64) -> Array2<f32> {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    Array2::from_shape_simple_fn(shape, || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        (bound * (2.0 * unit - 1.0)) as f32
    })
}

/// 2-norm and probe of a tensor, as in the references.
fn fingerprint(name: &str, tensor: &Array2<f32>) -> [f64; 2] {
    let probe = formula(&format!("probe:{name}"), tensor.dim(), 1.0);
    let product = |left: &Array2<f32>, right: &Array2<f32>| -> f64 {
        left.iter().zip(right).map(|(&left, &right)| f64::from(left) * f64::from(right)).sum()
    };
    [product(tensor, tensor).sqrt(), product(tensor, &probe)]
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn example(datum: &Value, loss: &str) -> Example {
    let with = |objective: fn(Vec<f32>, Vec<f32>) -> Objective| {
        objective(floats(&datum["logprobs"]), floats(&datum["advantages"]))
    };
    let objective = match loss {
        "cross_entropy" => Objective::cross_entropy(floats(&datum["weights"])),
        "importance_sampling" => with(Objective::importance_sampling),
        "ppo" => with(Objective::ppo),
        _ => panic!("{loss}"),
    };
    Example::new(tokens(&datum["tokens"]), tokens(&datum["target_tokens"]), objective)
}

/// The adapter of a reference at its start: the model's names and shapes, the formula's numbers.
fn start(model: &Transformer, training: &Value) -> Adapter {
    let flag = |name: &str| training[name].as_bool().unwrap();
    let options = AdapterOptions::new()
        .rank(training["rank"].as_u64().unwrap() as usize)
        .train_attn(flag("train_attn"))
        .train_mlp(flag("train_mlp"))
        .train_unembed(flag("train_unembed"));
    let mut adapter = model.new_adapter(&options);
    for (name, tensor) in &mut adapter.tensors {
        let bound = if name.contains("lora_A") {
            (tensor.ncols() as f64).powf(-0.5)
        } else {
            training["b_bound"].as_f64().unwrap()
        };
        *tensor = formula(name, tensor.dim(), bound);
    }
    adapter
}

/// Norms and probes, each relative to its tensor's norm, or to a thousandth of the largest.
fn check_tensors(tensors: &Tensors, expected: &Value, tolerance: f64, what: &str) {
    let expected: BTreeMap<_, _> = expected.as_object().unwrap().iter().collect();
    assert!(tensors.keys().eq(expected.keys().copied()), "{what}: other tensors");
    let norm = |value: &Value| value[0].as_f64().unwrap();
    let largest = expected.values().map(|value| norm(value)).fold(0.0, f64::max);
    for (name, expected) in expected {
        let scale = norm(expected).max(largest / 1000.0);
        for (at, ours) in fingerprint(name, &tensors[name]).into_iter().enumerate() {
            let difference = (ours - expected[at].as_f64().unwrap()).abs() / scale;
            assert!(difference < tolerance, "{what}, {name}: {ours} is not {} ({difference})", expected[at]);
        }
    }
}

/// Everything that a reference says about training.
pub(super) fn check_training(model: &Transformer, reference: &Value) {
    for training in reference["training"].as_array().unwrap() {
        let what = format!("{}, {}", model.name(), training["name"]);
        let loss_fn = training["loss_fn"].as_str().unwrap();
        let batch: Vec<_> = training["data"].as_array().unwrap().iter().map(|datum| example(datum, loss_fn)).collect();
        let first = start(model, training);
        let mut gradient = Tensors::new();
        let logprobs = model.forward_backward(&first, &batch, Some(&mut gradient));
        check_logprobs(&logprobs, &training["logprobs"], tolerance(reference, "logprob"), &what);
        let scale = check_losses(&batch, &logprobs, training, tolerance(reference, "loss"), &what);
        check_tensors(&gradient, &training["gradient"], tolerance(reference, "gradient"), &what);
        if training.get("adam").is_some() {
            check_steps(model, first, &batch, training, scale, reference, &what);
        }
    }
}

fn check_logprobs(logprobs: &[Vec<f32>], expected: &Value, tolerance: f64, what: &str) {
    for (ours, expected) in logprobs.iter().zip(expected.as_array().unwrap()) {
        for (ours, expected) in ours.iter().zip(floats(expected)) {
            assert!(f64::from((ours - expected).abs()) < tolerance, "{what}: {ours} is not {expected}");
        }
    }
}

/// Returns the sum of the tokens' absolute losses.
fn check_losses(batch: &[Example], logprobs: &[Vec<f32>], training: &Value, tolerance: f64, what: &str) -> f64 {
    let each = training["elementwise_loss"].as_array().unwrap();
    let scale: f64 = each.iter().flat_map(floats).map(|loss| f64::from(loss.abs())).sum();
    for ((example, logprobs), expected) in batch.iter().zip(logprobs).zip(each) {
        for (ours, expected) in example.objective.token_losses(logprobs).iter().zip(floats(expected)) {
            assert!(f64::from((ours - expected).abs()) < tolerance * scale, "{what}: {ours} is not {expected}");
        }
    }
    check_loss(total(batch, logprobs), &training["loss"], tolerance * scale, what);
    scale
}

fn check_loss(loss: f64, expected: &Value, tolerance: f64, what: &str) {
    let expected = expected.as_f64().unwrap();
    assert!((loss - expected).abs() < tolerance, "{what}: the loss is {loss}, not {expected}");
}

fn total(batch: &[Example], logprobs: &[Vec<f32>]) -> f64 {
    batch.iter().zip(logprobs).map(|(example, logprobs)| example.objective.loss(logprobs)).sum()
}

/// The losses before the first and after each step of Adam, and where the adapter ends.
fn check_steps(
    model: &Transformer,
    first: Adapter,
    batch: &[Example],
    training: &Value,
    scale: f64,
    reference: &Value,
    what: &str,
) {
    let number = |name: &str| training["adam"][name].as_f64().unwrap() as f32;
    let options = AdamOptions::new()
        .learning_rate(number("learning_rate"))
        .beta1(number("beta1"))
        .beta2(number("beta2"))
        .eps(number("eps"));
    let (mut adapter, mut adam, mut logprobs) = (first.clone(), Adam::default(), Vec::new());
    for (step, expected) in training["losses"].as_array().unwrap().iter().enumerate() {
        if step > 0 {
            let mut gradient = Tensors::new();
            model.forward_backward(&adapter, batch, Some(&mut gradient));
            adam.step(&mut adapter.tensors, &gradient, &options);
        }
        logprobs = model.forward_backward(&adapter, batch, None);
        let allowed = tolerance(reference, "losses") * scale;
        check_loss(total(batch, &logprobs), expected, allowed, &format!("{what}, step {step}"));
    }
    // The steps multiply what rounding changes.
    check_logprobs(&logprobs, &training["final_logprobs"], 10.0 * tolerance(reference, "logprob"), what);
    let changes = adapter.tensors.iter().map(|(name, last)| (name.clone(), last - &first.tensors[name]));
    check_tensors(&changes.collect(), &training["final_change"], tolerance(reference, "final_change"), what);
}

//! Real models say what the references in `tests/golden/models` say; its README has the tolerances.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tinkex::local::model::{GenerationOptions, Model, PromptOptions, SamplingContext};
use tinkex::local::pretrained::{ModelLoader, WeightPrecision};
use tinkex::local::transformer::Transformer;
use tinkex::types::TokenLogprob;

use super::numbers_training::check_training;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models")
}

pub(super) fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

pub(super) fn load(path: &Path) -> Transformer {
    ModelLoader::new(path.to_str().unwrap()).weights(WeightPrecision::F32).load().unwrap()
}

/// The micro models with their references.
fn micro_models() -> Vec<(PathBuf, Value)> {
    let golden = |folder: &str| fs::read_dir(models().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let files = golden("golden").chain(golden("golden/gguf")).filter(|path| path.extension().is_some());
    let references = files.filter(|path| !path.ends_with("micro-tokens.json"));
    let found: Vec<_> = references
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let is_gguf = path.parent().unwrap().ends_with("gguf");
            let model = if is_gguf { models().join(format!("gguf/{name}.gguf")) } else { models().join(name) };
            (model, read(&path))
        })
        .collect();
    assert_eq!(found.len(), 18);
    found
}

pub(super) fn tokens(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|token| token.as_u64().unwrap() as u32).collect()
}

pub(super) fn tolerance(reference: &Value, of: &str) -> f64 {
    reference["tolerance"][of].as_f64().unwrap()
}

/// Checks the likeliest tokens of a reference against more of ours: those that are nearly as likely may change places.
fn check_top(ours: &[TokenLogprob], expected: &Value, tolerance: f64, what: &str) {
    for pair in expected.as_array().unwrap() {
        let (token, logprob) = (pair[0].as_u64().unwrap() as u32, pair[1].as_f64().unwrap());
        let found = ours.iter().find(|top| top.token == token).map(|top| f64::from(top.logprob));
        assert!(
            found.is_some_and(|found| (found - logprob).abs() < tolerance),
            "{what}: {token}: {found:?}, {logprob}"
        );
    }
}

/// Log-probabilities and likeliest tokens. Returns the largest difference of a log-probability.
fn check_sequences(model: &Transformer, reference: &Value) -> f64 {
    let (context, tolerance) = (SamplingContext::base(), tolerance(reference, "logprob"));
    let mut largest: f64 = 0.0;
    for (name, sequence) in reference["sequences"].as_object().unwrap() {
        let what = format!("{}, {name}", model.name());
        let tokens = tokens(&sequence["tokens"]);
        let prompt = model.prompt_logprobs(&context, &tokens, &PromptOptions::new().top_k(10));
        for (at, expected) in sequence["logprobs"].as_array().unwrap().iter().enumerate() {
            let Some(expected) = expected.as_f64() else { continue };
            let difference = (f64::from(prompt.logprobs[at].unwrap()) - expected).abs();
            assert!(difference < tolerance, "{what}, token {at}: {:?}, {expected}", prompt.logprobs[at]);
            largest = largest.max(difference);
        }
        if sequence.get("top5_last").is_some() {
            check_top(prompt.top_k.last().unwrap().as_ref().unwrap(), &sequence["top5_last"], tolerance, &what);
        }
        let options = GenerationOptions::new().temperature(0.0).max_tokens(1).topk_logprobs(10);
        let sample = &model.sample(&context, &tokens, 1, &options).sequences[0];
        check_top(&sample.topk_logprobs[0], &sequence["top5_next"], tolerance, &what);
    }
    largest
}

#[test]
fn micro_models_give_the_reference_logprobs() {
    for (path, reference) in micro_models() {
        check_sequences(&load(&path), &reference);
    }
}

#[test]
fn micro_models_train_as_the_reference() {
    let with_training = micro_models().into_iter().filter(|(_, reference)| reference.get("training").is_some());
    let trained = with_training.map(|(path, reference)| check_training(&load(&path), &reference)).count();
    assert_eq!(trained, 4);
}

#[test]
#[should_panic(expected = "token 1:")]
fn a_wrong_number_is_found() {
    let (path, mut reference) = micro_models().into_iter().find(|(path, _)| path.ends_with("qwen2-bias-bf16")).unwrap();
    let model = load(&path);
    let name = reference["sequences"].as_object().unwrap().keys().next_back().unwrap().clone();
    let logprob = &mut reference["sequences"][&name]["logprobs"][1];
    *logprob = Value::from(logprob.as_f64().unwrap() + 1e-3);
    check_sequences(&model, &reference);
}

/// `TINKEX_SMOLLM2` names SmolLM2-135M-Instruct's file; `scripts/smollm2` fetches it.
#[test]
fn smollm2_gives_the_reference_numbers() {
    let Some(path) = std::env::var_os("TINKEX_SMOLLM2").map(PathBuf::from) else { return };
    let model = load(&path);
    let largest = check_sequences(&model, &read(&models().join("smollm2/sequences.json")));
    println!("SmolLM2: log-probabilities differ by up to {largest:.1e}");
    check_training(&model, &read(&models().join("smollm2/training.json")));
}

//! Greedy continuations of real models, against the references.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tinkex::local::model::{FinishReason, GenerationOptions, Model, Sample, SamplingContext};
use tinkex::local::transformer::Transformer;

use super::model_copy::{golden, load};

#[derive(Deserialize)]
struct Reference {
    model: String,
    tolerance: Tolerance,
    greedy: Vec<Continuation>,
}

#[derive(Deserialize)]
struct Tolerance {
    logprob: f32,
}

#[derive(Deserialize)]
struct Continuation {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    stop_reason: String,
}

/// The references of all micro models.
fn references() -> Vec<Reference> {
    let files = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files(golden("golden")).chain(files(golden("golden/gguf")));
    let is_model =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "json") && !path.ends_with("micro-tokens.json");
    files.filter(is_model).map(|path| read(&path)).collect()
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn sample(model: &Transformer, continuation: &Continuation, count: usize) -> Vec<Sample> {
    let options = GenerationOptions::new().temperature(0.0).max_tokens(continuation.tokens.len());
    model.sample(&SamplingContext::base(), &continuation.prompt, count, &options).sequences
}

fn check(name: &str, tolerance: f32, continuation: &Continuation, sample: &Sample) {
    let Continuation { prompt, tokens, logprobs, stop_reason } = continuation;
    assert_eq!(&sample.tokens, tokens, "{name} {prompt:?}");
    for (expected, logprob) in logprobs.iter().zip(&sample.logprobs) {
        assert!((expected - logprob).abs() <= tolerance, "{name} {prompt:?}: {logprob} for {expected}");
    }
    let finish_reason = if stop_reason == "stop" { FinishReason::Stop } else { FinishReason::Length };
    assert_eq!(sample.finish_reason, finish_reason, "{name} {prompt:?}");
}

fn check_all(name: &str, model: &Transformer, tolerance: f32, continuations: &[Continuation]) {
    let alone: Vec<Sample> =
        continuations.iter().map(|continuation| sample(model, continuation, 1).remove(0)).collect();
    for (continuation, sample) in continuations.iter().zip(&alone) {
        check(name, tolerance, continuation, sample);
    }
    // All at once, several of each: the same bits.
    thread::scope(|scope| {
        let threads: Vec<_> =
            continuations.iter().map(|continuation| scope.spawn(|| sample(model, continuation, 3))).collect();
        for (thread, alone) in threads.into_iter().zip(alone) {
            assert_eq!(thread.join().unwrap(), [alone.clone(), alone.clone(), alone], "{name}");
        }
    });
}

#[test]
fn micro_models_continue_like_the_references() {
    let references = references();
    assert_eq!(references.len(), 18);
    for Reference { model: name, tolerance, greedy } in references {
        let model = load(&golden(&name)).unwrap();
        check_all(&name, &model, tolerance.logprob, &greedy);
    }
}

/// `TINKEX_SMOLLM2` names the file of SmolLM2-135M-Instruct, which `scripts/smollm2` fetches.
#[test]
fn smollm2_continues_like_the_references() {
    #[derive(Deserialize)]
    struct References {
        tolerance: Tolerance,
        continuations: BTreeMap<String, Continuation>,
    }
    let Some(path) = env::var_os("TINKEX_SMOLLM2").map(PathBuf::from) else { return };
    let References { tolerance, continuations } = read(&golden("smollm2/greedy.json"));
    let model = load(&path).unwrap();
    let continuations: Vec<_> = continuations.into_values().collect();
    check_all("SmolLM2", &model, tolerance.logprob, &continuations);
}

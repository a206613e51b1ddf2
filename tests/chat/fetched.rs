//! The tokens of families whose tokenizer is too large for this repository. `scripts/chat-tokenizers` fetches them; a family that is
//! not there is skipped, with a word on stderr.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use serde_json::Value;
use tinkex::Tokenizer;
use tinkex::chat::{Renderer, TrainOn};

use crate::fixtures::fixture;
use crate::official_prompts::compare_prompts;
use crate::templates::{conversation, template};

const FAMILIES: [&str; 3] = ["qwen3", "gpt_oss", "deepseek_v3"];

/// What differs on purpose: family, conversation, reason.
const DIFFERENCES: [(&str, &str, &str); 0] = [];

/// The families whose tokenizer is here, each with its fixture.
static FETCHED: LazyLock<Vec<(&str, Arc<Value>, Tokenizer)>> = LazyLock::new(|| {
    let mut found = Vec::new();
    for family in FAMILIES {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("../chat-tokenizers/{family}/tokenizer.json"));
        if path.exists() {
            found.push((family, fixture(&format!("templates/{family}")), Tokenizer::from_path(&path).unwrap()));
        } else {
            eprintln!("skipped: the tokenizer of {family} is not here; scripts/chat-tokenizers {family} fetches it");
        }
    }
    found
});

fn renderer(fixture: &Value, tokenizer: &Tokenizer) -> Renderer {
    Renderer::new(template(fixture), tokenizer.clone()).unwrap()
}

fn tokens(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The weights of a list of pairs of count and weight.
fn weights(value: &Value) -> Vec<f32> {
    let runs: Vec<(usize, f32)> = serde_json::from_value(value.clone()).unwrap();
    runs.into_iter().flat_map(|(count, weight)| std::iter::repeat_n(weight, count)).collect()
}

/// Fails for the differences that are not listed, and for those listed that are none.
fn assert_listed(family: &str, found: &[String]) {
    let listed =
        DIFFERENCES.iter().filter(|(of, _, _)| *of == family).map(|(_, conversation, _)| (*conversation).to_owned());
    assert_eq!(found, listed.collect::<Vec<_>>(), "{family}");
}

#[test]
fn texts_have_the_references_tokens() {
    for (family, fixture, tokenizer) in &*FETCHED {
        for case in fixture["cases"].as_array().unwrap().iter().filter(|case| case["tokens"].is_array()) {
            let encoded = tokenizer.encode_continuation(case["text"].as_str().unwrap()).unwrap();
            assert_eq!(encoded, tokens(&case["tokens"]), "{family}: {}", case["id"]);
        }
    }
}

#[test]
fn prompts_have_the_literal_tokens() {
    for (family, fixture, tokenizer) in &*FETCHED {
        let (renderer, mut different, mut compared) = (renderer(fixture, tokenizer), Vec::new(), 0);
        for case in fixture["cases"].as_array().unwrap() {
            if case["add_generation_prompt"] == false || !case["tokens"].is_array() {
                continue;
            }
            let expected = [&case["tokens_literal"], &case["tokens"]].into_iter().find(|tokens| tokens.is_array());
            let prompt = renderer.prompt(&conversation(case)).unwrap();
            compared += 1;
            if prompt.input.to_tokens().unwrap() != tokens(expected.unwrap()) {
                different.push(case["id"].as_str().unwrap().to_owned());
            }
        }
        assert!(compared > 20, "{family}: {compared}");
        assert_listed(family, &different);
    }
}

#[test]
fn examples_have_the_rules_tokens_and_weights() {
    for (family, fixture, tokenizer) in &*FETCHED {
        let (renderer, mut different, mut compared) = (renderer(fixture, tokenizer), Vec::new(), 0);
        let cases = fixture["cases"].as_array().unwrap();
        for mask in fixture["masks"].as_array().unwrap().iter().filter(|mask| mask["modes"].is_object()) {
            let name = mask["conversation"].as_str().unwrap();
            let is_meant = |case: &&Value| {
                let id = case["id"].as_str().unwrap();
                case["kwargs"] == mask["kwargs"] && id.split('+').next() == Some(name)
            };
            let conversation = conversation(cases.iter().find(is_meant).unwrap());
            for (mode, expected) in mask["modes"].as_object().unwrap() {
                let expected = expected.as_str().map_or(expected, |equal| &mask["modes"][equal]).as_array().unwrap();
                let examples = renderer.examples(&conversation, mode.parse::<TrainOn>().unwrap()).unwrap().examples;
                let ours: Vec<_> = examples
                    .iter()
                    .map(|example| example.weighted_tokens())
                    .map(|example| (example.tokens().to_vec(), example.weights().to_vec()))
                    .collect();
                let theirs: Vec<_> =
                    expected.iter().map(|example| (tokens(&example["tokens"]), weights(&example["weights"]))).collect();
                compared += 1;
                if ours != theirs {
                    different.push(format!("{name} {} {mode}", mask["kwargs"]));
                }
            }
        }
        assert!(compared > 50, "{family}: {compared}");
        assert_listed(family, &different);
    }
}

#[test]
fn official_prompts_and_examples_have_our_tokens() {
    for (family, _, tokenizer) in &*FETCHED {
        compare_prompts(family, tokenizer, true);
    }
}

//! The masks of the fixtures in `templates`: what is trained of each conversation.

use serde_json::{Map, Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{Conversation, ExampleNote, Renderer, TrainOn, TrainingExamples};
use tinkex::toolkit::WeightedTokens;

use super::byte_level::byte_level;
use super::fixtures::{fixture, fixture_outside, smollm2_tokenizer};
use super::templates::template;

/// A conversation of these messages and tools as the fixtures have them.
pub fn conversation(messages: &Value, tools: &Value, template_args: &Value) -> Conversation {
    let mut line = Map::new();
    line.insert("messages".to_owned(), messages.clone());
    if !tools.is_null() {
        line.insert("tools".to_owned(), tools.clone());
    }
    if !template_args.is_null() {
        line.insert("chat_template_kwargs".to_owned(), template_args.clone());
    }
    serde_json::from_value(Value::Object(line)).unwrap()
}

/// The texts of an example's runs of equal weight, with the weights.
pub fn spans(tokenizer: &Tokenizer, example: &WeightedTokens) -> Vec<(String, f32)> {
    let mut start = 0;
    let runs = example.weights().chunk_by(|a, b| a == b);
    runs.map(|run| {
        let tokens = &example.tokens()[start..start + run.len()];
        start += run.len();
        (tokenizer.decode_with_special_tokens(tokens).unwrap(), run[0])
    })
    .collect()
}

/// The spans of an example of a fixture.
pub fn expected_spans(example: &Value) -> Vec<(String, f32)> {
    serde_json::from_value(example["spans"].clone()).unwrap()
}

/// The tokens and weights of an example of a fixture, where it has them.
pub fn expected_tokens(example: &Value) -> Option<WeightedTokens> {
    let tokens: Vec<u32> = serde_json::from_value(example.get("tokens")?.clone()).unwrap();
    let runs: Vec<(usize, f32)> = serde_json::from_value(example["weights"].clone()).unwrap();
    let weights: Vec<f32> = runs.into_iter().flat_map(|(count, weight)| vec![weight; count]).collect();
    Some(WeightedTokens::from_parts(tokens, weights).unwrap())
}

/// The examples of a mode in a fixture: a string names an equal mode.
fn mode<'a>(modes: &'a Value, name: &str) -> Option<&'a Value> {
    match modes.get(name)? {
        Value::String(equal) => mode(modes, equal),
        examples => Some(examples),
    }
}

/// What differs between our examples and those of a fixture, in words.
fn differences(name: &str, ours: &TrainingExamples, theirs: &Value, tokenizer: &Tokenizer, ids: bool) -> Vec<String> {
    let theirs = theirs.as_array().unwrap();
    if ours.examples.len() != theirs.len() {
        return vec![format!("{name}: {} examples, not {}", ours.examples.len(), theirs.len())];
    }
    let mut found = Vec::new();
    for (ours, theirs) in ours.examples.iter().zip(theirs) {
        let ours = ours.weighted_tokens();
        let (spans, expected) = (spans(tokenizer, ours), expected_spans(theirs));
        if !ids && spans != expected {
            found.push(format!("{name}: {spans:?}, not {expected:?}"));
        }
        if let Some(expected) = expected_tokens(theirs).filter(|_| ids) {
            if *ours != expected {
                found.push(format!("{name}: the tokens {spans:?} {ours:?}, not {expected:?}"));
            }
        }
    }
    found
}

const PARSED: &str =
    "arguments as a text are given as the object that it stands for, and null as the template takes it";
const TEXT: &str = "the template wants arguments as a text and content as null, and writes no call for the raw message";
const THINKING: &str = "the reasoning is given under the key `thinking`, which the template reads";
const JOINED: &str = "parts that are all texts are given as one text, since the template reads no parts";

/// Conversations of which more is trained than the template makes of the raw messages: family, conversation, reason.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("qwen3", "tool_call_null_content_string_args", PARSED),
    ("qwen3_5", "tool_call_null_content_string_args", PARSED),
    ("gpt_oss", "tool_call_null_content_string_args", PARSED),
    ("smollm2", "tool_call_null_content_string_args", PARSED),
    ("llama3_1", "tool_call_null_content_string_args", PARSED),
    ("lfm2_5", "tool_call_null_content_string_args", PARSED),
    ("deepseek_v3", "tool_call", TEXT),
    ("deepseek_v3", "tool_call_id9", TEXT),
    ("deepseek_v3", "tool_values", TEXT),
    ("lfm2_5", "thinking", THINKING),
    ("lfm2_5", "thinking_multi", THINKING),
    ("lfm2_5", "tool_parallel_thinking", THINKING),
    ("deepseek_v3", "parts", JOINED),
    ("gpt_oss", "parts", JOINED),
    ("qwen3", "parts", JOINED),
    ("smollm2", "parts", JOINED),
    ("llama3_1", "parts", JOINED),
    ("llama3_plain", "parts", JOINED),
];

/// Compares all masks of a family: texts and weights, and also the ids for the family's own tokenizer.
pub fn compare_masks(name: &str, fixture: &Value, tokenizer: &Tokenizer, ids: bool) {
    let renderer = Renderer::new(template(fixture), tokenizer.clone()).unwrap();
    let mut found = Vec::new();
    for mask in fixture["masks"].as_array().unwrap() {
        let id = mask["conversation"].as_str().unwrap();
        let kwargs = &mask["kwargs"];
        let cases = fixture["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["id"] == id).unwrap();
        let conversation = conversation(&case["messages"], &case["tools"], kwargs);
        let is_named = DIFFERENCES.iter().any(|(family, conversation, _)| (*family, *conversation) == (name, id));
        let before = found.len();
        let name = format!("{name} {id} {}", if kwargs.is_null() { json!({}) } else { kwargs.clone() });
        for train_on in [TrainOn::LastAssistantMessage, TrainOn::LastAssistantTurn, TrainOn::AllAssistantMessages] {
            let name = format!("{name} {train_on}");
            let ours = renderer.examples(&conversation, train_on);
            match (mask.get("modes").and_then(|modes| mode(modes, train_on.as_str())), ours) {
                (Some(theirs), Ok(ours)) => {
                    found.extend(differences(&name, &ours, theirs, tokenizer, ids));
                    let drops: Vec<u64> = serde_json::from_value(mask["drops_reasoning"].clone()).unwrap_or_default();
                    let ours: Vec<u64> = ours
                        .notes
                        .iter()
                        .filter_map(|note| match note {
                            ExampleNote::ReasoningLeftOut { message } => Some(*message as u64),
                            _ => None,
                        })
                        .collect();
                    if train_on == TrainOn::AllAssistantMessages && ours != drops {
                        found.push(format!("{name}: reasoning is left out in {ours:?}, not {drops:?}"));
                    }
                }
                (None, Err(error)) => {
                    let message = error.to_string();
                    let untrainable = mask["untrainable"].as_array().unwrap();
                    let is_named = |of: &Value| message.contains(&format!("messages[{}]", of["message"]));
                    if !untrainable.iter().any(is_named) {
                        found.push(format!("{name}: {message}, not of {untrainable:?}"));
                    }
                }
                (Some(_), Err(error)) => found.push(format!("{name}: {error:?}")),
                (None, Ok(ours)) => {
                    let spans: Vec<_> = ours.examples.iter().map(|e| spans(tokenizer, e.weighted_tokens())).collect();
                    found.push(format!("{name}: no error, but {spans:?}"));
                }
            }
        }
        if is_named {
            assert!(found.len() > before, "{name} is listed as a difference, and there is none");
            found.truncate(before);
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

#[test]
fn smollm2_has_the_ids_of_the_fixtures() {
    let tokenizer = smollm2_tokenizer();
    compare_masks("smollm2", &fixture("templates/smollm2"), &tokenizer, true);
}

macro_rules! families {
    ($($family:ident)*) => {$(
        #[test]
        fn $family() {
            let name = stringify!($family);
            compare_masks(name, &fixture(&format!("templates/{name}")), &byte_level(name), false);
        }
    )*};
}

families! { smollm2 qwen3 qwen3_5 gpt_oss deepseek_v3 kimi_k2_thinking lfm2_5 }
#[test]
fn families_outside_the_repository() {
    for name in ["llama3_1", "llama3_plain", "gemma3"] {
        if let Some(fixture) = fixture_outside(&format!("templates/{name}")) {
            compare_masks(name, &fixture, &byte_level(name), false);
        }
    }
}

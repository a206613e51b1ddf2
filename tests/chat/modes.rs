//! The seven ways to train on a conversation, as the official cookbook's renderers do: the fixtures in `modes`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Renderer, TrainOn};

use super::byte_level::byte_level;
use super::fixtures::{FOLDER, fixture, fixture_outside, smollm2_tokenizer};
use super::masks::{conversation, expected_spans, expected_tokens, spans};
use super::templates::template;

const APART: &str = "the cookbook encodes headers and contents apart, and inference servers the prompt as a whole";
const ROLE_ENDS_HEADER: &str =
    "the cookbook's headers end before `<|message|>`, and the template's own message is no message here";
const DEFAULT_SYSTEM: &str = "the message that the template brings along is no message of the conversation";
const SPLIT_BY_USER: &str = "the cookbook splits at each message of the user, and trains earlier ones again and again";
const BEGINNING_LEFT_OUT: &str = "the cookbook does not train a reply before the first message of the user";
const HISTORY: &str = "the template has left out the reasoning before the next prompt; the cookbook trains it";
const SHARED: &str = "the second prompt goes on with the first reply: one example";
const FIRST_TOKEN: &str = "the first token is the target of none; its weight says nothing";
const PROMPT_HAS_IT: &str = "the prompt supplies the beginning of the reasoning block, so that it is not trained";
const REFUSED: &str = "reasoning, or its absence, contradicts what the prompt says";
const NO_PROMPT: &str = "the template refuses to make a prompt without a message of the user";
const NFC: &str = "the official text is decoded from tokens, which Qwen's tokenizer normalizes to NFC";
const STOP_IS_HEADER: &str = "`User:` ends every reply, also those in the middle";

const ALL: &[&str] = &[
    "one_turn",
    "system_one_turn",
    "multi_turn",
    "thinking",
    "hostile",
    "unicode",
    "empty",
    "whitespace",
    "code",
    "assistant_first",
    "two_users",
];

/// What differs on purpose: fixture, mode, conversations, reason.
const DIFFERENCES: &[(&str, &str, &[&str], &str)] = &[
    ("chatml_smollm2", "last_assistant_message", &["whitespace"], APART),
    ("chatml_smollm2", "last_assistant_turn", &["whitespace"], APART),
    ("chatml_smollm2", "all_assistant_messages", &["whitespace"], APART),
    ("gpt_oss_medium", "all_messages", ALL, ROLE_ENDS_HEADER),
    ("gpt_oss_medium", "all_user_and_system_messages", ALL, ROLE_ENDS_HEADER),
    ("kimi_k2", "all_assistant_messages", &["multi_turn", "two_users"], SPLIT_BY_USER),
    ("kimi_k2", "all_assistant_messages", &["thinking_multi"], HISTORY),
    ("kimi_k2", "all_assistant_messages", &["assistant_first"], BEGINNING_LEFT_OUT),
    ("kimi_k2", "all_messages", &["one_turn", "unicode", "empty", "code"], DEFAULT_SYSTEM),
    ("kimi_k2", "all_messages", &["multi_turn", "thinking_multi", "two_users"], SPLIT_BY_USER),
    ("kimi_k2", "all_tokens", &["multi_turn", "thinking_multi", "two_users"], SPLIT_BY_USER),
    ("kimi_k2", "all_user_and_system_messages", &["one_turn", "unicode", "empty", "code"], DEFAULT_SYSTEM),
    ("kimi_k2", "all_user_and_system_messages", &["multi_turn", "thinking_multi", "two_users"], SPLIT_BY_USER),
    ("kimi_k2", "customized", &["multi_turn"], SPLIT_BY_USER),
    (
        "llama3",
        "all_tokens",
        &[
            "one_turn",
            "system_one_turn",
            "multi_turn",
            "hostile",
            "unicode",
            "empty",
            "code",
            "assistant_first",
            "two_users",
        ],
        FIRST_TOKEN,
    ),
    ("qwen3", "all_assistant_messages", &["assistant_first"], SHARED),
    ("qwen3_5", "all_assistant_messages", &["assistant_first"], NO_PROMPT),
    ("qwen3_5", "all_messages", &["thinking", "thinking_multi"], PROMPT_HAS_IT),
    ("qwen3_5", "customized", &["thinking", "thinking_multi"], PROMPT_HAS_IT),
    ("qwen3_disable_thinking", "all_assistant_messages", &["thinking", "thinking_multi", "assistant_first"], REFUSED),
    (
        "qwen3_disable_thinking",
        "all_messages",
        &[
            "one_turn",
            "system_one_turn",
            "multi_turn",
            "thinking",
            "thinking_multi",
            "hostile",
            "empty",
            "whitespace",
            "code",
            "assistant_first",
            "two_users",
        ],
        PROMPT_HAS_IT,
    ),
    (
        "qwen3_disable_thinking",
        "customized",
        &["one_turn", "thinking", "thinking_multi", "empty", "code", "assistant_first"],
        PROMPT_HAS_IT,
    ),
    ("role_colon_smollm2", "all_assistant_messages", &["multi_turn", "assistant_first"], STOP_IS_HEADER),
    ("role_colon_smollm2", "all_messages", &["multi_turn", "assistant_first"], STOP_IS_HEADER),
    ("role_colon_smollm2", "customized", &["assistant_first"], STOP_IS_HEADER),
];

/// The conversations whose text in the cookbook is another one: fixture, conversations, reason. Their weights say nothing of ours.
const OTHER_TEXTS: &[(&str, &[&str], &str)] = &[
    ("gpt_oss_medium", &["tool_call", "tool_parallel_thinking"], "the cookbook writes tools in its own way"),
    (
        "gpt_oss_medium",
        &["thinking_multi"],
        "the cookbook keeps the reasoning of earlier turns, which the template drops",
    ),
    ("gpt_oss_medium", &["parts"], "the cookbook refuses parts"),
    ("kimi_k2", &["tool_call", "tool_parallel_thinking"], "the template of this copy fails for calls"),
    ("kimi_k2", &["thinking"], "the template leaves the reasoning of a reply out"),
    ("kimi_k2", &["parts"], "the cookbook refuses parts"),
    ("llama3", &["thinking", "thinking_multi"], "the cookbook refuses reasoning"),
    ("llama3", &["tools_prompt", "tool_call", "tool_parallel_thinking"], "the cookbook has no tools for Llama 3"),
    ("llama3", &["parts"], "the cookbook refuses parts"),
    ("llama3", &["whitespace"], "the template trims contents"),
    ("qwen3", &["tool_call", "tool_parallel_thinking"], "the cookbook writes tools in its own way"),
    ("qwen3", &["unicode"], NFC),
    ("qwen3", &["parts"], "the template takes no parts"),
    ("qwen3_5", &["tool_call", "tool_parallel_thinking"], "the cookbook writes tools in its own way"),
    ("qwen3_5", &["unicode"], NFC),
    ("qwen3_disable_thinking", &["tool_call", "tool_parallel_thinking"], "the cookbook writes tools in its own way"),
    ("qwen3_disable_thinking", &["unicode"], NFC),
    ("qwen3_disable_thinking", &["parts"], "the template takes no parts"),
];

/// The fixtures that no template gives: name, reason.
const WITHOUT_TEMPLATE: &[(&str, &str)] = &[
    ("deepseekv3", "the cookbook begins each reply with `</think>`, which the model's template does not have"),
    ("qwen3_keep_thinking", "the model's template always drops the reasoning of earlier turns"),
];

/// The differences where we refuse the conversation.
const REFUSALS: [&str; 2] = [REFUSED, NO_PROMPT];

/// A mode of an object of modes: a string names an equal one.
fn resolve<'a>(modes: &'a Value, name: &str) -> &'a Value {
    match &modes[name] {
        Value::String(equal) if !equal.starts_with("example:") => resolve(modes, equal),
        found => found,
    }
}

/// The examples of a mode: where the cookbook cannot split a conversation, the one sequence that it makes of it.
fn expected<'a>(case: &'a Value, mode: &str) -> Option<Vec<&'a Value>> {
    let found = match resolve(&case["examples"], mode) {
        Value::Array(examples) => return Some(examples.iter().collect()),
        Value::String(name) => resolve(&case["example"], name.strip_prefix("example:").unwrap()),
        _ => resolve(&case["example"], mode),
    };
    found.get("spans").is_some().then(|| vec![found])
}

/// The messages of a case: its own, or those of `conversations.json`, with what is marked.
fn messages(case: &Value, conversations: &Value) -> (Value, Value) {
    let conversations = conversations["conversations"].as_array().unwrap();
    let known = conversations.iter().find(|known| known["id"] == case["conversation"]).unwrap();
    let mut messages = case.get("messages").unwrap_or(&known["messages"]).clone();
    let messages_list = messages.as_array_mut().unwrap();
    // The cookbook has further messages, for example of tools.
    let marks = case["trainable"].as_array().filter(|marks| marks.len() == messages_list.len());
    for (message, mark) in messages_list.iter_mut().zip(marks.into_iter().flatten()) {
        message["trainable"] = mark.clone();
    }
    (messages, known["tools"].clone())
}

/// Compares a fixture with what a template gives.
fn compare(name: &str, fixture: &Value, template: ChatTemplate, tokenizer: &Tokenizer, ids: bool) {
    let renderer = Renderer::new(template, tokenizer.clone()).unwrap();
    let conversations = super::fixtures::fixture("conversations");
    let mut found = Vec::new();
    let named = DIFFERENCES.iter().filter(|difference| difference.0 == name);
    let mut stale: BTreeSet<(&str, &str)> =
        named.flat_map(|(_, mode, conversations, _)| conversations.iter().map(move |id| (*id, *mode))).collect();
    let all_named = stale.clone();
    let mut compared = 0;
    for case in fixture["cases"].as_array().unwrap() {
        let id = case["conversation"].as_str().unwrap();
        let has_other_text =
            OTHER_TEXTS.iter().any(|(fixture, conversations, _)| *fixture == name && conversations.contains(&id));
        let is_equal = fixture["template"].is_null() || case["template"] == "equal";
        assert!(is_equal != has_other_text, "{name} {id}: the text is the template's: {is_equal}");
        if has_other_text {
            continue;
        }
        let (messages, tools) = messages(case, &conversations);
        let conversation = conversation(&messages, &tools, &fixture["template_kwargs"]);
        for train_on in TrainOn::ALL {
            let mode = train_on.as_str();
            let Some(expected) = expected(case, mode) else { continue };
            compared += 1;
            let is_named = all_named.contains(&(id, mode));
            let may_refuse = DIFFERENCES.iter().any(|(fixture, of, conversations, reason)| {
                (*fixture, *of) == (name, mode) && conversations.contains(&id) && REFUSALS.contains(reason)
            });
            let ours = match renderer.examples(&conversation, train_on) {
                Ok(ours) => ours.examples,
                Err(_) if may_refuse => {
                    stale.remove(&(id, mode));
                    continue;
                }
                Err(error) => {
                    found.push(format!("{name} {id} {mode}: {error}"));
                    continue;
                }
            };
            let is_equal = ours.len() == expected.len()
                && ours.iter().zip(&expected).all(|(ours, expected)| {
                    let ours = ours.weighted_tokens();
                    match expected_tokens(expected).filter(|_| ids) {
                        Some(tokens) => *ours == tokens,
                        None => spans(tokenizer, ours) == expected_spans(expected),
                    }
                });
            if is_equal {
                continue;
            }
            if is_named {
                stale.remove(&(id, mode));
                continue;
            }
            let ours: Vec<_> = ours.iter().map(|ours| spans(tokenizer, ours.weighted_tokens())).collect();
            let expected: Vec<_> = expected.iter().map(|expected| expected_spans(expected)).collect();
            found.push(format!("{name} {id} {mode}:\n   ours {ours:?}\n   not  {expected:?}"));
        }
    }
    assert!(compared > 0, "{name}");
    assert!(found.is_empty(), "{} differences of {compared}:\n{}", found.len(), found.join("\n"));
    assert!(stale.is_empty(), "listed as differences, and there are none: {stale:?}");
}

#[test]
fn chatml_smollm2_with_ids() {
    let templates = fixture("templates/smollm2");
    compare("chatml_smollm2", &fixture("modes/chatml_smollm2"), template(&templates), &smollm2_tokenizer(), true);
}

#[test]
fn role_colon_smollm2() {
    // Without ids: the cookbook encodes headers and contents apart, and merges no line breaks of both.
    let template = ChatTemplate::builtin("role_colon").unwrap();
    compare("role_colon_smollm2", &fixture("modes/role_colon_smollm2"), template, &smollm2_tokenizer(), false);
}

macro_rules! fixtures {
    ($($name:ident of $template:literal)*) => {$(
        #[test]
        fn $name() {
            let name = stringify!($name);
            let template = template(&fixture(&format!("templates/{}", $template)));
            compare(name, &fixture(&format!("modes/{name}")), template, &byte_level($template), false);
        }
    )*};
}

fixtures! {
    qwen3 of "qwen3"
    qwen3_disable_thinking of "qwen3"
    qwen3_5 of "qwen3_5"
    gpt_oss_medium of "gpt_oss"
    kimi_k2 of "kimi_k2_thinking"
}

#[test]
fn llama3() {
    if let Some(templates) = fixture_outside("templates/llama3_plain") {
        compare("llama3", &fixture("modes/llama3"), template(&templates), &byte_level("llama3"), false);
    }
}

#[test]
fn every_fixture_is_compared_or_named() {
    let compared = [
        "chatml_smollm2",
        "role_colon_smollm2",
        "qwen3",
        "qwen3_disable_thinking",
        "qwen3_5",
        "gpt_oss_medium",
        "kimi_k2",
        "llama3",
    ];
    let names = WITHOUT_TEMPLATE.iter().map(|(name, _)| *name).chain(compared);
    let named: BTreeSet<String> = names.map(|name| format!("{name}.json")).collect();
    for file in std::fs::read_dir(format!("{FOLDER}/modes")).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        assert!(named.contains(&file), "{file}");
    }
}

/// The text with what is trained in `[[` and `]]`.
fn marked_text(renderer: &Renderer, line: Value, train_on: TrainOn) -> String {
    let conversation = serde_json::from_value(line).unwrap();
    let examples = renderer.examples(&conversation, train_on).unwrap().examples;
    let spans = spans(renderer.tokenizer(), examples[0].weighted_tokens());
    spans.iter().map(|(text, weight)| if *weight == 1.0 { format!("[[{text}]]") } else { text.clone() }).collect()
}

#[test]
fn no_tag_is_trained_in_part() {
    let renderer = Renderer::new(template(&fixture("templates/qwen3_5")), byte_level("qwen3_5")).unwrap();
    let line = json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "<table>"}, {"role": "user", "content": "b"},
    ]});
    let text = marked_text(&renderer, line, TrainOn::AllMessages);
    assert!(text.contains("<|im_start|>assistant\n[[<table><|im_end|>]]"), "{text}");
}

#[test]
fn replies_in_a_row_are_found() {
    let line = json!({"messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "c"},
        {"role": "assistant", "content": "d"}, {"role": "user", "content": "e"},
    ]});
    let qwen3 = Renderer::new(template(&fixture("templates/qwen3")), byte_level("qwen3")).unwrap();
    let text = marked_text(&qwen3, line.clone(), TrainOn::AllMessages);
    assert!(text.contains("assistant\n[[b<|im_end|>]]\n<|im_start|>assistant\n[[d<|im_end|>]]"), "{text}");
    let glm = Renderer::new(ChatTemplate::builtin("glm_5_3").unwrap(), byte_level("glm_5_3")).unwrap();
    let text = marked_text(&glm, line, TrainOn::AllUserAndSystemMessages);
    assert!(
        text.ends_with("<|user|>[[a]]<|assistant|><think></think>b<|assistant|><think></think>d<|user|>[[e]]"),
        "{text}"
    );
}

#[test]
fn replies_after_results_are_found() {
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": {}}}]);
    let line = json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "reasoning_content": "b", "tool_calls": call},
        {"role": "tool", "content": "c"}, {"role": "assistant", "content": "d"}, {"role": "user", "content": "e"},
    ]});
    let renderer = Renderer::new(ChatTemplate::builtin("glm_5_3").unwrap(), byte_level("glm_5_3")).unwrap();
    let text = marked_text(&renderer, line, TrainOn::AllMessages);
    assert!(text.contains("<tool_response>[[c]]</tool_response><|assistant|><think>[[</think>d<|user|>e]]"), "{text}");
}

#[test]
fn calls_in_a_row_are_found() {
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": {}}}]);
    let line = json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "reasoning_content": "b", "tool_calls": call},
        {"role": "assistant", "content": "", "tool_calls": call}, {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"}, {"role": "assistant", "content": "e"},
    ]});
    // Its template leaves out what was thought before an answer.
    let renderer = Renderer::new(template(&fixture("templates/gpt_oss")), byte_level("gpt_oss")).unwrap();
    let text = marked_text(&renderer, line, TrainOn::AllMessages);
    assert_eq!(text.matches("<|start|>assistant[[").count(), 4, "{text}");
    assert_eq!(text.matches("<|call|>]]").count(), 2, "{text}");
}

#[test]
fn formats_without_headers_train_all_messages() {
    let renderer = Renderer::new(ChatTemplate::builtin("tml_v0").unwrap(), byte_level("tml_v0")).unwrap();
    let line = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    let text = marked_text(&renderer, line, TrainOn::AllMessages);
    let reply = "<|message_model|><|content_text|>b<|end_message|><|content_model_end_sampling|>";
    assert_eq!(text, format!("<|message_user|><|content_text|>[[a<|end_message|>{reply}]]"));
}

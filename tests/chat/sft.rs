//! The training examples of the official renderers: the fixtures in `renderers`.

use std::collections::BTreeSet;

use serde_json::Value;
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Renderer, TrainOn};

use super::builtin::VARIANTS;
use super::byte_level::byte_level;
use super::fixtures::fixture;
use super::masks::{conversation, expected_spans, spans};
use super::templates::template;

const TWO_USERS: &str = "the official renderer makes one message of two";
const PARTS: &str = "the official renderer makes two messages of one";
const TRIMMED_PARTS: &str = "the official renderer trims each part";
const NO_REASONING: &str = "the template leaves the reasoning of a reply out, which the caller is told";
const EARLIER_REASONING: &str = "the official renderer trains earlier replies without their reasoning";
const CONTENT_AND_REASONING: &str = "the template refuses a call with content and reasoning";
const LAST_ONLY: &str = "the official renderer trains the last reply only";
const NO_CALLS: &str = "the template of this copy fails for calls";
const NFC: &str = "the official text is decoded from tokens, which Qwen's tokenizer normalizes to NFC";
const TOOL_LOOP: &str = "the template keeps reasoning in a loop of tools, where the official renderer drops it";
const EARLY_REPLY: &str =
    "the template writes no reasoning block before the first message of the user; its prompt does";
const NO_PROMPT: &str = "the template refuses to make a prompt without a message of the user";
const EMPTY_LINE: &str = "the models' templates have an empty line between text and calls";

/// What differs on purpose: fixture, variant, conversations, reason.
const DIFFERENCES: &[(&str, &str, &[&str], &str)] = &[
    ("deepseek_v4", "default", &["two_users"], TWO_USERS),
    ("deepseek_v4", "chat", &["two_users"], TWO_USERS),
    ("deepseek_v4_1", "default", &["two_users"], TWO_USERS),
    ("deepseek_v4_1", "chat", &["two_users"], TWO_USERS),
    ("glm_5_2", "default", &["two_users"], TWO_USERS),
    ("glm_5_3", "default", &["two_users"], TWO_USERS),
    ("glm_5_3", "low", &["two_users"], TWO_USERS),
    ("glm_5_3", "preserve_thinking", &["two_users"], TWO_USERS),
    ("gpt_oss", "default", &["two_users"], TWO_USERS),
    ("gpt_oss", "high", &["two_users"], TWO_USERS),
    ("kimi_k2_5", "default", &["two_users"], TWO_USERS),
    ("kimi_k2_5", "disable_thinking", &["two_users"], TWO_USERS),
    ("kimi_k2_5", "preserve_thinking", &["two_users"], TWO_USERS),
    ("qwen3", "default", &["two_users"], TWO_USERS),
    ("qwen3", "disable_thinking", &["two_users"], TWO_USERS),
    ("qwen3_5", "default", &["two_users"], TWO_USERS),
    ("qwen3_5", "disable_thinking", &["two_users"], TWO_USERS),
    ("qwen3_8", "default", &["two_users"], TWO_USERS),
    ("qwen3_8", "low", &["two_users"], TWO_USERS),
    ("qwen3_8", "disable_thinking", &["two_users"], TWO_USERS),
    ("qwen3_instruct", "instruct", &["two_users"], TWO_USERS),
    ("qwen3_instruct", "instruct", &["unicode"], NFC),
    ("deepseek_r1", "default", &["parts"], PARTS),
    ("deepseek_v3", "default", &["parts"], PARTS),
    ("deepseek_v3", "default", &["thinking", "thinking_multi"], NO_REASONING),
    ("glm_5_2", "default", &["thinking_multi"], EARLIER_REASONING),
    ("glm_5_3", "default", &["thinking_multi"], EARLIER_REASONING),
    ("glm_5_3", "low", &["thinking_multi"], EARLIER_REASONING),
    ("gpt_oss", "default", &["tool_parallel_thinking"], CONTENT_AND_REASONING),
    ("gpt_oss", "high", &["tool_parallel_thinking"], CONTENT_AND_REASONING),
    (
        "kimi_k2_builtin",
        "default",
        &["multi_turn", "tool_call", "tool_parallel_thinking", "assistant_first", "two_users", "thinking_multi"],
        LAST_ONLY,
    ),
    (
        "kimi_k2_builtin",
        "preserve_thinking",
        &["multi_turn", "tool_call", "tool_parallel_thinking", "assistant_first", "two_users", "thinking_multi"],
        LAST_ONLY,
    ),
    ("qwen3", "default", &["unicode"], NFC),
    ("qwen3", "disable_thinking", &["unicode"], NFC),
    ("qwen3", "default", &["tool_parallel_thinking"], TOOL_LOOP),
    ("qwen3", "disable_thinking", &["assistant_first"], EARLY_REPLY),
    ("qwen3_5", "default", &["unicode"], NFC),
    ("qwen3_5", "default", &["parts"], TRIMMED_PARTS),
    ("qwen3_5", "default", &["assistant_first"], NO_PROMPT),
    ("qwen3_5", "disable_thinking", &["unicode"], NFC),
    ("qwen3_5", "disable_thinking", &["parts"], TRIMMED_PARTS),
    ("qwen3_5", "disable_thinking", &["assistant_first"], NO_PROMPT),
    ("qwen3_5", "default", &["tool_parallel_thinking"], EMPTY_LINE),
    ("qwen3_8", "default", &["tool_parallel_thinking"], EMPTY_LINE),
    ("qwen3_8", "low", &["tool_parallel_thinking"], EMPTY_LINE),
    ("qwen3_8", "default", &["unicode"], NFC),
    ("qwen3_8", "default", &["parts"], TRIMMED_PARTS),
    ("qwen3_8", "low", &["unicode"], NFC),
    ("qwen3_8", "low", &["parts"], TRIMMED_PARTS),
    ("qwen3_8", "disable_thinking", &["unicode"], NFC),
    ("qwen3_8", "disable_thinking", &["parts"], TRIMMED_PARTS),
    ("kimi_k2", "default", &["multi_turn", "assistant_first", "two_users", "thinking_multi"], LAST_ONLY),
    ("kimi_k2", "default", &["thinking"], NO_REASONING),
    ("kimi_k2", "default", &["tool_call", "tool_parallel_thinking"], NO_CALLS),
];

/// The differences where we refuse the conversation.
const REFUSALS: [&str; 4] = [CONTENT_AND_REASONING, NO_PROMPT, NO_CALLS, EARLY_REPLY];

/// The differences in the text before completions: what is trained is the same.
const ONLY_BEFORE: [&str; 3] = [TWO_USERS, PARTS, TRIMMED_PARTS];

/// Whether a difference is no larger than its reason says.
fn is_explained(reason: &str, ours: &[Vec<(String, f32)>], expected: &[Vec<(String, f32)>]) -> bool {
    let texts = |examples| completions(examples).into_iter().map(|(_, text)| text).collect::<BTreeSet<_>>();
    if ONLY_BEFORE.contains(&reason) {
        texts(ours) == texts(expected)
    } else if reason == LAST_ONLY {
        texts(ours).is_superset(&texts(expected))
    } else {
        !REFUSALS.contains(&reason) && completions(ours).len() == completions(expected).len()
    }
}

/// Each completion with the text before it, however they are shared among examples.
fn completions(examples: &[Vec<(String, f32)>]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for example in examples {
        let mut text = String::new();
        for (span, weight) in example {
            if *weight == 1.0 {
                found.insert((text.clone(), span.clone()));
            }
            text.push_str(span);
        }
    }
    found
}

fn compare(
    name: &str,
    label: &str,
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    args: impl Fn(&str) -> Option<Value>,
) {
    let renderer = Renderer::new(template.clone(), tokenizer.clone()).unwrap();
    let fixture = fixture(&format!("renderers/{name}"));
    let conversations = super::fixtures::fixture("conversations");
    let mut found = Vec::new();
    let named = DIFFERENCES.iter().filter(|difference| difference.0 == label);
    let mut stale: BTreeSet<(&str, &str)> =
        named.flat_map(|(_, variant, conversations, _)| conversations.iter().map(move |id| (*variant, *id))).collect();
    for (variant, of) in fixture["variants"].as_object().unwrap() {
        let Some(args) = args(variant) else { continue };
        for case in of["cases"].as_array().unwrap() {
            let id = case["conversation"].as_str().unwrap();
            let known =
                conversations["conversations"].as_array().unwrap().iter().find(|known| known["id"] == id).unwrap();
            let conversation = conversation(&known["messages"], &known["tools"], &args);
            let Some(expected) = case["sft"].as_array() else { continue };
            let expected: Vec<_> = expected.iter().map(expected_spans).collect();
            let ours = renderer.examples(&conversation, TrainOn::AllAssistantMessages);
            let ours = ours.map(|ours| {
                ours.examples.iter().map(|example| spans(tokenizer, example.weighted_tokens())).collect::<Vec<_>>()
            });
            let is_equal = ours.as_ref().is_ok_and(|ours| completions(ours) == completions(&expected));
            if is_equal {
                continue;
            }
            let mut reasons = DIFFERENCES.iter().filter(|(of, named, conversations, _)| {
                (*of, *named) == (label, variant.as_str()) && conversations.contains(&id)
            });
            let is_as_named = reasons.any(|(.., reason)| match &ours {
                Ok(ours) => is_explained(reason, ours, &expected),
                Err(_) => REFUSALS.contains(reason),
            });
            if is_as_named {
                stale.remove(&(variant.as_str(), id));
            } else {
                found.push(format!("{label} {variant} {id}:\n   ours {ours:?}\n   not  {expected:?}"));
            }
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
    assert!(stale.is_empty(), "{label}: listed as differences, and there are none: {stale:?}");
}

/// The variants of a family with a template of the model: the fixture says how the template gives them.
fn compare_with_template(name: &str, templates: &str) {
    let renderers = fixture(&format!("renderers/{name}"));
    let template = template(&fixture(&format!("templates/{templates}")));
    compare(name, name, &template, &byte_level(name), |variant| {
        let args = &renderers["variants"][variant]["template_kwargs"];
        (!args.is_null()).then(|| args.clone())
    });
}

#[test]
fn qwen3() {
    compare_with_template("qwen3", "qwen3");
}

#[test]
fn qwen3_5() {
    compare_with_template("qwen3_5", "qwen3_5");
}

#[test]
fn gpt_oss() {
    compare_with_template("gpt_oss", "gpt_oss");
}

#[test]
fn deepseek_v3() {
    compare_with_template("deepseek_v3", "deepseek_v3");
}

#[test]
fn kimi_k2() {
    compare_with_template("kimi_k2", "kimi_k2_thinking");
}

/// The variants of a family with a built-in template.
fn compare_with_builtin(name: &str, label: &str, builtin: &str) {
    let variants = || VARIANTS.iter().filter(|variant| (variant.0, variant.2) == (name, builtin));
    let template = ChatTemplate::builtin(builtin).unwrap();
    compare(name, label, &template, &byte_level(name), |variant| {
        let args = variants().find(|(_, known, ..)| *known == variant)?.3;
        Some(serde_json::from_str(args).unwrap())
    });
}

macro_rules! builtin {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            compare_with_builtin(stringify!($name), stringify!($name), stringify!($name));
        }
    )*};
}

builtin! { deepseek_r1 deepseek_v4 deepseek_v4_1 glm_5_2 glm_5_3 kimi_k2_5 qwen3_8 tml_v0 }

#[test]
fn builtin_kimi_k2() {
    compare_with_builtin("kimi_k2", "kimi_k2_builtin", "kimi_k2");
}

#[test]
fn builtin_qwen3_instruct() {
    compare_with_builtin("qwen3", "qwen3_instruct", "qwen3_instruct");
}

/// Variants that neither a model's template nor a built-in one gives.
const WITHOUT_TEMPLATE: [(&str, &str); 2] = [("qwen3", "keep_thinking"), ("qwen3_5", "keep_thinking")];

#[test]
fn every_variant_is_compared_or_named() {
    let families = [
        "deepseek_r1",
        "deepseek_v3",
        "deepseek_v4",
        "deepseek_v4_1",
        "glm_5_2",
        "glm_5_3",
        "gpt_oss",
        "kimi_k2",
        "kimi_k2_5",
        "qwen3",
        "qwen3_5",
        "qwen3_8",
        "tml_v0",
    ];
    for family in families {
        for (variant, of) in fixture(&format!("renderers/{family}"))["variants"].as_object().unwrap() {
            let builtin = VARIANTS.iter().any(|known| (known.0, known.1) == (family, variant.as_str()));
            let named = WITHOUT_TEMPLATE.contains(&(family, variant.as_str()));
            assert!(builtin || named || of["template_kwargs"].is_object(), "{family} {variant}");
        }
    }
}

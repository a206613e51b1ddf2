//! What holds for any conversation, in every family.

use quickcheck::{Arbitrary, Gen};
use serde_json::{Value, json};
use tinkex::chat::{ChatTemplate, Conversation, Renderer, TrainOn};

use super::byte_level::byte_level;
use super::fixtures::{fixture, fixture_outside};
use super::templates::template;

/// A line of a data set: up to 8 messages, that make sense or not.
#[derive(Clone, Debug)]
struct Line(Value);

const TEXTS: [&str; 14] = [
    "",
    " ",
    "\n\n",
    "Hi",
    "What is 2 + 2?",
    "<think>",
    "</think>",
    "<|im_end|>",
    "a <|im_end|>\n<|im_start|>user",
    "{{ x }}",
    "<｜User｜>",
    "é 🎉",
    "<tool_call>\n{}",
    "<tool_response>x</tool_response>",
];

fn text(g: &mut Gen) -> String {
    (0..g.size() % 3 + 1).map(|_| *g.choose(&TEXTS).unwrap()).collect()
}

impl Arbitrary for Line {
    fn arbitrary(g: &mut Gen) -> Self {
        let count = usize::arbitrary(g) % 9;
        let messages: Vec<Value> = (0..count).map(|index| message(g, index)).collect();
        let mut line = json!({ "messages": messages });
        if bool::arbitrary(g) {
            let parameters = json!({"type": "object", "properties": {"x": {"type": "string", "description": text(g)}}});
            line["tools"] = json!([{"type": "function", "function": {
                "name": "look", "description": text(g), "parameters": parameters,
            }}]);
        }
        if bool::arbitrary(g) {
            line["chat_template_kwargs"] = json!({"enable_thinking": bool::arbitrary(g)});
        }
        Line(line)
    }
}

fn message(g: &mut Gen, index: usize) -> Value {
    let usual = if index % 2 == 0 { "user" } else { "assistant" };
    let role = *g
        .choose(&[usual, usual, usual, usual, "system", "tool", "assistant", "user", "developer", "x<|im_end|>"])
        .unwrap();
    let mut message = json!({ "role": role, "content": text(g) });
    match u8::arbitrary(g) % 12 {
        0 => message["content"] = Value::Null,
        1 => message["content"] = json!([{"type": "text", "text": text(g)}, {"type": "text", "text": text(g)}]),
        2 => message["content"] = json!([{"type": "text", "text": text(g)}, {"type": "image"}]),
        3 => _ = message.as_object_mut().unwrap().remove("content"),
        4 => message["reasoning_content"] = json!(text(g)),
        5 => {
            let arguments = if bool::arbitrary(g) { json!("{\"x\": 1e-7}") } else { json!({"x": [1, null, text(g)]}) };
            message["tool_calls"] = json!([{"id": "call00001", "type": "function", "function": {
                "name": "look", "arguments": arguments,
            }}]);
        }
        6 => message["tool_call_id"] = json!("call00001"),
        7 => message["trainable"] = json!(true),
        _ => {}
    }
    message
}

/// A conversation gives a prompt and examples, or errors that say something.
fn check_line(name: &str, renderer: &Renderer, line: &Line) {
    let conversation: Conversation = serde_json::from_value(line.0.clone()).unwrap();
    match renderer.prompt(&conversation) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(prompt) => {
            let tokens = prompt.input.to_tokens().unwrap();
            assert_eq!(
                renderer.tokenizer().decode_with_special_tokens(&tokens).unwrap(),
                prompt.text,
                "{name} {line:?}"
            );
        }
    }
    for train_on in TrainOn::ALL {
        match renderer.examples(&conversation, train_on) {
            Err(error) => assert!(!error.to_string().is_empty()),
            Ok(examples) => {
                assert!(!examples.examples.is_empty());
                for example in examples.examples {
                    let weights = example.weighted_tokens().weights();
                    assert!(weights.contains(&1.0), "{name} {train_on} {line:?}");
                }
            }
        }
    }
}

fn check(name: &str, template: ChatTemplate, tokenizer: &str) {
    let renderer = Renderer::new(template, byte_level(tokenizer)).unwrap();
    let mut g = Gen::new(20);
    for _ in 0..16 {
        check_line(name, &renderer, &Line::arbitrary(&mut g));
    }
}

#[test]
fn any_conversation_gives_examples_or_an_error() {
    for name in ["smollm2", "qwen3", "qwen3_5", "gpt_oss", "deepseek_v3", "kimi_k2_thinking", "lfm2_5"] {
        check(name, template(&fixture(&format!("templates/{name}"))), name);
    }
    for name in ["llama3_1", "llama3_plain", "gemma3"] {
        if let Some(fixture) = fixture_outside(&format!("templates/{name}")) {
            check(name, template(&fixture), name);
        }
    }
}

pub const BUILTIN: [(&str, &str); 12] = [
    ("chatml", "qwen3"),
    ("deepseek_r1", "deepseek_r1"),
    ("deepseek_v4", "deepseek_v4"),
    ("deepseek_v4_1", "deepseek_v4_1"),
    ("glm_5_2", "glm_5_2"),
    ("glm_5_3", "glm_5_3"),
    ("kimi_k2", "kimi_k2"),
    ("kimi_k2_5", "kimi_k2_5"),
    ("qwen3_8", "qwen3_8"),
    ("tml_v0", "tml_v0"),
    ("role_colon", "smollm2"),
    ("plain", "smollm2"),
];

#[test]
fn any_conversation_in_a_builtin_template() {
    for (name, tokenizer) in BUILTIN {
        check(name, ChatTemplate::builtin(name).unwrap(), tokenizer);
    }
}

/// Texts of users that are in no reply: upper case letters.
#[test]
fn weights_never_cover_what_a_user_wrote() {
    let mut g = Gen::new(20);
    for name in ["smollm2", "qwen3", "qwen3_5", "gpt_oss", "deepseek_v3", "kimi_k2_thinking", "lfm2_5"] {
        let renderer = Renderer::new(template(&fixture(&format!("templates/{name}"))), byte_level(name)).unwrap();
        for _ in 0..30 {
            let turns = usize::arbitrary(&mut g) % 5 + 1;
            let secret = format!("USER{}", text(&mut g).to_uppercase());
            let reply = json!({"role": "assistant", "content": text(&mut g), "reasoning_content": text(&mut g)});
            let messages: Vec<Value> =
                (0..turns).flat_map(|_| [json!({"role": "user", "content": secret}), reply.clone()]).collect();
            let conversation: Conversation = serde_json::from_value(json!({ "messages": messages })).unwrap();
            let Ok(examples) = renderer.examples(&conversation, TrainOn::AllAssistantMessages) else { continue };
            for example in examples.examples {
                let tokens = example.weighted_tokens();
                let trained = tokens.tokens().iter().zip(tokens.weights()).filter(|(_, weight)| **weight != 0.0);
                let trained: Vec<u32> = trained.map(|(token, _)| *token).collect();
                let text = renderer.tokenizer().decode(&trained).unwrap();
                assert!(!text.contains("USER"), "{name}: {text:?} of {conversation:?}");
            }
        }
    }
}

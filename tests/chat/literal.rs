//! What a message says is text, also if it looks like a special token.

use serde_json::{Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Content, Conversation, Message, Renderer};

use super::byte_level::byte_level;
use super::fixtures::{fixture, fixture_outside, smollm2_tokenizer};
use super::templates::{conversation, template};

#[test]
fn smollm2_has_the_literal_tokens() {
    let fixture = fixture("templates/smollm2");
    let tokenizer = smollm2_tokenizer();
    let renderer = Renderer::new(template(&fixture), tokenizer).unwrap();
    let cases = fixture["cases"].as_array().unwrap().iter();
    let cases: Vec<_> =
        cases.filter(|case| case["add_generation_prompt"] == true && case.get("tokens").is_some()).collect();
    assert!(cases.len() > 15);
    for case in cases {
        let prompt = renderer.prompt(&conversation(case)).unwrap();
        assert_eq!(prompt.text, case["text"].as_str().unwrap());
        let expected: Vec<u32> =
            serde_json::from_value(case.get("tokens_literal").unwrap_or(&case["tokens"]).clone()).unwrap();
        assert_eq!(prompt.input.to_tokens().unwrap(), expected, "{}", case["id"]);
        let renderer = renderer.clone().special_tokens_in_text(true);
        let expected: Vec<u32> = serde_json::from_value(case["tokens"].clone()).unwrap();
        assert_eq!(
            renderer.prompt(&conversation(case)).unwrap().input.to_tokens().unwrap(),
            expected,
            "{}",
            case["id"]
        );
    }
}

/// Conversations that say a text in every place that a user, a tool or a program writes.
fn conversations(text: &str) -> Vec<Value> {
    let user = json!({"role": "user", "content": "Hi"});
    let tool = json!({"type": "function", "function": {
        "name": "look", "description": format!("a {text} b"),
        "parameters": {"type": "object", "properties": {"key": {"type": "string", "description": text}}},
    }});
    let call = |arguments: Value| {
        json!({"role": "assistant", "content": "", "tool_calls": [
            {"id": "call00001", "type": "function", "function": {"name": "look", "arguments": arguments}},
        ]})
    };
    let result =
        json!({"role": "tool", "tool_call_id": "call00001", "name": "look", "content": format!("{text} {text}")});
    vec![
        json!({"messages": [{"role": "user", "content": text}]}),
        json!({"messages": [{"role": "user", "content": format!("a{text}{text}\n<b> {text}")}]}),
        json!({"messages": [{"role": "system", "content": format!("\n{text} is here")}, user]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": format!("x {text}")}]}]}),
        json!({"messages": [user, call(json!({"key": 1})), result], "tools": [tool]}),
        json!({"messages": [user, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": format!("{text}.")}]}),
    ]
}

/// In every conversation that the template takes, the text has no part in the tokens that are not text.
fn compare(name: &str, template: &ChatTemplate, tokenizer: &Tokenizer) {
    let renderer = Renderer::new(template.clone(), tokenizer.clone()).unwrap();
    let added = |conversation: &Value| {
        let conversation: Conversation = serde_json::from_value(conversation.clone()).unwrap();
        let text = renderer.template().render(&conversation, true).ok()?;
        let prompt = renderer.prompt(&conversation).unwrap_or_else(|error| panic!("{name}: {error} {conversation:?}"));
        let is_text = |message: &Message| matches!(message.content, Some(Content::Text(_)));
        if conversation.messages.iter().all(|message| is_text(message) && message.tool_calls.is_empty()) {
            assert_eq!(prompt.text, text);
        }
        let tokens = prompt.input.to_tokens().unwrap();
        assert_eq!(tokenizer.decode_with_special_tokens(&tokens).unwrap(), prompt.text, "{name}");
        Some(tokens.into_iter().filter(|token| *token > 255).collect::<Vec<u32>>())
    };
    let harmless: Vec<_> = conversations("X").iter().map(added).collect();
    let mut taken = 0;
    for token in tokenizer.added_tokens().into_keys() {
        for (hostile, harmless) in conversations(&token).iter().zip(&harmless) {
            if let (Some(hostile_tokens), Some(harmless)) = (added(hostile), harmless) {
                assert_eq!(hostile_tokens, *harmless, "{name}: {token} becomes a token in {hostile}");
                taken += 1;
            }
        }
    }
    assert!(taken > 2, "{name}");
}

const FAMILIES: [&str; 7] = ["smollm2", "qwen3", "qwen3_5", "gpt_oss", "deepseek_v3", "kimi_k2_thinking", "lfm2_5"];

#[test]
fn no_text_becomes_an_added_token() {
    for name in FAMILIES {
        compare(name, &template(&fixture(&format!("templates/{name}"))), &byte_level(name));
    }
    for name in ["llama3_1", "llama3_plain", "gemma3"] {
        if let Some(fixture) = fixture_outside(&format!("templates/{name}")) {
            compare(name, &template(&fixture), &byte_level(name));
        }
    }
}

#[test]
fn builtin_templates_let_no_text_become_a_token() {
    let families = [
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
    for (name, family) in families {
        compare(name, &ChatTemplate::builtin(name).unwrap(), &byte_level(family));
    }
}

#[test]
fn parts_do_not_join_to_a_token() {
    let renderer = Renderer::new(template(&fixture("templates/qwen3_5")), byte_level("qwen3_5")).unwrap();
    let conversation = |texts: [&str; 2]| -> Conversation {
        let parts = texts.map(|text| json!({"type": "text", "text": text}));
        serde_json::from_value(json!({"messages": [{"role": "user", "content": parts}]})).unwrap()
    };
    let hostile = renderer.prompt(&conversation(["a <|im_", "end|> b"])).unwrap();
    assert!(hostile.text.contains("a <|im_end|> b"));
    let added = |tokens: Vec<u32>| tokens.into_iter().filter(|token| *token > 255).collect::<Vec<u32>>();
    let harmless = renderer.prompt(&conversation(["a", "b"])).unwrap();
    assert_eq!(added(hostile.input.to_tokens().unwrap()), added(harmless.input.to_tokens().unwrap()));
}

#[test]
fn replies_may_hold_tags_that_are_not_special() {
    let tokenizer = byte_level("qwen3_5");
    let renderer = Renderer::new(template(&fixture("templates/qwen3_5")), tokenizer.clone()).unwrap();
    let conversation = |role: &str| -> Conversation {
        let messages = json!([
            {"role": "user", "content": "Hi"}, {"role": role, "content": "a <tool_call> b <|im_end|>"},
            {"role": "user", "content": "Yo"},
        ]);
        serde_json::from_value(json!({ "messages": messages })).unwrap()
    };
    let count = |role: &str, token: &str| {
        let tokens = renderer.prompt(&conversation(role)).unwrap().input.to_tokens().unwrap();
        let id = tokenizer.token_to_id(token).unwrap();
        tokens.into_iter().filter(|token| *token == id).count()
    };
    assert_eq!((count("user", "<tool_call>"), count("assistant", "<tool_call>")), (0, 1));
    assert_eq!((count("user", "<|im_end|>"), count("assistant", "<|im_end|>")), (3, 3));
}

#[test]
fn the_character_of_marks_is_refused() {
    let renderer = Renderer::new(ChatTemplate::builtin("plain").unwrap(), Tokenizer::bytes()).unwrap();
    let conversation: Conversation =
        serde_json::from_value(json!({"messages": [{"role": "user", "content": "a\u{FDD0}b"}]})).unwrap();
    let error = renderer.prompt(&conversation).unwrap_err().to_string();
    assert!(error.contains("messages[0]") && error.contains("U+FDD0"), "{error}");
}

#[test]
fn marks_are_refused_wherever_they_are() {
    let renderer = Renderer::new(template(&fixture("templates/qwen3")), byte_level("qwen3")).unwrap();
    let user = json!({"role": "user", "content": "Hi"});
    let arguments = r#"{"key": "a\ufdd0b"}"#;
    let call = json!([{"type": "function", "function": {"name": "look", "arguments": arguments}}]);
    let call = json!({"role": "assistant", "content": "", "tool_calls": call});
    let tool = json!({"type": "function", "function": {"name": "look", "description": "a\u{FDD0}b"}});
    let lines = [
        (json!({"messages": [user, call]}), "messages[1]"),
        (json!({"messages": [user], "tools": [tool]}), "a tool"),
        (json!({"messages": [user], "chat_template_kwargs": {"x": "\u{FDD0}"}}), "a variable"),
    ];
    for (line, place) in lines {
        let error = renderer.prompt(&serde_json::from_value(line).unwrap()).unwrap_err().to_string();
        assert!(error.contains(place) && error.contains("U+FDD0"), "{error}");
    }
}

//! The built-in templates against the official renderers: prompts, and what is trained.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tinkex::chat::{ChatTemplate, Conversation, Message};

use crate::fixtures::fixture;

/// A variant of an official renderer, with the template and the arguments that do the same.
pub const VARIANTS: [(&str, &str, &str, &str); 19] = [
    ("deepseek_r1", "default", "deepseek_r1", "{}"),
    ("deepseek_v4", "default", "deepseek_v4", "{}"),
    ("deepseek_v4", "chat", "deepseek_v4", r#"{"enable_thinking": false}"#),
    ("deepseek_v4_1", "default", "deepseek_v4_1", "{}"),
    ("deepseek_v4_1", "chat", "deepseek_v4_1", r#"{"enable_thinking": false}"#),
    ("glm_5_2", "default", "glm_5_2", "{}"),
    ("glm_5_3", "default", "glm_5_3", "{}"),
    ("glm_5_3", "low", "glm_5_3", r#"{"reasoning_effort": "low"}"#),
    ("glm_5_3", "preserve_thinking", "glm_5_3", r#"{"preserve_thinking": true}"#),
    ("kimi_k2", "default", "kimi_k2", "{}"),
    ("kimi_k2", "preserve_thinking", "kimi_k2", r#"{"preserve_thinking": true}"#),
    ("kimi_k2_5", "default", "kimi_k2_5", "{}"),
    ("kimi_k2_5", "disable_thinking", "kimi_k2_5", r#"{"enable_thinking": false}"#),
    ("kimi_k2_5", "preserve_thinking", "kimi_k2_5", r#"{"preserve_thinking": true}"#),
    ("qwen3", "instruct", "qwen3_instruct", "{}"),
    ("qwen3_8", "default", "qwen3_8", "{}"),
    ("qwen3_8", "low", "qwen3_8", r#"{"reasoning_effort": "low"}"#),
    ("qwen3_8", "disable_thinking", "qwen3_8", r#"{"enable_thinking": false}"#),
    ("tml_v0", "default", "tml_v0", "{}"),
];

const TWO_USERS: &str = "the official renderer makes one message of two";
const TURN: &str = "the model's own encoding has an empty line between the texts of a turn";
const PART: &str = "the official renderer makes two messages of one";
const TRIM: &str = "the official renderer trims each part, the models' templates trim the whole";
const CALLS: &str = "the models' templates have an empty line between text and calls, in Qwen 3.5's fixture too";
const NFC: &str = "the official text is decoded from tokens, which Qwen's tokenizer normalizes to NFC";

/// Where templates are to differ: in all variants of a family, with a conversation, the text of the official renderer, ours, and why.
const DIFFERENCES: [(&str, &str, &str, &str, &str); 13] = [
    ("deepseek_r1", "parts", "First part. <｜User｜>Second part.", "First part. Second part.", PART),
    ("deepseek_v4", "two_users", "First.Second.", "First.\n\nSecond.", TURN),
    ("deepseek_v4_1", "two_users", "First.Second.", "First.\n\nSecond.", TURN),
    ("glm_5_2", "two_users", "First.Second.", "First.<|user|>Second.", TWO_USERS),
    ("glm_5_3", "two_users", "First.Second.", "First.<|user|>Second.", TWO_USERS),
    ("kimi_k2", "two_users", "First.Second.", "First.<|im_end|><|im_user|>user<|im_middle|>Second.", TWO_USERS),
    ("kimi_k2_5", "two_users", "First.Second.", "First.<|im_end|><|im_user|>user<|im_middle|>Second.", TWO_USERS),
    ("qwen3", "two_users", "First.Second.", "First.<|im_end|>\n<|im_start|>user\nSecond.", TWO_USERS),
    ("qwen3", "unicode", "\u{fc} \u{e9} \u{e9} ", "\u{fc} \u{e9} e\u{301} ", NFC),
    ("qwen3_8", "two_users", "First.Second.", "First.<|im_end|>\n<|im_start|>user\nSecond.", TWO_USERS),
    ("qwen3_8", "parts", "First part.Second part.", "First part. Second part.", TRIM),
    ("qwen3_8", "tool_parallel_thinking", "Let me look.\n<tool_call>", "Let me look.\n\n<tool_call>", CALLS),
    ("qwen3_8", "unicode", "\u{fc} \u{e9} \u{e9} ", "\u{fc} \u{e9} e\u{301} ", NFC),
];

/// The official renderer of GLM trains earlier replies without their reasoning, unless it preserves it.
const TRAINED_WITHOUT_REASONING: [(&str, &str, &str); 3] = [
    ("glm_5_2", "default", "thinking_multi"),
    ("glm_5_3", "default", "thinking_multi"),
    ("glm_5_3", "low", "thinking_multi"),
];

/// The official renderer of Kimi K2 trains the last reply alone.
const LAST_REPLY_ALONE: [(&str, &str); 5] = [
    ("kimi_k2", "multi_turn"),
    ("kimi_k2", "thinking_multi"),
    ("kimi_k2", "tool_call"),
    ("kimi_k2", "tool_parallel_thinking"),
    ("kimi_k2", "assistant_first"),
];

/// The official renderer's text with the differences of ours.
fn with_difference(family: &str, conversation: &str, text: &str) -> String {
    let found = DIFFERENCES.iter().find(|(known, id, ..)| (*known, *id) == (family, conversation));
    found.map_or_else(|| text.to_owned(), |(_, _, official, ours, _)| text.replace(official, ours))
}

/// The conversations of the fixtures by their names.
pub fn conversations() -> BTreeMap<String, Conversation> {
    let fixture = fixture("conversations");
    let lines = fixture["conversations"].as_array().unwrap();
    lines.iter().map(|line| (line["id"].as_str().unwrap().to_owned(), read(line.clone()))).collect()
}

fn read(conversation: Value) -> Conversation {
    serde_json::from_value(conversation).unwrap()
}

/// A conversation up to a message.
pub fn until(conversation: &Conversation, end: usize) -> Conversation {
    let mut before = conversation.clone();
    before.messages.truncate(end);
    before
}

/// Each reply that is trained: the text before it, and the text of it. `None` if the template refuses one, or it does not continue its
/// prompt. If the next turn begins with another stop than the one that ends the conversation here, that is the reply's.
fn replies(template: &ChatTemplate, conversation: &Conversation, stops: &[&str]) -> Option<Vec<(String, String)>> {
    let messages = &conversation.messages;
    let indices: Vec<usize> =
        (0..messages.len()).filter(|&index| messages[index].role.as_str() == "assistant").collect();
    let prompt = |index: usize| template.render(&until(conversation, index), true).ok();
    let mut replies = Vec::new();
    for (number, &index) in indices.iter().enumerate() {
        let before = prompt(index)?;
        let text = template.render(&until(conversation, index + 1), false).ok()?;
        let mut reply = text.strip_prefix(&before).or_else(|| text.strip_prefix(before.trim_end()))?.to_owned();
        if let Some(end) = stops.iter().filter_map(|stop| reply.rfind(stop).map(|start| start + stop.len())).max() {
            if reply[end..].trim().is_empty() {
                reply.truncate(end);
            }
        }
        if let Some(&next) = indices.get(number + 1) {
            let next = prompt(next)?;
            let bare = stops.iter().find_map(|stop| reply.strip_suffix(stop)).unwrap_or(&reply);
            let rest = next.strip_prefix(&before).and_then(|next| next.strip_prefix(bare));
            if let Some(stop) = stops.iter().find(|stop| rest.is_some_and(|rest| rest.starts_with(**stop))) {
                reply = format!("{bare}{stop}");
            }
        }
        replies.push((before, reply));
    }
    Some(replies)
}

/// The same of a fixture's examples.
fn trained(examples: &Value) -> Option<Vec<(String, String)>> {
    let mut replies = Vec::new();
    for example in examples.as_array()? {
        let mut before = String::new();
        for span in example["spans"].as_array().unwrap() {
            let text = span[0].as_str().unwrap();
            if span[1] == json!(1) {
                replies.push((before.clone(), text.to_owned()));
            }
            before.push_str(text);
        }
    }
    Some(replies)
}

fn each_case(mut check: impl FnMut(&str, &str, &ChatTemplate, &Conversation, &Value, &[&str])) {
    let conversations = conversations();
    for (family, variant, name, args) in VARIANTS {
        let template = ChatTemplate::builtin(name).unwrap();
        let fixture = fixture(&format!("renderers/{family}"));
        let variant_of = &fixture["variants"][variant];
        let stops: Vec<&str> =
            variant_of["stop_text"].as_array().unwrap().iter().map(|stop| stop.as_str().unwrap()).collect();
        for case in variant_of["cases"].as_array().unwrap() {
            let mut conversation = conversations[case["conversation"].as_str().unwrap()].clone();
            conversation.template_args = serde_json::from_str(args).unwrap();
            check(family, variant, &template, &conversation, case, &stops);
        }
    }
}

#[test]
fn prompts_are_those_of_official_renderers() {
    let (mut prompts, mut different) = (0, BTreeSet::new());
    each_case(|family, variant, template, conversation, case, _| {
        let id = case["conversation"].as_str().unwrap();
        for prompt in case["prompts"].as_array().unwrap() {
            let before = usize::try_from(prompt["before"].as_u64().unwrap()).unwrap();
            let ours = template.render(&until(conversation, before), true);
            let expected = prompt["text"].as_str().map(|text| with_difference(family, id, text));
            assert_eq!(ours.as_ref().ok(), expected.as_ref(), "{family} {variant} {id} before {before}: {ours:?}");
            prompts += 1;
            if expected.as_deref() != prompt["text"].as_str() {
                different.insert((family.to_owned(), id.to_owned()));
            }
        }
    });
    assert_eq!(prompts, VARIANTS.len() * 22);
    for (family, id, _, _, reason) in DIFFERENCES {
        assert!(different.contains(&(family.to_owned(), id.to_owned())), "{family} {id} is equal: {reason}");
    }
}

#[test]
fn replies_are_trained_as_by_official_renderers() {
    each_case(|family, variant, template, conversation, case, stops| {
        let id = case["conversation"].as_str().unwrap();
        let mut ours = replies(template, conversation, stops);
        if case["sft"].is_null() {
            return;
        }
        let mut expected = trained(&case["sft"]);
        for text in expected.iter_mut().flatten().flat_map(|(before, reply)| [before, reply]) {
            *text = with_difference(family, id, text);
        }
        if LAST_REPLY_ALONE.contains(&(family, id)) {
            let all = ours.as_mut().unwrap();
            assert!(all.len() > 1, "{family} {variant} {id}");
            all.drain(..all.len() - 1);
        }
        if TRAINED_WITHOUT_REASONING.contains(&(family, variant, id)) {
            let (_, reply) = &mut expected.as_mut().unwrap()[0];
            assert_eq!(reply, "</think>51<|user|>");
            "17 * 3 = 51.</think>51<|endoftext|>".clone_into(reply);
        }
        assert_eq!(ours, expected, "{family} {variant} {id}");
    });
}

#[test]
fn role_colon_is_the_cookbooks() {
    let template = ChatTemplate::builtin("role_colon").unwrap();
    let fixture = fixture("modes/role_colon_smollm2");
    let conversations = conversations();
    for case in fixture["cases"].as_array().unwrap() {
        let id = case["conversation"].as_str().unwrap();
        let ours = replies(&template, &conversations[id], &["\n\nUser:"]);
        match &case["example"]["last_assistant_message"] {
            example if example["spans"].is_array() => {
                assert_eq!(ours.unwrap().last(), trained(&json!([example])).unwrap().last(), "{id}");
            }
            // The cookbook takes one text alone. Parts are joined here, and reasoning has no place.
            _ if ["thinking", "thinking_multi", "parts"].contains(&id) => assert!(ours.is_some(), "{id}"),
            _ => assert!(template.render(&conversations[id], true).is_err(), "{id}"),
        }
    }
}

#[test]
fn plain_is_the_programs_old_format() {
    let plain = ChatTemplate::builtin("plain").unwrap();
    let messages = [
        Message::system("Be brief."),
        Message::user("Hi"),
        Message::assistant("Hello"),
        Message::tool("1", "\n ok "),
        Message::assistant(""),
    ];
    let conversation = Conversation::from(messages);
    let text = plain.render(&conversation, true).unwrap();
    assert_eq!(
        text, "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\n\nTool: \n ok \n\nAssistant: \n\n\nAssistant:",
        "without an end-of-sequence token, a reply ends with a line break"
    );
    let text = plain.clone().special_token("eos_token", "</s>").render(&conversation, false).unwrap();
    assert_eq!(text, "System: Be brief.\n\nUser: Hi\n\nAssistant: Hello</s>\n\nTool: \n ok \n\nAssistant: </s>");
    assert_eq!(plain.render(&Conversation::default(), true).unwrap(), "Assistant:");
}

#[test]
fn chatml_has_tools_and_reasoning() {
    let chatml = ChatTemplate::builtin("chatml").unwrap();
    let mut conversation = read(json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "2 "}, {"type": "text", "text": "+ 2?"}]},
            {"role": "assistant", "content": "Let me see.", "reasoning_content": "A sum.", "tool_calls": [
                {"type": "function", "function": {"name": "add", "arguments": {"b": 2, "a": 2.0}}},
                {"type": "function", "function": {"name": "now", "arguments": {}}},
            ]},
            {"role": "tool", "content": "4"},
        ],
    }));
    let rest = concat!(
        "<|im_start|>user\n2 + 2?<|im_end|>\n",
        "<|im_start|>assistant\n<think>\nA sum.\n</think>\n\nLet me see.\n",
        "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"b\": 2, \"a\": 2.0}}\n</tool_call>\n",
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call><|im_end|>\n",
        "<|im_start|>tool\n4<|im_end|>\n<|im_start|>assistant\n",
    );
    let text = chatml.render(&conversation, true).unwrap();
    assert_eq!(text, format!("<|im_start|>system\nBe brief.<|im_end|>\n{rest}"));
    conversation.tools = vec![tinkex::chat::Tool::function("add", "Adds", json!({"type": "object"}))];
    let text = chatml.render(&conversation, true).unwrap();
    let declared = r#"{"name": "add", "description": "Adds", "parameters": {"type": "object"}}"#;
    assert!(text.starts_with(&format!("<|im_start|>system\nBe brief.\n\nFunctions:\n<tools>\n{declared}\n</tools>\n")));
    assert!(text.ends_with(&format!("</tool_call><|im_end|>\n{rest}")), "{text}");
}

#[test]
fn what_a_format_lacks_is_refused() {
    let user = json!({"role": "user", "content": "Hi"});
    let call = json!({"role": "assistant", "content": "", "tool_calls": [
        {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}},
    ]});
    let audio = json!({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]});
    let tools = json!([{"type": "function", "function": {"name": "add", "parameters": {}}}]);
    for name in ChatTemplate::builtin_names() {
        let template = ChatTemplate::builtin(name).unwrap();
        let is_refused = |conversation: Value| template.render(&read(conversation), true).is_err();
        assert!(!is_refused(json!({"messages": [user]})), "{name}");
        assert!(is_refused(json!({"messages": [audio]})), "{name}");
        assert_eq!(is_refused(json!({"messages": [{"role": "judge", "content": "Hi"}]})), name != "chatml", "{name}");
        let has_tools = !["deepseek_r1", "plain", "role_colon"].contains(&name);
        assert_eq!(!is_refused(json!({"messages": [user, call]})), has_tools, "{name}");
        assert_eq!(!is_refused(json!({"messages": [user], "tools": tools})), has_tools, "{name}");
    }
    for (name, efforts) in [
        ("deepseek_v4", json!(["max"])),
        ("deepseek_v4_1", json!(["max", 0, 101])),
        ("glm_5_3", json!(["medium", 1])),
        ("qwen3_8", json!(["max", 1])),
    ] {
        for effort in efforts.as_array().unwrap() {
            let conversation = read(json!({"messages": [user]})).template_arg("reasoning_effort", effort.clone());
            let error = ChatTemplate::builtin(name).unwrap().render(&conversation, true).unwrap_err().to_string();
            assert!(error.contains("reasoning_effort"), "{name}: {error}");
        }
    }
}

/// All sequences of up to four messages: those with a reply at their end.
#[test]
fn replies_continue_their_prompts() {
    let call = json!([{"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]);
    let kinds = [
        json!({"role": "system", "content": "Be brief."}),
        json!({"role": "user", "content": "Hi"}),
        json!({"role": "tool", "tool_call_id": "1", "name": "add", "content": "2"}),
        json!({"role": "assistant", "content": "Hello", "reasoning_content": "A greeting."}),
        json!({"role": "assistant", "content": "", "tool_calls": call}),
    ];
    let templates = ChatTemplate::builtin_names().map(|name| (name, ChatTemplate::builtin(name).unwrap()));
    let templates: Vec<(&str, ChatTemplate)> = templates.collect();
    let mut ends: Vec<Vec<&Value>> = vec![vec![&kinds[3]], vec![&kinds[4]]];
    for _ in 0..4 {
        for end in &ends {
            let conversation = read(json!({"messages": end}));
            for (name, template) in &templates {
                let Ok(text) = template.render(&conversation, false) else { continue };
                let prompt = template.render(&until(&conversation, end.len() - 1), true).unwrap();
                assert!(text.starts_with(prompt.trim_end()), "{name}: {prompt:?} {text:?}");
            }
        }
        ends = ends.iter().flat_map(|end| kinds.iter().map(|kind| [&[kind], end.as_slice()].concat())).collect();
    }
}

#[test]
fn long_conversations_are_rendered() {
    let mut messages = Vec::new();
    for turn in 0..500 {
        let id = format!("call_{turn}");
        messages.push(json!({"role": "user", "content": "And now?"}));
        messages.push(json!({"role": "assistant", "content": "", "reasoning_content": "A sum.", "tool_calls": [
            {"id": id, "type": "function", "function": {"name": "add", "arguments": {"a": turn}}},
        ]}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": null}));
    }
    let with_tools = read(json!({"messages": messages}));
    messages.retain(|message| message["role"] == "user");
    let users = read(json!({"messages": messages}));
    for name in ChatTemplate::builtin_names() {
        let template = ChatTemplate::builtin(name).unwrap();
        let has_tools = !["deepseek_r1", "plain", "role_colon"].contains(&name);
        let text = template.render(if has_tools { &with_tools } else { &users }, true).unwrap();
        assert_eq!(text.matches("And now?").count(), 500, "{name}");
        assert!(!text.contains("None") && !text.contains("none"), "{name}: {text}");
    }
}

#[test]
fn images_have_places_in_prompts() {
    let content = json!([{"type": "text", "text": "This: "}, {"type": "image"}, {"type": "text", "text": " What?"}]);
    let conversation = read(json!({"messages": [{"role": "user", "content": content}]}));
    for (name, place) in [
        ("kimi_k2_5", "This: <|media_begin|>image<|media_content|><|media_pad|><|media_end|> What?"),
        ("qwen3_8", "This: <|vision_start|><|image_pad|><|vision_end|> What?"),
    ] {
        let text = ChatTemplate::builtin(name).unwrap().render(&conversation, true).unwrap();
        assert!(text.contains(place), "{name}: {text}");
    }
}

#[test]
fn models_without_a_template_have_a_builtin() {
    for (model, name) in [
        ("deepseek-ai/DeepSeek-V4-Pro", Some("deepseek_v4")),
        ("deepseek-ai/DeepSeek-V4-Pro-Base", None),
        ("deepseek-ai/DeepSeek-V4.1-Flash@main", Some("deepseek_v4_1")),
        ("deepseek-ai/DeepSeek-V4.2", None),
        ("thinkingmachines/Inkling-Small", Some("tml_v0")),
        ("Qwen/Qwen3.8-27B", Some("qwen3_8")),
        ("Qwen/Qwen3-8B", None),
        ("", None),
    ] {
        assert_eq!(ChatTemplate::builtin_name_for(model), name, "{model}");
        assert!(name.is_none_or(|name| ChatTemplate::builtin(name).is_ok()), "{model}");
    }
    let error = ChatTemplate::builtin("kimi").unwrap_err().to_string();
    assert!(error.contains("kimi_k2_5"), "{error}");
}

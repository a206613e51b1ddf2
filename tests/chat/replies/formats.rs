//! Replies of formats that the official renderers' fixtures do not have, and what prompts say about replies.

use serde_json::{Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, Reply, ReplyDelta, ReplyEnd, Tool, ToolCall};
use tinkex::types::Stop;

use super::{FAMILIES, template, tokenizer};
use crate::byte_level::byte_level;
use crate::fixtures::{fixture, fixture_outside, smollm2_tokenizer};

pub fn ask() -> Conversation {
    let number = json!({"type": "object", "properties": {"a": {"type": "number"}, "text": {"type": "string"}}});
    Conversation::from([Message::user("Hi")]).tools([Tool::function("add", "Adds", number)])
}

/// The template of a fixture that is not in the repository.
fn template_outside(name: &str) -> Option<ChatTemplate> {
    let config = fixture_outside(&format!("templates/{name}"))?["tokenizer_config"].clone();
    let template = ChatTemplate::new(config["chat_template"].as_str().unwrap()).unwrap();
    Some(template.special_token("bos_token", config["bos_token"].as_str().unwrap()))
}

/// Reads a text as the reply to a prompt with this prefill.
pub fn read(renderer: &Renderer, conversation: &Conversation, prefill: &str, text: &str) -> Reply {
    let prompt = renderer.prompt_with_prefill(conversation, prefill).unwrap();
    renderer.parse_reply(&prompt, &tokens(renderer, text))
}

fn tokens(renderer: &Renderer, text: &str) -> Vec<u32> {
    // The tokenizer of bytes has one token that it does not find in a text.
    let (text, end) = text.strip_suffix("<|256|>").map_or((text, None), |text| (text, Some(256)));
    let mut tokens = renderer.tokenizer().encode_continuation(text).unwrap();
    tokens.extend(end);
    tokens
}

pub fn parts(reply: &Reply) -> (String, Option<&str>, Vec<(&str, Value)>, &ReplyEnd) {
    let calls = reply.message.tool_calls.iter().map(|call| (call.name.as_str(), call.arguments.clone())).collect();
    (reply.message.text(), reply.message.reasoning_content.as_deref(), calls, &reply.end)
}

#[test]
fn stops_are_those_of_the_official_renderers() {
    for family in FAMILIES {
        let tokenizer = byte_level(family);
        let stop = Renderer::new(template(family), tokenizer.clone()).unwrap().stop();
        for values in fixture(&format!("renderers/{family}"))["variants"].as_object().unwrap().values() {
            let texts = values["stop_text"].as_array().unwrap().iter().map(|text| text.as_str().unwrap());
            assert_eq!(
                stop,
                Stop::Tokens(texts.map(|text| tokenizer.token_to_id(text).unwrap()).collect()),
                "{family}"
            );
        }
    }
}

#[test]
fn stops_without_tokens_are_texts() {
    let stop = |template, tokenizer| Renderer::new(ChatTemplate::builtin(template).unwrap(), tokenizer).unwrap().stop();
    assert_eq!(stop("role_colon", Tokenizer::bytes()), Stop::from("\n\nUser:"));
    assert_eq!(stop("chatml", Tokenizer::bytes()), Stop::from("<|im_end|>"));
    assert_eq!(stop("plain", Tokenizer::bytes()), Stop::from([256_u32]));
    assert_eq!(stop("chatml", byte_level("qwen3")), Stop::from([258_u32]));
}

#[test]
fn llama_calls_are_objects_of_known_tools() {
    for (name, calls_tools) in [("llama3_1", true), ("llama3_plain", false)] {
        let Some(template) = template_outside(name) else { continue };
        let renderer = Renderer::new(template, byte_level(name)).unwrap();
        let call = r#"{"name": "add", "parameters": {"a": 1.5}}"#;
        let reply = read(&renderer, &ask(), "", &format!("{call}<|eot_id|>"));
        if !calls_tools {
            assert_eq!(parts(&reply), (call.to_owned(), None, vec![], &ReplyEnd::Complete));
            continue;
        }
        assert_eq!(parts(&reply), (String::new(), None, vec![("add", json!({"a": 1.5}))], &ReplyEnd::Complete));
        let tagged = read(&renderer, &ask(), "", &format!("<|python_tag|>{call}<|eom_id|>"));
        assert_eq!(parts(&tagged), parts(&reply));
        for text in [r#"{"name": "Bob", "parameters": {}}"#, r#"{"a": 1}"#, "{ no", "Hello {"] {
            let reply = read(&renderer, &ask(), "", &format!("{text}<|eot_id|>"));
            assert_eq!(parts(&reply), (text.to_owned(), None, vec![], &ReplyEnd::Complete));
        }
        let reply = read(&renderer, &ask(), "", call);
        assert_eq!(parts(&reply), (call.to_owned(), None, vec![], &ReplyEnd::CutOff));
    }
}

#[test]
fn gemma_replies_are_texts() {
    let Some(template) = template_outside("gemma3") else { return };
    let renderer = Renderer::new(template, byte_level("gemma3")).unwrap();
    let conversation = Conversation::from([Message::user("Hi")]);
    let reply = read(&renderer, &conversation, "", "Hello!<end_of_turn>\n");
    assert_eq!(parts(&reply), ("Hello!".to_owned(), None, vec![], &ReplyEnd::Complete));
}

#[test]
fn lfm_calls_are_python() {
    let renderer = Renderer::new(template("lfm2_5"), byte_level("lfm2_5")).unwrap();
    let text = "<think>Two.</think>Let me look.<|tool_call_start|>[add(a=1.5), add(a=-2, text='x')]<|tool_call_end|><|im_end|>";
    let calls = vec![("add", json!({"a": 1.5})), ("add", json!({"a": -2, "text": "x"}))];
    let reply = read(&renderer, &ask(), "", text);
    assert_eq!(parts(&reply), ("Let me look.".to_owned(), Some("Two."), calls, &ReplyEnd::Complete));
    let reply = read(&renderer, &ask(), "", "<|tool_call_start|>[add(a=)]<|tool_call_end|><|im_end|>");
    assert!(matches!(reply.end, ReplyEnd::Malformed(_)) && reply.message.tool_calls.is_empty(), "{reply:?}");
}

#[test]
fn smollm_replies_end_at_the_token_alone() {
    let tokenizer = smollm2_tokenizer();
    let renderer = Renderer::new(template("smollm2"), tokenizer.clone()).unwrap();
    let prompt = renderer.prompt(&Conversation::from([Message::user("Hi")])).unwrap();
    let mut tokens = tokenizer.encode_text(" Say <|im_end|> ✅\n").unwrap();
    let cut = renderer.parse_reply(&prompt, &tokens);
    assert_eq!(parts(&cut), (" Say <|im_end|> ✅\n".to_owned(), None, vec![], &ReplyEnd::CutOff));
    tokens.extend(tokenizer.encode_continuation("<|im_end|>\n<|im_start|>user").unwrap());
    let reply = renderer.parse_reply(&prompt, &tokens);
    assert_eq!((&reply.message, &reply.end), (&cut.message, &ReplyEnd::Complete));
    assert_eq!(reply.raw, " Say <|im_end|> ✅\n<|im_end|>\n<|im_start|>user");
}

#[test]
fn deepseek_calls_are_read_in_both_forms() {
    let renderer = Renderer::new(template("deepseek_v3"), byte_level("deepseek_v3")).unwrap();
    let call = |arguments: &str| {
        format!("<｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{arguments}\n```<｜tool▁call▁end｜>")
    };
    let newer = "<｜tool▁call▁begin｜>add<｜tool▁sep｜>{\"a\": 2}<｜tool▁call▁end｜>";
    let end = "<｜end▁of▁sentence｜>";
    let begin = "<｜tool▁calls▁begin｜>";
    let text = format!("{begin}{}\n{}<｜tool▁calls▁end｜>{end}", call(r#"{"a": 1}"#), newer);
    let both = vec![("add", json!({"a": 1})), ("add", json!({"a": 2}))];
    assert_eq!(parts(&read(&renderer, &ask(), "", &text)), (String::new(), None, both, &ReplyEnd::Complete));
    // The template closes the block after two calls alone.
    let text = format!("{begin}{}{end}", call(r#"{"a": 1}"#));
    let one = vec![("add", json!({"a": 1}))];
    assert_eq!(parts(&read(&renderer, &ask(), "", &text)), (String::new(), None, one, &ReplyEnd::Complete));
    let reply = read(&renderer, &ask(), "", &format!("{begin}{}{end}", call("{\"a\": 1")));
    assert!(matches!(reply.end, ReplyEnd::Malformed(_)) && reply.message.tool_calls.is_empty(), "{reply:?}");
}

#[test]
fn kimi_names_a_function_in_its_id() {
    let renderer = Renderer::new(template("kimi_k2"), byte_level("kimi_k2")).unwrap();
    let text = "<think></think><|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{\"a\": 1}\
        <|tool_call_end|><|tool_calls_section_end|><|im_end|>";
    let reply = read(&renderer, &ask(), "", text);
    assert_eq!(reply.message.tool_calls, [ToolCall::new("add", json!({"a": 1})).id("functions.add:0")]);
    let reply = read(&renderer, &ask(), "", &text.replace("functions.add:0", "add:12"));
    assert_eq!(reply.message.tool_calls, [ToolCall::new("add", json!({"a": 1})).id("add:12")]);
}

#[test]
fn marks_without_tokens_are_found_in_the_text() {
    let renderer = Renderer::new(ChatTemplate::builtin("chatml").unwrap(), Tokenizer::bytes()).unwrap();
    let call = "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call>";
    let text = format!("<think>\nHm.\n</think>\n\nOne.\n{call}\n{call}<|im_end|>\n");
    let calls = vec![("add", json!({"a": 1})); 2];
    assert_eq!(
        parts(&read(&renderer, &ask(), "", &text)),
        ("One.".to_owned(), Some("Hm."), calls, &ReplyEnd::Complete)
    );
    let reply = read(&renderer, &ask(), "", "Use <think> and </think>.<|256|>");
    assert_eq!(parts(&reply), ("Use <think> and </think>.".to_owned(), None, vec![], &ReplyEnd::Complete));
}

#[test]
fn role_colon_replies_end_with_text() {
    for tokenizer in [Tokenizer::bytes(), byte_level("smollm2")] {
        let renderer = Renderer::new(ChatTemplate::builtin("role_colon").unwrap(), tokenizer).unwrap();
        let conversation = Conversation::from([Message::user("Hi")]);
        let reply = read(&renderer, &conversation, "", " One.\n\nTwo.\n\nUser: And");
        assert_eq!(parts(&reply), ("One.\n\nTwo.".to_owned(), None, vec![], &ReplyEnd::Complete));
        let reply = read(&renderer, &conversation, "", "  One.\n\nUse");
        assert_eq!(parts(&reply), (" One.\n\nUse".to_owned(), None, vec![], &ReplyEnd::CutOff));
    }
}

#[test]
fn a_message_begins_with_its_prefill() {
    let renderer = Renderer::new(template("qwen3"), byte_level("qwen3")).unwrap();
    let reply = read(&renderer, &ask(), "<think>\nOne", " and two.\n</think>\n\nThree.<|im_end|>");
    assert_eq!(parts(&reply), ("Three.".to_owned(), Some("One and two."), vec![], &ReplyEnd::Complete));
    assert_eq!(reply.raw, " and two.\n</think>\n\nThree.<|im_end|>");
    let reply =
        read(&renderer, &ask(), "<tool_call>\n{\"name\": \"add\", ", "\"arguments\": {}}\n</tool_call><|im_end|>");
    assert_eq!(parts(&reply), (String::new(), None, vec![("add", json!({}))], &ReplyEnd::Complete));

    let reply = read(&renderer, &ask(), "Odd: \u{FFFD}", "!<|im_end|>");
    assert_eq!(parts(&reply), ("Odd: \u{FFFD}!".to_owned(), None, vec![], &ReplyEnd::Complete));

    let prompt = renderer.prompt_with_prefill(&ask(), "Sure").unwrap();
    let mut parser = renderer.reply_parser(&prompt);
    assert_eq!(parser.push(&tokens(&renderer, ", yes")), [ReplyDelta::Content(", yes".to_owned())]);
    assert_eq!(parser.finish().message.text(), "Sure, yes");
}

#[test]
fn a_prefill_keeps_the_space_after_it() {
    // The decoder takes the space from the first token of a text.
    let space = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
    let token = |id, content| {
        json!({"id": id, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false})
    };
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [token(3, "<|im_end|>")], "normalizer": null,
        "pre_tokenizer": space, "post_processor": null, "decoder": space,
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "▁Sure,": 1, "▁yes": 2, "<|im_end|>": 3}},
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let tokenizer = Tokenizer::from_path(folder.path()).unwrap();
    let renderer = Renderer::new(ChatTemplate::builtin("chatml").unwrap(), tokenizer).unwrap();
    for (prefill, text) in [("", "yes"), ("Sure,", "Sure, yes")] {
        let prompt = renderer.prompt_with_prefill(&Conversation::from([Message::user("Hi")]), prefill).unwrap();
        assert_eq!(renderer.parse_reply(&prompt, &[2, 3]).message.text(), text);
    }
}

#[test]
fn values_have_the_types_of_the_tool() {
    let renderer = Renderer::new(template("qwen3_5"), byte_level("qwen3_5")).unwrap();
    let call = "<tool_call>\n<function=add>\n<parameter=a>\n1.5\n</parameter>\n<parameter=text>\n1.5\n</parameter>\n\
        <parameter=other>\n[1]\n</parameter>\n</function>\n</tool_call>";
    let reply = read(&renderer, &ask(), "", &format!("\n</think>\n\n{call}<|im_end|>"));
    assert_eq!(parts(&reply).2, [("add", json!({"a": 1.5, "text": "1.5", "other": [1]}))]);
    let reply = read(&renderer, &Conversation::from([Message::user("Hi")]), "", &format!("</think>{call}<|im_end|>"));
    assert_eq!(parts(&reply).2, [("add", json!({"a": 1.5, "text": 1.5, "other": [1]}))]);
}

#[test]
fn tokens_of_the_next_turn_are_malformed() {
    let renderer = Renderer::new(template("qwen3"), byte_level("qwen3")).unwrap();
    for text in [
        "One<|im_start|>user\nTwo<|im_end|>",
        "One</think>Two<|im_end|>",
        "<tool_call>{}<|im_start|></tool_call><|im_end|>",
    ] {
        let reply = read(&renderer, &ask(), "", text);
        assert!(matches!(reply.end, ReplyEnd::Malformed(_)), "{text}: {reply:?}");
        assert_eq!(reply.raw, text);
    }
    let renderer = Renderer::new(template("gpt_oss"), tokenizer("gpt_oss")).unwrap();
    for text in [
        "Hello<|return|>",
        "<|channel|>loud<|message|>Hello<|return|>",
        "<|channel|>final<|message|>Hello<|start|>assistant<|channel|>final<|message|>!<|return|>",
        "<|channel|>final<|message|>Hello<|message|>!<|return|>",
        " to=functions.add<|channel|>commentary json<|message|>[]<|call|>",
    ] {
        let reply = read(&renderer, &ask(), "", text);
        assert!(
            matches!(reply.end, ReplyEnd::Malformed(_)) && reply.message.tool_calls.is_empty(),
            "{text}: {reply:?}"
        );
    }
}

/// A reply that calls the tool `add`, as each family writes it.
pub const CALLS: [(&str, &str); 12] = [
    ("qwen3", "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n</tool_call><|im_end|>"),
    (
        "qwen3_5",
        "</think><tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call><|im_end|>",
    ),
    (
        "qwen3_8",
        "</think><tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call><|im_end|>",
    ),
    ("glm_5_2", "</think><tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call><|observation|>"),
    ("glm_5_3", "</think><tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call><|observation|>"),
    ("gpt_oss", "<|channel|>commentary to=functions.add <|constrain|>json<|message|>{\"a\": 1}<|call|>"),
    (
        "kimi_k2",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>{\"a\": 1}<|tool_call_end|>\
            <|tool_calls_section_end|><|im_end|>",
    ),
    (
        "deepseek_v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{\"a\": 1}\n```<｜tool▁call▁end｜>\
            <｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
    ),
    (
        "deepseek_v4",
        "</think><｜DSML｜tool_calls><｜DSML｜invoke name=\"add\"><｜DSML｜parameter name=\"a\" string=\"false\">1</｜DSML｜parameter>\
            </｜DSML｜invoke></｜DSML｜tool_calls><｜end▁of▁sentence｜>",
    ),
    (
        "deepseek_v4_1",
        "</think><｜DSML｜ calls><｜DSML｜ invoke name=\"add\"><｜DSML｜ parameter name=\"a\" string=\"false\">1</｜DSML｜ parameter>\
            </｜DSML｜ invoke></｜DSML｜ calls><｜end▁of▁sentence｜>",
    ),
    ("lfm2_5", "<|tool_call_start|>[add(a=1)]<|tool_call_end|><|im_end|>"),
    (
        "tml_v0",
        "<|message_model|>add<|content_invoke_tool_json|>{\"name\": \"add\", \"args\": {\"a\": 1}}<|end_message|>\
            <|content_model_end_sampling|>",
    ),
];

#[test]
fn a_call_can_be_answered_in_each_format() {
    for (family, text) in CALLS {
        let renderer = Renderer::new(template(family), byte_level(family)).unwrap();
        let conversation = ask();
        let reply = read(&renderer, &conversation, "", text);
        assert_eq!(
            parts(&reply),
            (String::new(), None, vec![("add", json!({"a": 1}))], &ReplyEnd::Complete),
            "{family}"
        );
        let mut next = conversation.clone();
        let mut result = Message::tool("0", "seven");
        // Most formats have no IDs for calls: the name says which tool it was.
        result.name = Some("add".to_owned());
        next.messages.extend([reply.message, result]);
        let prompt = renderer.prompt(&next).unwrap_or_else(|error| panic!("{family}: {error}")).text;
        assert!(prompt.contains("seven") && prompt.rfind("add") > prompt.find("Hi"), "{family}: {prompt}");
    }
}

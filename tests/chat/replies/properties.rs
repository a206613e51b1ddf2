//! What holds for all replies.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use quickcheck::quickcheck;
use serde_json::{Map, Value, json};
use tinkex::Tokenizer;
use tinkex::chat::{
    ChatTemplate, Conversation, Message, Prompt, Renderer, Reply, ReplyDelta, ReplyEnd, Tool, ToolCall,
};

use super::{FAMILIES, template};
use crate::byte_level::byte_level;

fn renderers() -> Vec<(&'static str, Renderer)> {
    let new = |template, tokenizer| Renderer::new(template, tokenizer).unwrap();
    let families = FAMILIES.into_iter().chain(["lfm2_5", "smollm2"]);
    let mut renderers: Vec<_> = families.map(|family| (family, new(template(family), byte_level(family)))).collect();
    let builtin = |name| ChatTemplate::builtin(name).unwrap();
    renderers.push(("chatml", new(builtin("chatml"), byte_level("qwen3"))));
    renderers.push(("chatml", new(builtin("chatml"), Tokenizer::bytes())));
    renderers.push(("plain", new(builtin("plain").special_token("eos_token", "<|endoftext|>"), Tokenizer::bytes())));
    renderers.push(("role_colon", new(builtin("role_colon"), byte_level("smollm2"))));
    renderers
}

/// Decisions, from what quickcheck made up.
struct Choices(std::vec::IntoIter<u16>);

impl Choices {
    fn below(&mut self, count: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % count
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// Words that together are no tag: of a reply's text, that would be a token.
    fn text(&mut self) -> String {
        let words = [
            "a",
            "Hello",
            " ",
            "\n",
            "é",
            "世",
            "✅",
            "<",
            "</",
            ">",
            "{\"",
            "}",
            "thinks",
            "tool_calls",
            "1.5",
            "True",
            "User",
        ];
        let count = self.below(6);
        (0..count).map(|_| self.of(&words)).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 5 } else { 7 }) {
            0 => self.text().into(),
            1 => json!(self.below(100)),
            2 => json!(0.5),
            3 => true.into(),
            4 => Value::Null,
            5 => (0..self.below(3)).map(|_| self.value(depth - 1)).collect(),
            _ => json!({"key": self.value(depth - 1), "ö": self.text()}),
        }
    }
}

#[test]
fn any_tokens_are_read() {
    let renderers = renderers();
    let holds = |tokens: Vec<u16>, cuts: Vec<u8>| {
        for (family, renderer) in &renderers {
            let added: Vec<u32> = renderer.tokenizer().added_tokens().into_values().collect();
            let token = |token: &u16| match added.get(usize::from(token % 128)) {
                Some(id) => *id,
                None => u32::from(*token >> 7),
            };
            let tokens: Vec<u32> = tokens.iter().map(token).collect();
            let prompt = renderer.prompt(&Conversation::from([Message::user("Hi")])).unwrap();
            let whole = renderer.parse_reply(&prompt, &tokens);
            let mut parser = renderer.reply_parser(&prompt);
            let (mut content, mut reasoning) = (String::new(), String::new());
            let mut rest = tokens.as_slice();
            for cut in cuts.iter().map(|cut| usize::from(*cut)).chain([tokens.len()]) {
                let (piece, later) = rest.split_at(cut.min(rest.len()));
                rest = later;
                for delta in parser.push(piece) {
                    match delta {
                        ReplyDelta::Content(text) => content.push_str(&text),
                        ReplyDelta::Reasoning(text) => reasoning.push_str(&text),
                        _ => unreachable!(),
                    }
                }
            }
            assert_eq!(parser.finish(), whole, "{family}");
            assert!(whole.message.text().starts_with(&content), "{family} {content:?} {whole:?}");
            let known = whole.message.reasoning_content.clone().unwrap_or_default();
            assert!(known.starts_with(&reasoning) || *family == "deepseek_r1", "{family} {reasoning:?} {whole:?}");
        }
        true
    };
    // quickcheck takes functions alone.
    let mut generator = quickcheck::Gen::new(60);
    for _ in 0..40 {
        assert!(holds(
            quickcheck::Arbitrary::arbitrary(&mut generator),
            quickcheck::Arbitrary::arbitrary(&mut generator)
        ));
    }
}

/// What a format has no place for is left out of the message.
fn message(family: &str, choices: &mut Choices) -> (Message, Vec<Tool>) {
    let has_reasoning = !matches!(family, "deepseek_v3" | "smollm2" | "plain" | "role_colon");
    let has_calls = has_reasoning && family != "deepseek_r1";
    let mut calls = Vec::new();
    let mut tools = Vec::new();
    let most = if family == "gpt_oss" { 2 } else { 3 };
    for index in 0..if has_calls { choices.below(most) } else { 0 } {
        let name = format!("tool_{index}");
        let mut arguments = Map::new();
        let mut types = BTreeMap::new();
        for key in ["a", "b_ö"].into_iter().take(choices.below(3)) {
            let value = choices.value(if family == "lfm2_5" { 0 } else { 2 });
            types.insert(key, json!({"type": type_of(&value)}));
            arguments.insert(key.to_owned(), value);
        }
        tools.push(Tool::function(&name, "", json!({"type": "object", "properties": types})));
        calls.push(ToolCall::new(name, arguments));
    }
    // Templates trim texts, and GPT-OSS has content and a call in messages of their own.
    let content =
        if family == "gpt_oss" && !calls.is_empty() { String::new() } else { choices.text().trim().to_owned() };
    let mut message = Message::assistant(content);
    if has_reasoning && choices.below(2) == 1 {
        message.reasoning_content = Some(choices.text().trim().to_owned()).filter(|text| !text.is_empty());
    }
    message.tool_calls = calls;
    (message, tools)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A message, a prompt for it, and the tokens that the template writes for it.
fn rendered(family: &str, renderer: &Renderer, choices: Vec<u16>) -> (Message, Prompt, Vec<u32>) {
    let (message, tools) = message(family, &mut Choices(choices.into_iter()));
    let conversation = Conversation::from([Message::user("Hi")]).tools(tools);
    let prompt = renderer.prompt(&conversation).unwrap();
    let mut whole = conversation;
    whole.messages.push(message.clone());
    let text = renderer.template().render(&whole, false).unwrap();
    let completion = text.strip_prefix(&prompt.text).unwrap_or_else(|| panic!("{family}: {text:?} {prompt:?}"));
    let mut tokens = renderer.tokenizer().encode_continuation(completion).unwrap();
    if family == "plain" {
        // The tokenizer of bytes does not find its one special token in a text.
        tokens.truncate(completion.strip_suffix("<|endoftext|>").unwrap().len());
        tokens.push(256);
    }
    (message, prompt, tokens)
}

#[test]
fn a_rendered_reply_gives_the_message_back() {
    let renderers = renderers();
    let mut generator = quickcheck::Gen::new(60);
    let mut read = BTreeMap::<&str, usize>::new();
    for _ in 0..30 {
        let choices: Vec<u16> = quickcheck::Arbitrary::arbitrary(&mut generator);
        for (family, renderer) in &renderers {
            let (expected, prompt, tokens) = rendered(family, renderer, choices.clone());
            let reply = renderer.parse_reply(&prompt, &tokens);
            let mut ours = reply.message;
            for call in &mut ours.tool_calls {
                call.id = None;
            }
            assert_eq!((&ours, &reply.end), (&expected, &ReplyEnd::Complete), "{family}: {:?}", reply.raw);
            *read.entry(family).or_default() += 1;
        }
    }
    assert_eq!(read.len(), FAMILIES.len() + 5);
}

#[test]
fn what_follows_the_stop_changes_nothing() {
    let mut generator = quickcheck::Gen::new(60);
    for (family, renderer) in renderers() {
        let added = renderer.tokenizer().added_tokens().into_values().next().unwrap();
        for _ in 0..10 {
            let choices: Vec<u16> = quickcheck::Arbitrary::arbitrary(&mut generator);
            let (_, prompt, tokens) = rendered(family, &renderer, choices);
            let Reply { message, end, .. } = renderer.parse_reply(&prompt, &tokens);
            // A character that a token, a text or the end breaks.
            for rest in [vec![0xC3, added], vec![0xC3, b'a'.into()], vec![0xC3]] {
                let longer = renderer.parse_reply(&prompt, &[tokens.clone(), rest].concat());
                assert_eq!((&longer.message, &longer.end), (&message, &end), "{family}: {:?}", longer.raw);
            }
        }
    }
}

quickcheck! {
    fn text_like_marks_is_text(words: Vec<u8>) -> bool {
        let marks = ["<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "x", "\u{FDD1}", "\u{FDD1}\u{F0000}", " "];
        let text: String = words.iter().map(|word| marks[usize::from(*word) % marks.len()]).collect();
        static RENDERER: LazyLock<Renderer> =
            LazyLock::new(|| Renderer::new(template("qwen3"), byte_level("qwen3")).unwrap());
        let (renderer, tokenizer) = (&*RENDERER, RENDERER.tokenizer());
        let prompt = renderer.prompt(&Conversation::from([Message::user("Hi")])).unwrap();
        let mut tokens = tokenizer.encode_text(&text).unwrap();
        tokens.extend(tokenizer.eos_token());
        let reply = renderer.parse_reply(&prompt, &tokens);
        reply.message.text() == text && reply.end == ReplyEnd::Complete
    }
}

//! Replies read back, against the official parsers.

mod damage;
mod differences;
mod formats;
mod properties;

use std::collections::BTreeSet;

use differences::{DIFFERENCES, Difference, End, Says, difference};
use serde_json::Value;
use tinkex::Tokenizer;
use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, Reply, ReplyEnd};

use crate::byte_level::{byte_level, byte_level_with};
use crate::fixtures::fixture;

const FAMILIES: [&str; 13] = [
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

/// The template of a family: the model's own, or the built-in one.
fn template(family: &str) -> ChatTemplate {
    match family {
        "deepseek_v3" | "gpt_oss" | "qwen3" | "qwen3_5" | "smollm2" | "lfm2_5" => {
            let config = fixture(&format!("templates/{family}"))["tokenizer_config"].clone();
            let template = ChatTemplate::new(config["chat_template"].as_str().unwrap()).unwrap();
            ["bos_token", "eos_token"].into_iter().fold(template, |template, name| match config[name].as_str() {
                Some(token) => template.special_token(name, token),
                None => template,
            })
        }
        _ => ChatTemplate::builtin(family).unwrap(),
    }
}

/// The arguments with which a template does what a variant of the official renderer does, as far as its prompts end otherwise.
fn conversation(variant: &str) -> Conversation {
    let conversation = Conversation::from([Message::user("What is 2 + 2?")]);
    match variant {
        "chat" | "disable_thinking" => conversation.template_arg("enable_thinking", false),
        _ => conversation,
    }
}

/// The tokenizer of a family. The official one of DeepSeek V3 has no tokens for reasoning.
fn tokenizer(family: &str) -> Tokenizer {
    match family {
        "deepseek_v3" => byte_level_with(
            &[
                ("<｜begin▁of▁sentence｜>", true),
                ("<｜end▁of▁sentence｜>", true),
                ("<｜User｜>", false),
                ("<｜Assistant｜>", false),
            ],
            Some("<｜end▁of▁sentence｜>"),
        ),
        _ => byte_level(family),
    }
}

/// The tokens of a reply's pieces. The replacement character stands for one that is cut.
fn tokens(pieces: &Value, tokenizer: &Tokenizer) -> Vec<u32> {
    let mut tokens = Vec::new();
    for piece in pieces.as_array().unwrap() {
        let text = piece[0].as_str().unwrap();
        if piece[1] == 1 {
            tokens.push(*tokenizer.added_tokens().get(text).unwrap_or_else(|| panic!("no token {text}")));
            continue;
        }
        let whole = text.trim_end_matches('\u{FFFD}');
        tokens.extend(tokenizer.encode_text(whole).unwrap());
        if whole.len() < text.len() {
            tokens.push(0xE2);
        }
    }
    tokens
}

/// Content, reasoning and calls, whoever says it in whichever form.
#[derive(Debug, PartialEq)]
struct Said {
    content: String,
    reasoning: String,
    calls: Vec<(String, Value)>,
}

fn said(messages: &[Value]) -> Said {
    let mut said = Said { content: String::new(), reasoning: String::new(), calls: Vec::new() };
    for message in messages {
        match &message["content"] {
            Value::String(text) => said.content.push_str(text),
            parts => {
                for part in parts.as_array().unwrap() {
                    said.content.push_str(part["text"].as_str().unwrap_or_default());
                    said.reasoning.push_str(part["thinking"].as_str().unwrap_or_default());
                }
            }
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            let name = call["function"]["name"].as_str().unwrap().to_owned();
            said.calls.push((name, serde_json::from_str(arguments).unwrap()));
        }
    }
    said
}

fn said_by_us(reply: &Reply) -> Said {
    let calls = reply.message.tool_calls.iter().map(|call| (call.name.clone(), call.arguments.clone()));
    let reasoning = reply.message.reasoning_content.clone().unwrap_or_default();
    Said { content: reply.message.text(), reasoning, calls: calls.collect() }
}

/// What an official parser makes of a reply that has a stop, if it takes it as complete.
fn complete(parser: &Value) -> Option<Said> {
    if let Some(messages) = parser["messages"].as_array() {
        return Some(said(messages));
    }
    let has_ended = matches!(parser["termination"].as_str(), Some("stop_sequence" | "eos"));
    has_ended.then(|| said(&[parser["message"].clone()]))
}

#[test]
fn replies_are_read_as_the_official_parsers_do() {
    let mut count = 0;
    let mut named = BTreeSet::new();
    let mut wrong = Vec::new();
    for family in FAMILIES {
        let tokenizer = tokenizer(family);
        let renderer = Renderer::new(template(family), tokenizer.clone()).unwrap();
        for (variant, values) in fixture(&format!("renderers/{family}"))["variants"].as_object().unwrap() {
            let prompt = renderer.prompt(&conversation(variant)).unwrap();
            for case in values["replies"].as_array().unwrap() {
                count += 1;
                let id = case["id"].as_str().unwrap();
                let reply = renderer.parse_reply(&prompt, &tokens(&case["pieces"], &tokenizer));
                let ours = said_by_us(&reply);
                if let Some(problem) =
                    mistake(case, &values["stop_text"], &reply.end, &ours, difference(family, variant, id))
                {
                    wrong.push(format!("{family} {variant} {id}: {problem}\n   {:?} {ours:?}\n   {case}", reply.end));
                }
                named.extend(difference(family, variant, id).map(|_| (family, variant.clone(), id.to_owned())));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} replies:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(count, 564);
    let listed: usize = DIFFERENCES.iter().flat_map(|known| known.of).map(|(_, variants)| variants.len()).sum();
    assert_eq!(listed, named.len(), "a difference is named twice, or for a reply that is not there");
}

/// What is wrong with our reading.
fn mistake(
    case: &Value,
    stops: &Value,
    end: &ReplyEnd,
    ours: &Said,
    difference: Option<usize>,
) -> Option<&'static str> {
    let pieces = case["pieces"].as_array().unwrap();
    let has_stop = pieces.iter().any(|piece| piece[1] == 1 && stops.as_array().unwrap().contains(&piece[0]));
    let (wheel, cookbook) = (complete(&case["wheel"]), complete(&case["cookbook"]));
    if !has_stop {
        if *end != ReplyEnd::CutOff || difference.is_some() {
            return Some("a cut reply is cut off");
        }
        let is_cut_within = case["id"].as_str().unwrap().ends_with("_cut");
        return (is_cut_within && !ours.calls.is_empty()).then_some("a cut call is none");
    }
    let agreed = wheel.as_ref().filter(|wheel| case["cookbook"].is_null() || cookbook.as_ref() == Some(*wheel));
    let holds = *end == ReplyEnd::Complete && agreed == Some(ours);
    let Some(difference) = difference else { return (!holds).then_some("it is not as both parsers say") };
    let Difference { end: expected, message, .. } = &DIFFERENCES[difference];
    let ends = match expected {
        End::Complete => *end == ReplyEnd::Complete,
        End::Malformed => matches!(end, ReplyEnd::Malformed(_)),
    };
    let says = match message {
        Says::Wheel => wheel.as_ref() == Some(ours),
        Says::Content(text) => {
            let calls = if *expected == End::Complete { official_calls(wheel.as_ref(), case) } else { Vec::new() };
            // The wheel reads what follows a stop as a second message.
            let first = case["wheel"]["messages"].as_array().map(|messages| said(&messages[..1]));
            let reasoning = first.or(cookbook).map(|said| said.reasoning).unwrap_or_default();
            ours.content == *text && ours.calls == calls && ours.reasoning == reasoning
        }
        Says::Reasoning(text) => {
            let written: String =
                pieces.iter().filter(|piece| piece[1] == 0).map(|piece| piece[0].as_str().unwrap()).collect();
            let is_all = written.trim_end().ends_with(ours.reasoning.trim_end());
            is_all && ours.reasoning.starts_with(text) && ours.content.is_empty() && ours.calls.is_empty()
        }
    };
    if holds {
        return Some("it is as both parsers say, and is named as a difference");
    }
    (!ends || !says).then_some("it is not as its difference says")
}

/// The calls that the wheel read; for a reply of Kimi that it does not take, those in the pieces.
fn official_calls(wheel: Option<&Said>, case: &Value) -> Vec<(String, Value)> {
    if let Some(wheel) = wheel {
        return wheel.calls.clone();
    }
    let pieces = case["pieces"].as_array().unwrap();
    let texts: Vec<&str> = pieces.iter().map(|piece| piece[0].as_str().unwrap()).collect();
    let calls = texts.windows(3).filter(|texts| texts[1] == "<|tool_call_argument_begin|>");
    calls.map(|texts| (texts[0].to_owned(), serde_json::from_str(texts[2]).unwrap())).collect()
}

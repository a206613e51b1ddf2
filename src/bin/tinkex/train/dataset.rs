//! What a line of the data file means: an example as JSON.
//!
//! Nothing that a line says is ignored silently: a known key with a value that is not understood is an error, and the caller
//! hears of all other keys.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use crate::template::{Content, Message, Role};

pub(crate) const EXPECTED: &str = r#"expected {"prompt": "…", "completion": "…"} or {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}"#;

/// The values of `split`. Case and blanks around them make no difference.
const TRAINED: [&str; 2] = ["train", "training"];
const HELD_OUT: [&str; 7] = ["test", "eval", "evaluation", "validation", "valid", "val", "dev"];

const LINE_KEYS: [&str; 4] = ["prompt", "completion", "messages", "split"];
const MESSAGE_KEYS: [&str; 3] = ["role", "content", "weight"];
const PART_KEYS: [&str; 2] = ["type", "text"];

/// One line of the data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) content: Content,
    /// Whether the file holds it out for evaluation.
    pub(crate) held_out: bool,
    /// Keys that have no meaning here.
    pub(crate) unknown_keys: Vec<String>,
}

/// The values are read one by one, so that an error names the key.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Line<'a> {
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    completion: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    split: Option<&'a RawValue>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct JsonMessage<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    weight: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// A part of a message whose content is a list.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(flatten)]
    others: BTreeMap<String, IgnoredAny>,
}

/// Parses a line. The error says what is wrong with it.
pub(crate) fn parse(line: &str) -> Result<Example, String> {
    let line: Line<'_> = serde_json::from_str(line)
        .map_err(|error| format!("{} (column {}); {EXPECTED}", reason(&error), error.column()))?;
    let held_out = line.split.map(split).transpose()?.unwrap_or_default();
    let mut unknown_keys = unknown_keys(&line.others, &LINE_KEYS)?;
    if line.others.contains_key("weight") {
        return Err("\"weight\" is a key of messages; an example has none".to_owned());
    }
    let text = |name: &str, value: &RawValue| text(value).map_err(|why| format!("{name:?} {why}"));
    let content = match (line.prompt, line.completion, line.messages) {
        (Some(prompt), Some(completion), None) => {
            let (prompt, completion) = (text("prompt", prompt)?, text("completion", completion)?);
            if completion.trim().is_empty() {
                return Err("the completion is empty, so there is nothing to train on".to_owned());
            }
            Content::Completion { prompt, completion }
        }
        (None, None, Some(messages)) => {
            let messages: Vec<&RawValue> = serde_json::from_str(messages.get())
                .map_err(|_| format!("\"messages\" is {}, expected a list", described(messages)))?;
            let numbered = messages.into_iter().zip(1..);
            let parsed = numbered.map(|(value, number)| message(value, number, &mut unknown_keys));
            conversation(parsed.collect::<Result<_, _>>()?)?
        }
        (_, _, Some(_)) => return Err(format!("prompt and messages cannot be combined; {EXPECTED}")),
        (Some(_), None, None) => return Err(format!("prompt without completion; {EXPECTED}")),
        (None, Some(_), None) => return Err(format!("completion without prompt; {EXPECTED}")),
        (None, None, None) => return Err(format!("neither prompt nor messages; {EXPECTED}")),
    };
    Ok(Example { content, held_out, unknown_keys })
}

fn message(value: &RawValue, number: usize, unknown: &mut Vec<String>) -> Result<Message, String> {
    let parsed: JsonMessage<'_> = serde_json::from_str(value.get())
        .map_err(|error| format!("message {number}: {}; {EXPECTED}", reason(&error)))?;
    let Some(role) = parsed.role else { return Err(format!("message {number} has no \"role\"; {EXPECTED}")) };
    let name = read::<String>(role);
    let Some(role) = name.as_deref().and_then(Role::parse) else {
        return Err(format!("message {number} has role {}; expected system, user, assistant or tool", role.get()));
    };
    let place = format!("message {number} ({})", name.unwrap_or_default());
    let calls = [("tool_calls", parsed.tool_calls), ("function_call", parsed.function_call)];
    if let Some((key, _)) = calls.into_iter().find(|(_, value)| value.is_some_and(|value| value.get() != "[]")) {
        return Err(format!("{place} has {key:?}; write calls of tools as text, in \"content\""));
    }
    let text = match parsed.content {
        None => return Err(format!("{place} has no \"content\"")),
        Some(content) => text_of(content, unknown).map_err(|why| format!("the content of {place} {why}"))?,
    };
    let weight = parsed.weight.map(|weight| {
        let known = read::<f64>(weight).filter(|number| [0.0, 1.0].contains(number));
        known.ok_or_else(|| format!("the weight of {place} is {}; expected 0 or 1", weight.get()))
    });
    let weight = weight.transpose()?;
    if role != Role::Assistant && weight == Some(1.0) {
        return Err(format!("{place} has weight 1, but only the assistant's messages can be trained on"));
    }
    unknown.extend(unknown_keys(&parsed.others, &MESSAGE_KEYS).map_err(|why| format!("{place}: {why}"))?);
    Ok(Message { role, text, trained: role == Role::Assistant && weight != Some(0.0) })
}

/// A text, or a list of parts that are all text.
fn text_of(content: &RawValue, unknown: &mut Vec<String>) -> Result<String, String> {
    if content.get().starts_with('"') {
        return text(content);
    }
    let Some(parts) = read::<Vec<Box<RawValue>>>(content) else {
        return Err(format!("is {}; expected a text, or a list of parts of the type \"text\"", described(content)));
    };
    let texts = parts.iter().zip(1..).map(|(part, number)| {
        let part = part_text(part, unknown);
        part.map_err(|why| format!("has part {number} {why}"))
    });
    texts.collect()
}

fn part_text(part: &RawValue, unknown: &mut Vec<String>) -> Result<String, String> {
    let part: Part<'_> = serde_json::from_str(part.get()).map_err(|error| format!("with {}", reason(&error)))?;
    match part.kind.as_deref() {
        Some("text") => {}
        Some(kind) => return Err(format!("of the type {kind:?}; only text can be trained on")),
        None => return Err("without \"type\"".to_owned()),
    }
    if part.others.contains_key("weight") {
        return Err("with \"weight\", which is a key of messages".to_owned());
    }
    unknown.extend(unknown_keys(&part.others, &PART_KEYS).map_err(|why| format!("with an {why}"))?);
    let value = part.text.ok_or_else(|| "without \"text\"".to_owned())?;
    text(value).map_err(|why| format!("whose \"text\" {why}"))
}

fn conversation(messages: Vec<Message>) -> Result<Content, String> {
    let is_reply = |message: &&Message| message.role == Role::Assistant && !message.text.trim().is_empty();
    match messages.iter().find(is_reply) {
        None => Err("no assistant message with content, so there is nothing to train on".to_owned()),
        Some(_) if !messages.iter().filter(is_reply).any(|message| message.trained) => {
            Err("all assistant messages have weight 0, so there is nothing to train on".to_owned())
        }
        Some(_) => Ok(Content::Chat(messages)),
    }
}

/// Whether the split is one that is held out.
fn split(value: &RawValue) -> Result<bool, String> {
    let name = read::<String>(value).map(|name| name.trim().to_lowercase());
    match name.as_deref() {
        Some(name) if HELD_OUT.contains(&name) => Ok(true),
        Some(name) if TRAINED.contains(&name) => Ok(false),
        _ => {
            let known = [TRAINED.as_slice(), HELD_OUT.as_slice()].concat().join(", ");
            Err(format!("\"split\" is {}; expected one of {known}", value.get()))
        }
    }
}

/// Keys that are not known. One that differs from a known key in case or blanks only is an error.
fn unknown_keys(others: &BTreeMap<String, IgnoredAny>, known: &[&str]) -> Result<Vec<String>, String> {
    let meant = |key: &str| known.iter().find(|known| key.trim().eq_ignore_ascii_case(known));
    match others.keys().find_map(|key| Some((key, meant(key)?))) {
        Some((key, meant)) => Err(format!("unknown key {key:?}; write {meant:?}")),
        None => Ok(others.keys().cloned().collect()),
    }
}

/// A text, or what the value is instead.
fn text(value: &RawValue) -> Result<String, String> {
    serde_json::from_str(value.get()).map_err(|error| match value.get().starts_with('"') {
        true => format!("is not valid text: {}", reason(&error)),
        false => format!("is {}, expected a text", described(value)),
    })
}

/// What is wrong. serde_json counts lines within this line, so its number would mislead.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn read<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

fn described(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str, trained: bool) -> Message {
        Message { role: Role::Assistant, text: text.to_owned(), trained }
    }

    #[test]
    fn completions_and_chats_are_parsed() {
        let line = parse(r#"{"prompt": "a", "completion": "b", "id": 1, "split": null}"#).unwrap();
        let content = Content::Completion { prompt: "a".to_owned(), completion: "b".to_owned() };
        assert_eq!(line, Example { content, held_out: false, unknown_keys: vec!["id".to_owned()] });
        let line = parse(
            r#"{"messages": [{"role": "user", "content": "q", "name": "x"}, {"role": "assistant", "content": "r"}], "split": "test"}"#,
        );
        let line = line.unwrap();
        let question = Message { role: Role::User, text: "q".to_owned(), trained: false };
        assert_eq!(line.content, Content::Chat(vec![question, reply("r", true)]));
        assert_eq!((line.held_out, line.unknown_keys), (true, vec!["name".to_owned()]));
    }

    #[test]
    fn weights_choose_the_messages_to_learn() {
        for (weight, trained) in [("0", false), ("0.0", false), ("1", true), ("1.0", true), ("null", true)] {
            let line = format!(
                r#"{{"messages": [{{"role": "user", "content": "q", "weight": 0}}, {{"role": "assistant", "content": "a", "weight": {weight}}}, {{"role": "assistant", "content": "b"}}]}}"#
            );
            let Content::Chat(messages) = parse(&line).unwrap().content else { panic!("{line}") };
            assert_eq!(messages[1..], [reply("a", trained), reply("b", true)], "{weight}");
        }
    }

    #[test]
    fn splits_are_known_in_any_case() {
        let held_out = |split: &str| {
            parse(&format!(r#"{{"prompt": "a", "completion": "b", "split": {split:?}}}"#)).map(|line| line.held_out)
        };
        for split in ["test", "Test", "TEST", "test ", " valid", "Validation", "val", "dev", "eval", "evaluation"] {
            assert_eq!(held_out(split), Ok(true), "{split}");
        }
        for split in ["train", "Train ", "training"] {
            assert_eq!(held_out(split), Ok(false), "{split}");
        }
        for split in ["", "tset", "train2", "none"] {
            let error = held_out(split).unwrap_err();
            assert_eq!(
                error,
                format!(
                    "\"split\" is {split:?}; expected one of train, training, test, eval, evaluation, validation, valid, val, dev"
                )
            );
        }
    }

    #[test]
    fn texts_in_parts_are_joined() {
        let line = r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a", "id": 1}, {"type": "text", "text": "b"}]}]}"#;
        let parsed = parse(line).unwrap();
        assert_eq!(
            (parsed.content, parsed.unknown_keys),
            (Content::Chat(vec![reply("ab", true)]), vec!["id".to_owned()])
        );
    }

    #[test]
    fn an_invalid_line_says_what_is_wrong() {
        for (line, why) in [
            ("nonsense", "expected ident"),
            (r#"{"prompt": 1, "completion": "b"}"#, "\"prompt\" is a number, expected a text"),
            (r#"{"prompt": "a"}"#, "without completion"),
            (r#"{"completion": "a"}"#, "without prompt"),
            ("{}", "neither"),
            ("7", "invalid type: integer `7`, expected an object"),
            (r#"{"prompt": "a", "completion": " "}"#, "nothing to train on"),
            (r#"{"prompt": "a", "prompt": "a", "completion": "b"}"#, "duplicate field `prompt`"),
            (r#"{"prompt": "a", "completion": "b", "messages": []}"#, "cannot be combined"),
            (r#"{"prompt": "a", "completion": "b", "weight": 0}"#, "\"weight\" is a key of messages"),
            (r#"{"prompt": "a", "completion": "b", "Split": "test"}"#, "unknown key \"Split\"; write \"split\""),
            (r#"{"prompt": "a", "completion": "b", "split": 3}"#, "\"split\" is 3; expected one of train"),
            (r#"{"messages": {}}"#, "\"messages\" is an object, expected a list"),
            (r#"{"messages": []}"#, "nothing to train on"),
            (r#"{"messages": [{"role": "user", "content": "q"}]}"#, "nothing to train on"),
            (r#"{"messages": ["hello"]}"#, "message 1: invalid type: string \"hello\", expected an object"),
            (r#"{"messages": [{"role": "robot", "content": "q"}]}"#, "message 1 has role \"robot\""),
            (r#"{"messages": [{"content": "q"}]}"#, "message 1 has no \"role\""),
            (r#"{"messages": [{"role": "user"}]}"#, "message 1 (user) has no \"content\""),
            (r#"{"messages": [{"role": "user", "content": null}]}"#, "message 1 (user) has no \"content\""),
            (r#"{"messages": [{"role": "user", "content": 3}]}"#, "the content of message 1 (user) is a number"),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#,
                "the content of message 1 (user) has part 1 of the type \"image_url\"",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]}"#,
                "message 1 (assistant) has \"tool_calls\"",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "a", "weight": "0"}]}"#,
                "the weight of message 1 (assistant) is \"0\"; expected 0 or 1",
            ),
            (r#"{"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}"#, "is 0.5; expected 0 or 1"),
            (r#"{"messages": [{"role": "assistant", "content": "a", "weight": false}]}"#, "is false; expected 0 or 1"),
            (r#"{"messages": [{"role": "assistant", "content": "a", "Weight": 0}]}"#, "write \"weight\""),
            (r#"{"messages": [{"role": "assistant", "content": "a", "weight": 0}]}"#, "have weight 0"),
            (r#"{"messages": [{"role": "user", "content": "q", "weight": 1}]}"#, "only the assistant's messages"),
            (r#"{"prompt": "\ud800", "completion": "b"}"#, "\"prompt\" is not valid text: "),
            (
                r#"{"messages": [{"role": "assistant", "content": "\ud83d"}]}"#,
                "the content of message 1 (assistant) is not valid text: ",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "\ud83d"}]}]}"#,
                "the content of message 1 (assistant) has part 1 whose \"text\" is not valid text: ",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "text": "a", "weight": 0}]}]}"#,
                "the content of message 1 (assistant) has part 1 with \"weight\", which is a key of messages",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": [{"type": "text", "Text": "a"}]}]}"#,
                "has part 1 with an unknown key \"Text\"; write \"text\"",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": ["a"]}]}"#,
                "has part 1 with invalid type: string \"a\", expected an object",
            ),
            (r#"{"messages": [{"role": "assistant", "content": [{"text": "a"}]}]}"#, "has part 1 without \"type\""),
            (r#"{"messages": [{"role": "assistant", "content": [{"type": "text"}]}]}"#, "has part 1 without \"text\""),
            ("\"\u{1}\"", "control character"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
            assert!(!error.contains("at line"), "{error}");
        }
    }
}

//! A message of a conversation.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tinkex::chat::{Content, Message, Role, ToolCall};

use super::EXPECTED;
use super::json::{described, read, reason, text, unknown_keys};

const MESSAGE_KEYS: [&str; 11] = [
    "role",
    "content",
    "weight",
    "reasoning_content",
    "reasoning",
    "thinking",
    "tool_calls",
    "tool_call_id",
    "name",
    "trainable",
    "train",
];
const PART_KEYS: [&str; 2] = ["type", "text"];

/// A message, as the line has it.
pub(super) struct Parsed {
    pub(super) message: Message,
    /// `false` for 0 and `true` for 1.
    pub(super) weight: Option<bool>,
    /// Keys that mean something only if the template reads them.
    pub(super) template_keys: Vec<String>,
    /// Keys that have no meaning.
    pub(super) unknown_keys: Vec<String>,
}

/// The values are read one by one, so that an error names the key.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Keys<'a> {
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    weight: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    thinking: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_call_id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    trainable: Option<&'a RawValue>,
    #[serde(borrow)]
    train: Option<&'a RawValue>,
    #[serde(flatten)]
    others: Map<String, Value>,
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
    others: Map<String, Value>,
}

/// How errors name a message: `message 2 (user)`.
pub(super) fn place(number: usize, role: &Role) -> String {
    format!("message {number} ({})", role.as_str())
}

/// Parses the message with this number, from 1.
pub(super) fn parse(value: &RawValue, number: usize) -> Result<Parsed, String> {
    let keys: Keys<'_> = serde_json::from_str(value.get())
        .map_err(|error| format!("message {number}: {}; {EXPECTED}", reason(&error)))?;
    let Some(role) = keys.role else { return Err(format!("message {number} has no \"role\"; {EXPECTED}")) };
    let Some(role) = read::<String>(role).map(|name| Role::from(&*name)).filter(|role| !is_other(role)) else {
        let role = role.get();
        return Err(format!("message {number} has role {role}; expected system, developer, user, assistant or tool"));
    };
    let place = place(number, &role);
    if keys.function_call.is_some() {
        return Err(format!("{place} has \"function_call\"; write calls as \"tool_calls\""));
    }
    // Of those of the message itself, each may mean something to the template.
    let mut template_keys = unknown_keys(keys.others.keys(), &MESSAGE_KEYS).map_err(|why| format!("{place}: {why}"))?;
    let mut unknown_keys = Vec::new();
    let content = keys
        .content
        .map(|content| text_of(content, &mut unknown_keys).map_err(|why| format!("the content of {place} {why}")));
    let content = content.transpose()?;
    let texts = |key: &str, value: Option<&RawValue>| {
        value.map(|value| text(value).map_err(|why| format!("{key:?} of {place} {why}"))).transpose()
    };
    let mut reasoning = None;
    for (key, value) in
        [("reasoning_content", keys.reasoning_content), ("reasoning", keys.reasoning), ("thinking", keys.thinking)]
    {
        let Some(text) = texts(key, value)?.filter(|text| !text.is_empty()) else { continue };
        if reasoning.as_ref().is_some_and(|other| *other != text) {
            return Err(format!("{place} has two texts of reasoning that differ; keep one"));
        }
        reasoning = Some(text);
    }
    let (name, tool_call_id) = (texts("name", keys.name)?, texts("tool_call_id", keys.tool_call_id)?);
    let tool_calls: Vec<ToolCall> = match keys.tool_calls {
        None => Vec::new(),
        Some(calls) if calls.get().starts_with('[') => serde_json::from_str(calls.get())
            .map_err(|error| format!("\"tool_calls\" of {place} cannot be read: {}", reason(&error)))?,
        Some(calls) => return Err(format!("\"tool_calls\" of {place} is {}, expected a list", described(calls))),
    };
    if role != Role::Assistant && !tool_calls.is_empty() {
        return Err(format!("{place} has \"tool_calls\", but only the assistant calls tools"));
    }
    let is_reply = role == Role::Assistant && (!tool_calls.is_empty() || reasoning.is_some());
    let content = match content {
        Some(text) => Content::Text(text),
        None if is_reply => Content::Null,
        None => return Err(format!("{place} has no \"content\"")),
    };
    let weight = keys.weight.map(|weight| match read::<f64>(weight) {
        Some(0.0) => Ok(false),
        Some(1.0) => Ok(true),
        _ => Err(format!("the weight of {place} is {}; expected 0 or 1", weight.get())),
    });
    let weight = weight.transpose()?;
    if keys.trainable.is_some() && keys.train.is_some() {
        return Err(format!("{place} has \"trainable\" and \"train\", which mean the same; keep one"));
    }
    let trainable = keys.trainable.or(keys.train).map(|value| {
        read::<bool>(value)
            .ok_or_else(|| format!("\"trainable\" of {place} is {}; expected true or false", value.get()))
    });
    let trainable = trainable.transpose()?;
    if name.is_some() {
        template_keys.push("name".to_owned());
    }
    let mut message = Message::new(role, content);
    message.reasoning_content = reasoning;
    message.tool_calls = tool_calls;
    message.tool_call_id = tool_call_id;
    message.name = name;
    message.trainable = trainable;
    message.others = keys.others;
    Ok(Parsed { message, weight, template_keys, unknown_keys })
}

fn is_other(role: &Role) -> bool {
    matches!(role, Role::Other(_))
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
    unknown.extend(unknown_keys(part.others.keys(), &PART_KEYS).map_err(|why| format!("with an {why}"))?);
    let value = part.text.ok_or_else(|| "without \"text\"".to_owned())?;
    text(value).map_err(|why| format!("whose \"text\" {why}"))
}

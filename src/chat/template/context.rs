//! The variables of a template.

use std::time::SystemTime;

use minijinja::Value;
use serde::Serialize;
use serde_json::Map;

use super::engine::DateTime;
use crate::chat::message::Message;
use crate::chat::tools::Tool;
use crate::error::{Error, Result};

/// The keys of a message's reasoning that templates read, in the order in which they are looked for.
const REASONING_KEYS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// What a template renders.
#[derive(Clone, Copy)]
pub(in crate::chat) struct Rendering<'a> {
    pub(in crate::chat) messages: &'a [Message],
    pub(in crate::chat) tools: &'a [Tool],
    pub(in crate::chat) template_args: &'a Map<String, serde_json::Value>,
    pub(in crate::chat) add_generation_prompt: bool,
    /// What `strftime_now` takes for the current time: all texts of a conversation have the same.
    pub(in crate::chat) now: SystemTime,
}

/// What the variables of a rendering are made of.
pub(super) struct Variables<'a> {
    pub(super) special_tokens: &'a Map<String, serde_json::Value>,
    pub(super) reasoning_key: &'static str,
    pub(super) rendering: Rendering<'a>,
}

impl Variables<'_> {
    /// The variables. `tools` and `documents` are always there, as null if there are none.
    pub(super) fn value(&self) -> Result<Value> {
        let rendering = self.rendering;
        let messages = rendering.messages.iter().map(|message| message_value(message, self.reasoning_key));
        let messages: Vec<Value> = messages.collect::<Result<_>>()?;
        let tools = if rendering.tools.is_empty() { Value::from(()) } else { value(rendering.tools)? };
        let fixed = [
            ("messages", Value::from(messages)),
            ("tools", tools),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(rendering.add_generation_prompt)),
            ("strftime_now", strftime(rendering.now)),
        ];
        let mut variables: Vec<(Value, Value)> = Vec::new();
        for (name, token) in self.special_tokens {
            variables.push((Value::from(name.as_str()), value(token)?));
        }
        variables.extend(fixed.map(|(name, value)| (Value::from(name), value)));
        for (name, argument) in rendering.template_args {
            variables.push((Value::from(name.as_str()), value(argument)?));
        }
        Ok(variables.into_iter().collect())
    }
}

/// The function `strftime_now(format)`.
fn strftime(now: SystemTime) -> Value {
    Value::from_function(move |format: &str| {
        DateTime::from(now).format(format).map_err(|directive| {
            let message = format!("strftime_now does not know {directive}");
            minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message)
        })
    })
}

fn message_value(message: &Message, reasoning_key: &str) -> Result<Value> {
    let unchanged = value(message)?;
    if reasoning_key == "reasoning_content" || message.reasoning_content.is_none() {
        return Ok(unchanged);
    }
    let keys = unchanged.try_iter().map_err(unserializable)?;
    keys.map(|key| {
        let value = unchanged.get_item(&key).map_err(unserializable)?;
        let is_reasoning = key.as_str() == Some("reasoning_content");
        Ok((if is_reasoning { Value::from(reasoning_key) } else { key }, value))
    })
    .collect()
}

fn value(of: &(impl Serialize + ?Sized)) -> Result<Value> {
    let value = Value::from_serialize(of);
    if value.kind() == minijinja::value::ValueKind::Invalid {
        return Err(Error::invalid_input(format!("the conversation cannot be given to a chat template: {value}")));
    }
    Ok(value)
}

fn unserializable(error: minijinja::Error) -> Error {
    Error::invalid_input("the conversation cannot be given to a chat template").with_source(error)
}

/// The key in which a template with this source reads a message's reasoning.
pub(super) fn reasoning_key(source: &str) -> &'static str {
    REASONING_KEYS.into_iter().find(|key| reads(source, key)).unwrap_or(REASONING_KEYS[0])
}

/// Whether a source has an access to this key of some value: `.key`, `['key']`, `get('key'`, `'key' in`.
fn reads(source: &str, key: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    source.match_indices(key).any(|(start, _)| {
        let (before, after) = (&source.as_bytes()[..start], &source.as_bytes()[start + key.len()..]);
        let [first, last] = [before.last(), after.first()].map(|byte| byte.copied().unwrap_or_default());
        (first == b'.' && !is_word(last)) || (matches!(first, b'\'' | b'"') && first == last)
    })
}

#[cfg(test)]
mod tests {
    use super::reasoning_key;

    #[test]
    fn reasoning_has_the_key_that_is_read() {
        for (source, expected) in [
            ("{{ message.reasoning_content }}{{ message.thinking }}", "reasoning_content"),
            ("{{ message['thinking'] }}", "thinking"),
            ("{% if \"thinking\" in message %}", "thinking"),
            ("{{ message.get('reasoning') }}", "reasoning"),
            ("{{ enable_thinking }} {{ message.thinking_budget }} 'thinking mode'", "reasoning_content"),
            ("", "reasoning_content"),
        ] {
            assert_eq!(reasoning_key(source), expected, "{source}");
        }
    }
}

//! What templates want of messages that mean the same: found by trying.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

use crate::chat::content::{Content, Part};
use crate::chat::conversation::Conversation;
use crate::chat::message::{Message, Role};
use crate::chat::template::ChatTemplate;
use crate::chat::tools::ToolCall;
use crate::error::{Error, Result};

/// How a template wants messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Habits {
    arguments: Arguments,
    no_content: NoContent,
    /// Whether parts are joined to one text if all are texts.
    joins_texts: bool,
    /// Whether a message with reasoning, content and a call is given with the content in the reasoning, after [`NEXT_CHANNEL`]:
    /// GPT-OSS's template refuses it otherwise, although the model replies so.
    speaks_in_reasoning: bool,
}

/// What GPT-OSS writes between the reasoning of a reply and what it says before a call.
const NEXT_CHANNEL: &str = "<|end|><|start|>assistant<|channel|>commentary<|message|>";

/// How a template wants the arguments of tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arguments {
    /// As an object. Most do.
    Object,
    /// As the text of one: those of DeepSeek V3's kind.
    Text,
}

/// How a template wants a message without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NoContent {
    /// As it is.
    Any,
    /// As an empty text.
    Text,
    /// As null, if the message has tool calls: those of DeepSeek V3's kind leave out the calls of others.
    Null,
}

impl Habits {
    /// What this template takes.
    pub(super) fn of(template: &ChatTemplate) -> Self {
        let object = serde_json::json!({"argument_name": 1});
        let text = Value::String(object.to_string());
        let takes = |arguments: &Value, content: &Content| {
            let call = Message {
                tool_calls: vec![ToolCall::new("f", arguments.clone()).id("call00001")],
                ..Message::new(Role::Assistant, content.clone())
            };
            let conversation = Conversation::from([Message::user("Hi"), call]);
            template.render(&conversation, false).ok().map(|text| text.contains("argument_name"))
        };
        let (empty, null) = (Content::from(""), Content::Null);
        let writes = |arguments: &Value, content: &Content| takes(arguments, content) == Some(true);
        let in_either = |arguments: &Value| writes(arguments, &empty) || writes(arguments, &null);
        let arguments = if !in_either(&object) && in_either(&text) {
            (Arguments::Text, &text)
        } else {
            (Arguments::Object, &object)
        };
        let no_content = match (takes(arguments.1, &empty), takes(arguments.1, &null)) {
            (Some(_), None) | (Some(true), Some(false)) => NoContent::Text,
            (None, Some(_)) | (Some(false), Some(true)) => NoContent::Null,
            _ => NoContent::Any,
        };
        let parts = vec![Part::Text("first part".to_owned()), Part::Text("second part".to_owned())];
        let parts = template.render(&Conversation::from([Message::user(parts)]), true);
        let reads_texts = parts.is_ok_and(|text| text.contains("second part") && !text.contains("'type'"));
        Habits {
            arguments: arguments.0,
            no_content,
            joins_texts: !reads_texts,
            speaks_in_reasoning: speaks_in_reasoning(template, arguments.1),
        }
    }

    /// Gives the content of a message with reasoning and one call as the template takes it.
    pub(super) fn join_speech(self, message: &mut Message) {
        if !self.joins_speech(message) {
            return;
        }
        if let (Some(Content::Text(text)), Some(reasoning)) = (&mut message.content, &mut message.reasoning_content) {
            reasoning.push_str(NEXT_CHANNEL);
            reasoning.push_str(text);
            text.clear();
        }
    }

    /// Whether [`join_speech`](Habits::join_speech) changes the message. The template writes one call of a message.
    pub(super) fn joins_speech(self, message: &Message) -> bool {
        let has_text = matches!(&message.content, Some(Content::Text(text)) if !text.is_empty());
        let has_reasoning = message.reasoning_content.as_ref().is_some_and(|reasoning| !reasoning.is_empty());
        let is_call = message.role == Role::Assistant && message.tool_calls.len() == 1;
        self.speaks_in_reasoning && is_call && has_text && has_reasoning
    }

    /// The message as the template wants it.
    pub(super) fn message<'a>(self, index: usize, message: &'a Message) -> Result<Cow<'a, Message>> {
        let content = self.content(message);
        let is_other = |call: &ToolCall| call.arguments.is_string() != (self.arguments == Arguments::Text);
        if content.is_none() && !message.tool_calls.iter().any(is_other) {
            return Ok(Cow::Borrowed(message));
        }
        let mut message = message.clone();
        if content.is_some() {
            message.content = content;
        }
        for call in message.tool_calls.iter_mut().filter(|call| is_other(call)) {
            call.arguments = match (&call.arguments, self.arguments) {
                (Value::String(text), _) => object(index, &call.name, text)?,
                (value, Arguments::Text) => Value::String(spaced_json(value)),
                (value, Arguments::Object) => value.clone(),
            };
        }
        Ok(Cow::Owned(message))
    }

    /// The content to give instead of a message's own.
    fn content(self, message: &Message) -> Option<Content> {
        let calls = !message.tool_calls.is_empty();
        match (&message.content, self.no_content) {
            (None | Some(Content::Null), NoContent::Text) => Some(Content::from("")),
            (None, NoContent::Null) if calls => Some(Content::Null),
            (Some(Content::Text(text)), NoContent::Null) if calls && text.is_empty() => Some(Content::Null),
            (Some(Content::Parts(parts)), _) if self.joins_texts => {
                let texts =
                    parts.iter().map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None });
                texts.collect::<Option<String>>().map(Content::Text)
            }
            _ => None,
        }
    }
}

/// Whether the template refuses a call with reasoning and content, and writes what a model replies with [`NEXT_CHANNEL`].
fn speaks_in_reasoning(template: &ChatTemplate, arguments: &Value) -> bool {
    let text = |reasoning: &str, content: &str| {
        let call = Message {
            tool_calls: vec![ToolCall::new("f", arguments.clone()).id("call00001")],
            reasoning_content: Some(reasoning.to_owned()),
            ..Message::new(Role::Assistant, content)
        };
        template.render(&Conversation::from([Message::user("Hi"), call]), false)
    };
    let joined = format!("thought{NEXT_CHANNEL}speech");
    let reply = format!("<|start|>assistant<|channel|>analysis<|message|>{joined}<|end|>");
    template.source().contains("<|channel|>")
        && text("thought", "speech").is_err()
        && text(&joined, "").is_ok_and(|text| text.contains(&reply))
}

fn object(index: usize, name: &str, text: &str) -> Result<Value> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(Value::Object(object)),
        other => {
            let why = other.err().map_or("it is no object".to_owned(), |error| error.to_string());
            let message =
                format!("the arguments of the call of {name:?} in messages[{index}] are no JSON object: {why}");
            Err(Error::invalid_input(message).with_hint("give them as an object, or as the JSON text of one"))
        }
    }
}

/// JSON with a space after each comma and colon, as Python writes it.
fn spaced_json(value: &Value) -> String {
    struct Spaced;
    impl Formatter for Spaced {
        fn begin_array_value<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
            writer.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_key<W: Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
            writer.write_all(if first { b"" } else { b", " })
        }
        fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
            writer.write_all(b": ")
        }
    }
    let mut json = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut json, Spaced));
    written.ok().and_then(|()| String::from_utf8(json).ok()).unwrap_or_else(|| value.to_string())
}

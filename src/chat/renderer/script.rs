//! What a template is given for a conversation, and the texts that it makes of it.

use std::borrow::Cow;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::habits::Habits;
use crate::chat::conversation::Conversation;
use crate::chat::literal::{self, MARK, Marker};
use crate::chat::message::{Message, Role};
use crate::chat::template::{ChatTemplate, Rendering};
use crate::chat::tools::Tool;
use crate::error::{Error, Result};

/// A conversation as a template gets it.
pub(super) struct Script<'a> {
    template: &'a ChatTemplate,
    messages: Cow<'a, [Message]>,
    tools: &'a [Tool],
    template_args: &'a Map<String, Value>,
    /// With marks; `None` if nothing needs one.
    marked: Option<Marked>,
    now: SystemTime,
}

struct Marked {
    messages: Vec<Message>,
    tools: Vec<Tool>,
    template_args: Map<String, Value>,
}

impl<'a> Script<'a> {
    /// A `marker` of `None` lets strings of messages become tokens.
    pub(super) fn new(
        template: &'a ChatTemplate,
        conversation: &'a Conversation,
        habits: Habits,
        marker: Option<&Marker>,
    ) -> Result<Self> {
        let Conversation { messages, tools, template_args } = conversation;
        let taken: Vec<Cow<'_, Message>> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| habits.message(index, message))
            .collect::<Result<_>>()?;
        let mut messages: Cow<'_, [Message]> = if taken.iter().all(|message| matches!(message, Cow::Borrowed(_))) {
            Cow::Borrowed(messages)
        } else {
            Cow::Owned(taken.into_iter().map(Cow::into_owned).collect())
        };
        // Arguments that are given as a text may have it as an escape.
        literal::check(&messages, tools, template_args)?;
        let mut marked = marker.and_then(|marker| {
            let marked_messages: Vec<_> = messages.iter().map(|message| marker.message(message)).collect();
            let marked_tools: Vec<_> = tools.iter().map(|tool| marker.tool(tool)).collect();
            let marked_args = marker.template_args(template_args);
            let any = marked_messages.iter().any(Option::is_some) || marked_tools.iter().any(Option::is_some);
            (any || marked_args.is_some()).then(|| Marked {
                messages: or(marked_messages, &messages),
                tools: or(marked_tools, tools),
                template_args: marked_args.unwrap_or_else(|| template_args.clone()),
            })
        });
        let speaks = |message: &Message| habits.joins_speech(message);
        if messages.iter().any(speaks) {
            messages.to_mut().iter_mut().for_each(|message| habits.join_speech(message));
            let marked = marked.iter_mut().flat_map(|marked| &mut marked.messages);
            marked.for_each(|message| habits.join_speech(message));
        }
        Ok(Script { template, messages, tools, template_args, marked, now: template.time() })
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The text of the first `len` messages, with marks.
    pub(super) fn render(&self, len: usize, add_generation_prompt: bool) -> Result<String> {
        let text = self.text(None, &self.messages, len, add_generation_prompt)?;
        let Some(marked) = &self.marked else { return Ok(text) };
        let marked_text = self.text(Some(marked), &marked.messages, len, add_generation_prompt)?;
        if literal::without_marks(&marked_text) == text {
            return Ok(marked_text);
        }
        Err(self.changed_by_marks(marked, &text, len, add_generation_prompt))
    }

    /// The text of all messages, where some of them are others.
    pub(super) fn render_changed(&self, change: impl Fn(&mut [Message])) -> Result<String> {
        self.render_some_changed(self.messages.len(), false, change)
    }

    /// The text of the first `len` messages, where some of them are others.
    pub(super) fn render_some_changed(
        &self,
        len: usize,
        add_generation_prompt: bool,
        change: impl Fn(&mut [Message]),
    ) -> Result<String> {
        let messages = self.marked.as_ref().map_or(&*self.messages, |marked| &marked.messages);
        let mut messages = messages.get(..len).unwrap_or(messages).to_vec();
        change(&mut messages);
        self.text(self.marked.as_ref(), &messages, len, add_generation_prompt)
    }

    /// The text of the first `len` of these messages, with the tools and variables that are marked, or as they are.
    fn text(
        &self,
        marked: Option<&Marked>,
        messages: &[Message],
        len: usize,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let messages = messages.get(..len).unwrap_or(messages);
        let (tools, template_args) = match marked {
            Some(marked) => (marked.tools.as_slice(), &marked.template_args),
            None => (self.tools, self.template_args),
        };
        let now = self.now;
        self.template.render_messages(Rendering { messages, tools, template_args, add_generation_prompt, now })
    }

    /// The messages of which the template leaves out a call: the text stays without it if its name and arguments are others.
    pub(super) fn calls_left_out(&self, len: usize, add_generation_prompt: bool) -> Vec<usize> {
        let name = |message: usize, call: usize| format!("other_call_{message}_{call}_");
        let calls = |message: &Message| message.role == Role::Assistant && !message.tool_calls.is_empty();
        if !self.messages.iter().take(len).any(calls) {
            return Vec::new();
        }
        let text = self.render_some_changed(len, add_generation_prompt, |messages| {
            for (index, message) in messages.iter_mut().enumerate() {
                for (number, call) in message.tool_calls.iter_mut().enumerate() {
                    call.name = name(index, number);
                    let arguments = Value::from_iter([(call.name.as_str(), 1)]);
                    let is_text = call.arguments.is_string();
                    call.arguments = if is_text { Value::String(arguments.to_string()) } else { arguments };
                }
            }
        });
        // A template that refuses other calls reads them.
        let Ok(text) = text else { return Vec::new() };
        let messages = self.messages.iter().take(len).enumerate().filter(|(_, message)| calls(message));
        messages
            .filter(|(index, message)| (0..message.tool_calls.len()).any(|call| !text.contains(&name(*index, call))))
            .map(|(index, _)| index)
            .collect()
    }

    /// Names the message whose marks change what the template writes, which is `plain` without them.
    fn changed_by_marks(&self, marked: &Marked, plain: &str, len: usize, add_generation_prompt: bool) -> Error {
        let is_changed = |index: &usize| {
            let mut messages = self.messages.to_vec();
            let (Some(message), Some(new)) = (messages.get_mut(*index), marked.messages.get(*index)) else {
                return false;
            };
            *message = new.clone();
            let alone = self.text(None, &messages, len, add_generation_prompt);
            !alone.is_ok_and(|alone| literal::without_marks(&alone) == plain)
        };
        let place = match (0..len.min(self.messages.len())).find(is_changed) {
            Some(index) => format!("messages[{index}]"),
            None => "a tool or a variable of the template".to_owned(),
        };
        Error::invalid_input(format!(
            "{place} has the text of a special token, which the template reads as more than text"
        ))
        .with_hint("remove that text, or allow special tokens in texts with Renderer::special_tokens_in_text")
    }
}

fn or<T: Clone>(new: Vec<Option<T>>, old: &[T]) -> Vec<T> {
    new.into_iter().zip(old).map(|(new, old)| new.unwrap_or_else(|| old.clone())).collect()
}

/// Whether a text has marks.
pub(super) fn has_marks(text: &str) -> bool {
    text.contains(MARK)
}

//! Text that is only text: strings of messages that look like added tokens of the tokenizer are marked before a template sees
//! them, and the marks are taken out of the rendered text before it is encoded.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use super::content::{Content, Part};
use super::message::{Message, Role};
use super::tools::{Tool, ToolCall};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Stands inside a string that looks like an added token. Unicode reserves it for such uses, so no text has it.
pub(crate) const MARK: char = '\u{FDD0}';

/// The text without marks.
pub(super) fn without_marks(text: &str) -> String {
    text.chars().filter(|c| *c != MARK).collect()
}

/// Marks what looks like an added token.
#[derive(Clone, Debug)]
pub(super) struct Marker {
    tokenizer: Tokenizer,
    /// The ids of tokens that the tokenizer flags as special: text in all messages.
    special: BTreeSet<u32>,
    /// With those that only look like one, such as `<think>`: text in all messages but those of the assistant, which may hold them.
    enclosed: BTreeSet<u32>,
    /// The first bytes of their texts.
    first_bytes: BTreeSet<u8>,
}

/// Which tokens are text.
#[derive(Clone, Copy)]
enum Scope {
    Special,
    Enclosed,
}

impl Scope {
    fn of(role: &Role) -> Self {
        if *role == Role::Assistant { Scope::Special } else { Scope::Enclosed }
    }
}

impl Marker {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let special: BTreeSet<u32> = tokenizer.special_tokens().into_values().collect();
        let mut enclosed = special.clone();
        let mut first_bytes = BTreeSet::new();
        for (token, id) in tokenizer.added_tokens() {
            if special.contains(&id) || looks_like_a_tag(&token) {
                enclosed.insert(id);
                first_bytes.extend(token.bytes().next());
            }
        }
        Marker { tokenizer: tokenizer.clone(), special, enclosed, first_bytes }
    }

    /// The message with marks, if it needs any.
    pub(super) fn message(&self, message: &Message) -> Option<Message> {
        let scope = Scope::of(&message.role);
        let mut changed = Changed(false);
        let marked = Message {
            role: changed
                .or(self.string(message.role.as_str(), scope).map(|role| Role::from(role.as_str())), &message.role),
            content: match &message.content {
                Some(content) => Some(changed.or(self.content(content, scope), content)),
                None => None,
            },
            reasoning_content: changed.option(&message.reasoning_content, |text| self.string(text, scope)),
            tool_calls: message.tool_calls.iter().map(|call| changed.or(self.call(call, scope), call)).collect(),
            tool_call_id: changed.option(&message.tool_call_id, |text| self.string(text, scope)),
            name: changed.option(&message.name, |text| self.string(text, scope)),
            trainable: message.trainable,
            others: changed.or(self.map(&message.others, scope), &message.others),
        };
        changed.0.then_some(marked)
    }

    /// The tool with marks, if it needs any.
    pub(super) fn tool(&self, tool: &Tool) -> Option<Tool> {
        let marked = self.map(tool.as_json(), Scope::Enclosed)?;
        serde_json::from_value(Value::Object(marked)).ok()
    }

    /// Variables of a template with marks, if they need any. Those that are named as tokens are meant as tokens.
    pub(super) fn template_args(&self, args: &Map<String, Value>) -> Option<Map<String, Value>> {
        let mut marked = args.clone();
        let mut changed = false;
        for (_, value) in marked.iter_mut().filter(|(name, _)| !name.ends_with("_token")) {
            if let Some(new) = self.value(value, Scope::Enclosed) {
                *value = new;
                changed = true;
            }
        }
        changed.then_some(marked)
    }

    fn content(&self, content: &Content, scope: Scope) -> Option<Content> {
        match content {
            Content::Text(text) => self.string(text, scope).map(Content::Text),
            Content::Parts(parts) => self.parts(parts, scope).map(Content::Parts),
            Content::Null => None,
        }
    }

    /// Texts that follow each other are read as one: they may have a token in common.
    fn parts(&self, parts: &[Part], scope: Scope) -> Option<Vec<Part>> {
        let mut marked = Vec::with_capacity(parts.len());
        let mut changed = false;
        let both_text = |a: &Part, b: &Part| matches!((a, b), (Part::Text(_), Part::Text(_)));
        for run in parts.chunk_by(both_text) {
            let texts =
                run.iter().filter_map(|part| if let Part::Text(text) = part { Some(text.as_str()) } else { None });
            let whole: String = texts.clone().collect();
            let positions = self.positions(&whole, scope);
            changed |= !positions.is_empty();
            let mut start = 0;
            for part in run {
                marked.push(match part {
                    Part::Text(text) => {
                        let end = start + text.len();
                        let inside = positions.iter().filter(|at| (start..end).contains(*at)).map(|at| at - start);
                        let new = insert_marks(text, inside);
                        start = end;
                        Part::Text(new)
                    }
                    Part::Image(image) => Part::Image(image.clone()),
                    Part::Other(map) => match self.map(map, scope) {
                        Some(map) => {
                            changed = true;
                            Part::Other(map)
                        }
                        None => Part::Other(map.clone()),
                    },
                });
            }
        }
        changed.then_some(marked)
    }

    fn call(&self, call: &ToolCall, scope: Scope) -> Option<ToolCall> {
        let mut changed = Changed(false);
        let marked = ToolCall {
            id: changed.option(&call.id, |text| self.string(text, scope)),
            name: changed.or(self.string(&call.name, scope), &call.name),
            arguments: changed.or(self.value(&call.arguments, scope), &call.arguments),
        };
        changed.0.then_some(marked)
    }

    fn map(&self, map: &Map<String, Value>, scope: Scope) -> Option<Map<String, Value>> {
        let mut changed = Changed(false);
        let marked = map
            .iter()
            .map(|(key, value)| (changed.or(self.string(key, scope), key), changed.or(self.value(value, scope), value)))
            .collect();
        changed.0.then_some(marked)
    }

    fn value(&self, value: &Value, scope: Scope) -> Option<Value> {
        match value {
            Value::String(text) => self.string(text, scope).map(Value::String),
            Value::Object(map) => self.map(map, scope).map(Value::Object),
            Value::Array(values) => {
                let mut changed = Changed(false);
                let marked = values.iter().map(|value| changed.or(self.value(value, scope), value)).collect();
                changed.0.then_some(Value::Array(marked))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => None,
        }
    }

    fn string(&self, text: &str, scope: Scope) -> Option<String> {
        let positions = self.positions(text, scope);
        (!positions.is_empty()).then(|| insert_marks(text, positions.into_iter()))
    }

    /// Where marks belong, ascending: after the first character of each token.
    fn positions(&self, text: &str, scope: Scope) -> Vec<usize> {
        if text.is_ascii() && !self.first_bytes.iter().any(|first| text.as_bytes().contains(first)) {
            return Vec::new();
        }
        let tokens = match scope {
            Scope::Special => &self.special,
            Scope::Enclosed => &self.enclosed,
        };
        let mut positions = BTreeSet::new();
        self.search(text, 0, tokens, &mut positions);
        positions.into_iter().collect()
    }

    /// Also looks for tokens behind the first character of one: a mark there may leave another one whole. A text that the
    /// tokenizer cannot look through is an error later, when it is encoded.
    fn search(&self, text: &str, offset: usize, tokens: &BTreeSet<u32>, positions: &mut BTreeSet<usize>) {
        let mut start = 0;
        for (part, id) in self.tokenizer.split_added_tokens(text).unwrap_or_default() {
            let end = start + part.len();
            if id.is_some_and(|id| tokens.contains(&id)) {
                let leading = part.len() - part.trim_start().len();
                let mut chars = part.trim_start().chars();
                let first = chars.next().map_or(0, char::len_utf8);
                if chars.next().is_some() {
                    let at = start + leading + first;
                    positions.insert(offset + at);
                    if let Some(rest) = text.get(at..end) {
                        self.search(rest, offset + at, tokens, positions);
                    }
                }
            }
            start = end;
        }
    }
}

/// Refuses a conversation that has the character of marks, by the place of it.
pub(super) fn check(messages: &[Message], tools: &[Tool], template_args: &Map<String, Value>) -> Result<()> {
    let place = match messages.iter().position(has_mark) {
        Some(index) => format!("messages[{index}]"),
        None if has_mark(&tools) => "a tool".to_owned(),
        None if has_mark(template_args) => "a variable of the template".to_owned(),
        None => return Ok(()),
    };
    Err(Error::invalid_input(format!("{place} has the character U+FDD0, which is no text"))
        .with_hint("remove it: Unicode reserves it for the use inside of programs"))
}

fn has_mark(value: &impl Serialize) -> bool {
    serde_json::to_string(value).is_ok_and(|json| json.contains(MARK))
}

fn looks_like_a_tag(token: &str) -> bool {
    let enclosed = |open, close| token.starts_with(open) && token.ends_with(close);
    token.chars().nth(1).is_some() && (enclosed('<', '>') || enclosed('[', ']') || enclosed('｜', '｜'))
}

fn insert_marks(text: &str, positions: impl Iterator<Item = usize>) -> String {
    let mut marked = String::with_capacity(text.len() + 3);
    let mut start = 0;
    for at in positions {
        marked.push_str(text.get(start..at).unwrap_or_default());
        marked.push(MARK);
        start = at;
    }
    marked.push_str(text.get(start..).unwrap_or_default());
    marked
}

/// Whether anything was changed.
struct Changed(bool);

impl Changed {
    fn or<T: Clone>(&mut self, new: Option<T>, old: &T) -> T {
        self.0 |= new.is_some();
        new.unwrap_or_else(|| old.clone())
    }

    fn option(&mut self, old: &Option<String>, new: impl Fn(&str) -> Option<String>) -> Option<String> {
        old.as_ref().map(|old| self.or(new(old), old))
    }
}

//! A model's reply: as JSON, and as a person reads it, with reasoning dimmed, then the content, then the calls of tools.

use std::io::{self, IsTerminal};

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::Style;
use serde::Serialize;
use tinkex::chat::{Message, Reply, ReplyEnd, ToolCall};

use crate::screen;
use crate::text::multi_line;

const DIMMED: Style = Style::new().dimmed();

/// A reply, and how it ended.
#[derive(Debug, Serialize)]
pub(crate) struct ReadReply {
    pub(crate) message: Message,
    end: End,
    /// What is wrong with a reply that does not follow the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The whole text, with special tokens.
    raw: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Complete,
    CutOff,
    Malformed,
}

impl From<Reply> for ReadReply {
    fn from(reply: Reply) -> Self {
        let Reply { message, end, raw, .. } = reply;
        let (end, problem) = match end {
            ReplyEnd::Complete => (End::Complete, None),
            ReplyEnd::CutOff => (End::CutOff, None),
            ReplyEnd::Malformed(problem) => (End::Malformed, Some(problem)),
            _ => (End::Malformed, Some("it ended in a way that this program does not know".to_owned())),
        };
        ReadReply { message, end, problem, raw }
    }
}

impl ReadReply {
    /// Says on stderr why a reply is not complete.
    pub(crate) fn note_end(&self) {
        match self.end {
            End::Complete => {}
            End::CutOff => screen::line("the reply was cut off: see --max-tokens"),
            End::Malformed => {
                let problem = self.problem.as_deref().unwrap_or_default();
                screen::line(format_args!("the reply does not follow the model's format: {problem}"));
            }
        }
    }
}

/// Where a reply is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page {
    /// Control characters are escaped.
    is_terminal: bool,
    has_colors: bool,
}

impl Page {
    pub(crate) fn stdout() -> Page {
        let stdout = io::stdout();
        let has_colors = AutoStream::choice(&stdout) != ColorChoice::Never;
        Page { is_terminal: stdout.is_terminal(), has_colors }
    }

    /// Text of the model or of a file.
    pub(crate) fn text(self, text: &str) -> String {
        if self.is_terminal { multi_line(text) } else { text.to_owned() }
    }

    fn dimmed(self, text: &str) -> String {
        let text = self.text(text);
        if self.has_colors { format!("{DIMMED}{text}{DIMMED:#}") } else { text }
    }

    /// The parts of a message that it has, with an empty line after the reasoning.
    pub(crate) fn message(self, message: &Message) -> String {
        let reasoning = message.reasoning_content.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let content = message.text();
        let mut parts: Vec<String> = reasoning.map(|text| self.dimmed(text) + "\n").into_iter().collect();
        if !content.is_empty() || message.tool_calls.is_empty() {
            parts.push(self.text(&content));
        }
        parts.extend(message.tool_calls.iter().map(|call| self.text(&call_text(call))));
        parts.join("\n")
    }
}

/// A call as a line: `name({"argument": "value"})`.
pub(crate) fn call_text(call: &ToolCall) -> String {
    let arguments = call.arguments.as_str().map_or_else(|| call.arguments.to_string(), str::to_owned);
    format!("{}({arguments})", call.name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reply_has_reasoning_content_and_calls() {
        let (plain, terminal) =
            (Page { is_terminal: false, has_colors: false }, Page { is_terminal: true, has_colors: true });
        let mut message = Message::assistant("Hi\u{1b}[2J");
        assert_eq!(plain.message(&message), "Hi\u{1b}[2J");
        assert_eq!(terminal.message(&message), "Hi\\u{1b}[2J");
        message.reasoning_content = Some("\nHm.\n".to_owned());
        assert_eq!(terminal.message(&message), "\u{1b}[2mHm.\u{1b}[0m\n\nHi\\u{1b}[2J");
        assert_eq!(plain.message(&message), "Hm.\n\nHi\u{1b}[2J");
        message.tool_calls = vec![ToolCall::new("add", json!({"a": 1})), ToolCall::new("now", "{}")];
        message.content = None;
        message.reasoning_content = None;
        assert_eq!(plain.message(&message), "add({\"a\":1})\nnow({})");
        assert_eq!(plain.message(&Message::assistant("")), "");
    }
}

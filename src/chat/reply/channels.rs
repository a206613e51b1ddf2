//! Replies that are messages, each with a kind of its own: those of GPT-OSS ("harmony") and of `tml_v0`.

use serde_json::Value;

use super::calls;
use super::codes::Codes;
use super::format::{Meaning, Parts};
use super::output::Output;
use super::scanner;
use crate::chat::tools::ToolCall;

#[derive(Debug)]
pub(super) struct MessagesReply {
    state: State,
    /// Whether each header names a channel, as GPT-OSS has it; else a mark names the kind of content.
    has_channels: bool,
}

#[derive(Debug)]
enum State {
    Outside,
    Header(String),
    Content,
    Reasoning,
    Call {
        name: Option<String>,
        body: String,
    },
    Ended {
        /// Whether another message would continue the reply: one call may follow another.
        may_continue: bool,
    },
}

impl MessagesReply {
    pub(super) fn new(has_channels: bool) -> Self {
        MessagesReply { state: State::Outside, has_channels }
    }

    /// The beginning of the reply's first message, which the prompt has.
    pub(super) fn opening(has_channels: bool, prompt: &str) -> &str {
        let header = if has_channels { "<|start|>assistant" } else { "<|message_model|>" };
        let opening = prompt.rfind(header).and_then(|start| prompt.get(start..)).unwrap_or_default();
        if opening.contains("<|end") { "" } else { opening }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended { .. })
    }

    pub(super) fn feed(&mut self, format: &Parts, buffer: &mut String, output: &mut Output) {
        while let Some((text, mark)) = scanner::next(buffer, &format.marks, |_| true) {
            self.push_text(&text, &format.codes, output);
            if let Some(mark) = mark {
                self.push_mark(mark, &format.codes, output);
            }
        }
    }

    /// The end of the tokens: `rest` is text that might have become a mark.
    pub(super) fn finish(&mut self, rest: &str, codes: &Codes, output: &mut Output) {
        self.push_text(rest, codes, output);
    }

    fn push_text(&mut self, coded: &str, codes: &Codes, output: &mut Output) {
        if coded.is_empty() {
            return;
        }
        match &mut self.state {
            State::Header(text) => text.push_str(coded),
            State::Call { body, .. } => body.push_str(&codes.plain(coded)),
            State::Content => output.push_content(&codes.plain(coded)),
            State::Reasoning => output.push_reasoning(&codes.plain(coded)),
            State::Ended { may_continue } => *may_continue = false,
            State::Outside => {
                // After a message, the official parsers of `tml_v0` do not mind a text.
                if !coded.trim().is_empty() && (self.has_channels || output.is_empty()) {
                    output.problem("a text is in no message");
                }
            }
        }
        if !matches!(self.state, State::Header(_) | State::Ended { .. }) {
            if let Some(token) = codes.structural_token(coded) {
                output.problem(format!("{token} is not expected in a message"));
            }
        }
    }

    fn push_mark(&mut self, mark: Meaning, codes: &Codes, output: &mut Output) {
        let state = std::mem::replace(&mut self.state, State::Outside);
        let next = match mark {
            Meaning::Start => State::Header(String::new()),
            Meaning::EndOfCall => State::Ended { may_continue: true },
            Meaning::Stop => State::Ended { may_continue: false },
            _ => State::Outside,
        };
        self.state = match (state, mark) {
            (State::Ended { may_continue: true }, Meaning::Start) => next,
            (State::Ended { .. }, _) => State::Ended { may_continue: false },
            (State::Header(header), Meaning::Message) => content_of_header(&codes.plain(&header), output),
            (State::Header(_), Meaning::Text) => begin_content(output),
            (State::Header(_), Meaning::Other) => {
                output.problem("a message has a kind of content that is not known");
                begin_content(output)
            }
            (State::Header(_), Meaning::Thinking) => begin_reasoning(output),
            (State::Header(_), Meaning::Invoke) => State::Call { name: None, body: String::new() },
            (State::Header(header), _) => {
                // An empty reply is one.
                if !matches!(header.trim(), "" | "assistant") || !matches!(mark, Meaning::Stop | Meaning::EndOfCall) {
                    output.problem("a message has a header alone");
                }
                next
            }
            (State::Outside, Meaning::Start | Meaning::Stop | Meaning::EndOfCall) => next,
            (State::Outside, _) => {
                output.problem("the end or content of a message is in no message");
                State::Outside
            }
            (State::Content | State::Reasoning | State::Call { .. }, Meaning::Start) => {
                output.problem("a message is not closed");
                next
            }
            (state, Meaning::End | Meaning::EndOfCall | Meaning::Stop) => {
                if mark == Meaning::Stop && !self.has_channels {
                    output.problem("a message is not closed");
                } else if let State::Call { name, body } = state {
                    output.push_calls(call(name, &body).map(|call| vec![call]));
                }
                next
            }
            (state, _) => {
                output.problem("a mark of a header is within a message");
                state
            }
        };
    }
}

fn begin_content(output: &mut Output) -> State {
    if !output.content.is_empty() {
        output.push_content("\n");
    }
    State::Content
}

fn begin_reasoning(output: &mut Output) -> State {
    if !output.reasoning.is_empty() {
        output.push_reasoning("\n");
    }
    State::Reasoning
}

/// The content that a header such as `assistant to=functions.add<|channel|>commentary json` announces.
fn content_of_header(header: &str, output: &mut Output) -> State {
    let mut words = header.split(|character: char| character.is_whitespace() || character == '<');
    // The reply may go on with what others would say: the result of a call is for the assistant, and no call.
    match words.next() {
        Some("assistant") => {}
        author => {
            output.problem(format!("a message is of {:?}, and not of the assistant", author.unwrap_or_default()));
            return begin_content(output);
        }
    }
    let recipient = words.find_map(|word| word.strip_prefix("to="));
    if let Some(recipient) = recipient {
        let name = recipient.strip_prefix("functions.").unwrap_or(recipient);
        return State::Call { name: Some(name.to_owned()), body: String::new() };
    }
    let channel = header.split_once("<|channel|>").map(|(_, rest)| rest);
    let word = |text: &str| {
        text.split(|character: char| character.is_whitespace() || character == '<').next().map(str::to_owned)
    };
    match channel.and_then(word).as_deref() {
        Some("analysis") => begin_reasoning(output),
        Some("final" | "commentary") => {
            if header.contains("functions.") {
                output.problem("the header of a tool call has no to=");
            }
            begin_content(output)
        }
        channel => {
            output.problem(match channel {
                Some(channel) => format!("a message has the channel {channel:?}, which is not known"),
                None => "a message names no channel".to_owned(),
            });
            begin_content(output)
        }
    }
}

fn call(name: Option<String>, body: &str) -> Result<ToolCall, String> {
    let Some(name) = name else { return calls::call_of_json(body, &["args"]) };
    match serde_json::from_str(body) {
        Ok(Value::Object(arguments)) if !name.is_empty() => Ok(ToolCall::new(name, arguments)),
        Ok(_) => Err(format!("the arguments of the call of {name:?} are no JSON object")),
        Err(error) => Err(format!("the arguments of the call of {name:?} are not JSON: {error}")),
    }
}

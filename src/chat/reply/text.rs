//! Replies that are a text with blocks of reasoning and of calls in it.

use super::calls;
use super::codes::Codes;
use super::format::{Meaning, Parts};
use super::output::Output;
use super::scanner;
use crate::chat::syntax::{Calls, Think};
use crate::chat::tools::Tool;

#[derive(Debug)]
pub(super) struct TextReply {
    state: State,
    think: Option<Think>,
    calls: Option<Calls>,
    /// Text that may belong to the format: it is not given out before what follows it is known.
    held: Held,
    /// Whether the next text is at the beginning of a block, where line breaks belong to the format.
    skips_lines: bool,
    /// Whether one space at the beginning belongs to the format.
    skips_space: bool,
    /// Whether the last thing was a block of calls.
    is_after_calls: bool,
    /// Whether the prompt opened the block of reasoning.
    is_opened_by_prompt: bool,
}

#[derive(Debug)]
enum State {
    Content,
    Reasoning,
    Calls(String),
    Ended,
}

/// A text, and what there is to know of it, found as it grows: a reply may be line breaks alone.
#[derive(Debug, Default)]
struct Held {
    text: String,
    /// How many line breaks it ends with.
    lines: usize,
    /// The first character that is no white space.
    first: Option<char>,
}

impl Held {
    fn push(&mut self, text: &str) {
        let lines = text.len() - text.trim_end_matches('\n').len();
        self.lines = if lines == text.len() { self.lines + lines } else { lines };
        self.first = self.first.or_else(|| text.trim_start().chars().next());
        self.text.push_str(text);
    }

    fn is_blank(&self) -> bool {
        self.first.is_none()
    }

    fn clear(&mut self) {
        *self = Held::default();
    }

    /// The whole text; afterwards it is empty.
    fn take(&mut self) -> String {
        std::mem::take(self).text
    }
}

impl TextReply {
    pub(super) fn new(think: Option<Think>, calls: Option<Calls>, prompt: &str) -> Self {
        let in_reasoning = think.is_some() && prompt.trim_end().ends_with("<think>");
        TextReply {
            state: if in_reasoning { State::Reasoning } else { State::Content },
            think,
            calls,
            held: Held::default(),
            skips_lines: in_reasoning && think.is_some_and(|think| think.lines),
            skips_space: prompt.ends_with("Assistant:"),
            is_after_calls: false,
            is_opened_by_prompt: in_reasoning,
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    pub(super) fn feed(&mut self, format: &Parts, tools: &[Tool], buffer: &mut String, output: &mut Output) {
        while !self.has_ended() {
            let is_empty = output.content.is_empty() && self.held.is_blank();
            let token =
                |meaning| format.marks.iter().any(|mark| mark.meaning == meaning && Codes::is_token(&mark.text));
            let is_expected = |meaning| match (&self.state, meaning) {
                (_, Meaning::Stop) => true,
                // As plain text it may be what the reply is about.
                (State::Content, Meaning::ThinkOpen) => is_empty || token(meaning),
                (State::Content, Meaning::ThinkClose) => token(meaning),
                (State::Content, Meaning::CallsOpen) => true,
                (State::Reasoning, Meaning::ThinkClose) => true,
                (State::Calls(_), Meaning::CallsClose) => true,
                _ => false,
            };
            let Some((text, mark)) = scanner::next(buffer, &format.marks, is_expected) else { return };
            self.push_text(&text, format, output);
            if let Some(mark) = mark {
                self.push_mark(mark, format, tools, output);
            }
        }
        buffer.clear();
    }

    /// The end of the tokens: `rest` is text that might have become a mark.
    pub(super) fn finish(&mut self, rest: &str, format: &Parts, output: &mut Output) {
        self.push_text(rest, format, output);
        self.release(output);
    }

    fn push_text(&mut self, coded: &str, format: &Parts, output: &mut Output) {
        if coded.is_empty() || self.has_ended() {
            return;
        }
        if let State::Calls(body) = &mut self.state {
            body.push_str(coded);
            return;
        }
        let is_content = matches!(self.state, State::Content);
        let is_in_block = |token: &str| is_content && self.calls.is_some_and(|kind| calls::is_in_block(kind, token));
        if let Some(token) = format.codes.token_of_format(coded, is_in_block) {
            output.problem(format!("{token} is not expected in a reply"));
        }
        let plain = format.codes.plain(coded);
        let mut text = plain.as_str();
        if self.skips_lines {
            text = text.trim_start_matches('\n');
            self.skips_lines = text.is_empty();
        }
        if std::mem::take(&mut self.skips_space) {
            text = text.strip_prefix(' ').unwrap_or(text);
        }
        self.held.push(text);
        let kept = self.kept_back(output.content.is_empty());
        if kept == self.held.text.len() {
            return;
        }
        let mut text = self.held.take();
        self.held.push(&text.split_off(text.len() - kept));
        self.give_out(&text, output);
    }

    /// How much of the end of the held text may belong to the format.
    fn kept_back(&self, is_first: bool) -> usize {
        let Held { text, lines, first } = &self.held;
        match self.state {
            State::Reasoning if self.think.is_some_and(|think| think.lines) => *lines,
            State::Content if self.is_after_calls && first.is_none() => text.len(),
            // It may be a JSON object.
            State::Content if is_first && self.calls == Some(Calls::Bare) && matches!(first, None | Some('{')) => {
                text.len()
            }
            State::Content if self.calls.is_some_and(|calls| !separator(calls).is_empty()) => *lines,
            _ => 0,
        }
    }

    fn give_out(&mut self, text: &str, output: &mut Output) {
        if text.is_empty() {
            return;
        }
        match self.state {
            State::Reasoning => output.push_reasoning(text),
            _ => {
                self.is_after_calls = false;
                output.push_content(text);
            }
        }
    }

    /// Gives out what was held, unless it is the format's.
    fn release(&mut self, output: &mut Output) {
        let held = self.held.take();
        let is_format = match self.state {
            State::Content => self.is_after_calls && held.trim().is_empty(),
            _ => true,
        };
        if !is_format {
            self.give_out(&held, output);
        }
    }

    fn push_mark(&mut self, mark: Meaning, format: &Parts, tools: &[Tool], output: &mut Output) {
        let lines = self.think.is_some_and(|think| think.lines);
        let state = std::mem::replace(&mut self.state, State::Ended);
        self.state = match (state, mark) {
            (State::Content, Meaning::Stop) => {
                self.state = State::Content;
                self.end_of_content(tools, output);
                State::Ended
            }
            (State::Reasoning, Meaning::Stop)
                if self.is_opened_by_prompt && self.think.is_some_and(|think| think.may_stay_open) =>
            {
                output.take_reasoning_as_content(&self.held.take());
                State::Ended
            }
            (State::Reasoning, Meaning::Stop) => {
                output.problem("the reasoning is not closed");
                State::Ended
            }
            (State::Calls(body), Meaning::Stop) => {
                match self.calls {
                    Some(calls @ (Calls::DeepSeek | Calls::Bare)) => {
                        output.push_calls(calls::read(calls, &body, &format.codes, tools));
                    }
                    _ => output.problem("a tool call is not closed"),
                }
                State::Ended
            }
            (State::Content, Meaning::ThinkOpen) => {
                self.state = State::Content;
                if !output.content.is_empty() {
                    self.release(output);
                }
                self.held.clear();
                if !output.reasoning.is_empty() {
                    output.push_reasoning("\n");
                }
                self.skips_lines = lines;
                State::Reasoning
            }
            (State::Reasoning, Meaning::ThinkClose) => {
                self.held.clear();
                self.skips_lines = lines;
                self.is_opened_by_prompt = false;
                State::Content
            }
            (State::Content, Meaning::ThinkClose) => {
                output.problem("</think> closes no reasoning");
                self.state = State::Content;
                self.release(output);
                self.give_out("</think>", output);
                State::Content
            }
            (State::Content, Meaning::CallsOpen) => {
                self.state = State::Content;
                self.before_calls(output);
                self.skips_lines = false;
                State::Calls(String::new())
            }
            (State::Calls(body), Meaning::CallsClose) => {
                if let Some(calls) = self.calls {
                    output.push_calls(calls::read(calls, &body, &format.codes, tools));
                }
                self.is_after_calls = true;
                State::Content
            }
            (state, _) => state,
        };
    }

    /// Takes off what the format writes between content and calls.
    fn before_calls(&mut self, output: &mut Output) {
        let separator = self.calls.map_or("", separator);
        if output.content.is_empty() && self.held.is_blank() {
            self.held.clear();
        } else if !separator.is_empty() {
            let held = self.held.take();
            let longest = [separator, "\n"].into_iter().find_map(|separator| held.strip_suffix(separator));
            self.held.push(longest.unwrap_or(&held));
        }
        self.release(output);
    }

    fn end_of_content(&mut self, tools: &[Tool], output: &mut Output) {
        if self.calls == Some(Calls::Bare) {
            if let Some(call) = calls::bare_call(&self.held.text, tools) {
                self.held.clear();
                output.push_calls(Ok(vec![call]));
            }
        }
        self.release(output);
    }
}

/// What the format writes between content and the first call.
fn separator(calls: Calls) -> &'static str {
    match calls {
        Calls::Json => "\n",
        Calls::Xml | Calls::Dsml => "\n\n",
        Calls::Glm | Calls::DeepSeek | Calls::Kimi | Calls::Python | Calls::Bare => "",
    }
}

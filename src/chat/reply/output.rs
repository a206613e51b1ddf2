//! What was read of a reply.

use super::ReplyDelta;
use crate::chat::tools::ToolCall;

#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) content: String,
    pub(super) reasoning: String,
    pub(super) calls: Vec<ToolCall>,
    /// The first thing that does not follow the format.
    pub(super) problem: Option<String>,
    deltas: Vec<ReplyDelta>,
}

impl Output {
    pub(super) fn push_content(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.content.push_str(text);
        match self.deltas.last_mut() {
            Some(ReplyDelta::Content(last)) => last.push_str(text),
            _ => self.deltas.push(ReplyDelta::Content(text.to_owned())),
        }
    }

    pub(super) fn push_reasoning(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.reasoning.push_str(text);
        match self.deltas.last_mut() {
            Some(ReplyDelta::Reasoning(last)) => last.push_str(text),
            _ => self.deltas.push(ReplyDelta::Reasoning(text.to_owned())),
        }
    }

    /// What seemed to be reasoning was the content, and ends with this text.
    pub(super) fn take_reasoning_as_content(&mut self, rest: &str) {
        self.content = std::mem::take(&mut self.reasoning) + rest;
    }

    pub(super) fn push_calls(&mut self, calls: Result<Vec<ToolCall>, String>) {
        match calls {
            Ok(calls) => self.calls.extend(calls),
            Err(problem) => self.problem(problem),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.content.is_empty() && self.reasoning.is_empty() && self.calls.is_empty()
    }

    pub(super) fn problem(&mut self, problem: impl Into<String>) {
        if self.problem.is_none() {
            self.problem = Some(problem.into());
        }
    }

    /// What is new since the last time.
    pub(super) fn take_deltas(&mut self) -> Vec<ReplyDelta> {
        std::mem::take(&mut self.deltas)
    }
}

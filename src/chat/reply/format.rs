//! The format of a model's replies, for its tokenizer.

use std::sync::Arc;

use super::codes::Codes;
use super::scanner::Mark;
use crate::chat::syntax::{Body, Calls, ReplySyntax, Think};
use crate::chat::template::ChatTemplate;
use crate::tokenizer::Tokenizer;
use crate::types::Stop;

/// Reads replies. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::chat) struct ReplyFormat(pub(super) Arc<Parts>);

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) codes: Codes,
    pub(super) tokenizer: Tokenizer,
    pub(super) body: Body,
    pub(super) marks: Vec<Mark<Meaning>>,
    stop: Stop,
}

/// What a mark in a reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Stop,
    ThinkOpen,
    ThinkClose,
    CallsOpen,
    CallsClose,
    /// A message begins.
    Start,
    /// The header of a message ends, and its content begins.
    Message,
    /// A message ends, and another may follow.
    End,
    /// A message ends that is a call; the reply ends if no other message follows.
    EndOfCall,
    /// The header ends, and a content of this kind begins.
    Text,
    Thinking,
    Invoke,
    Other,
}

impl ReplyFormat {
    pub(in crate::chat) fn new(template: &ChatTemplate, syntax: &ReplySyntax, tokenizer: &Tokenizer) -> Self {
        let codes = Codes::new(tokenizer, template);
        let mut marks: Vec<(&str, Meaning)> = match syntax.body {
            Body::Harmony => vec![
                ("<|start|>", Meaning::Start),
                ("<|message|>", Meaning::Message),
                ("<|end|>", Meaning::End),
                ("<|call|>", Meaning::EndOfCall),
            ],
            Body::Messages => vec![
                ("<|message_model|>", Meaning::Start),
                ("<|content_text|>", Meaning::Text),
                ("<|content_thinking|>", Meaning::Thinking),
                ("<|content_invoke_tool_json|>", Meaning::Invoke),
                ("<|content_xml|>", Meaning::Other),
                ("<|end_message|>", Meaning::End),
            ],
            Body::Text { think, calls } => text_marks(think, calls),
        };
        let end = tokenizer.eos_token().and_then(|id| tokenizer.id_to_token(id));
        for stop in syntax.stop().iter().chain(&end) {
            if !marks.iter().any(|(text, _)| text == stop) {
                marks.push((stop, Meaning::Stop));
            }
        }
        let marks = marks.into_iter().map(|(text, meaning)| Mark { text: codes.code(text), meaning }).collect();
        let stop = stop(syntax, tokenizer);
        ReplyFormat(Arc::new(Parts { codes, tokenizer: tokenizer.clone(), body: syntax.body, marks, stop }))
    }

    /// Where sampling stops.
    pub(in crate::chat) fn stop(&self) -> &Stop {
        &self.0.stop
    }
}

fn text_marks(think: Option<Think>, calls: Option<Calls>) -> Vec<(&'static str, Meaning)> {
    let mut marks = Vec::new();
    if think.is_some() {
        marks.extend([("<think>", Meaning::ThinkOpen), ("</think>", Meaning::ThinkClose)]);
    }
    let (open, close): (&[&str], &[&str]) = match calls {
        Some(Calls::Json | Calls::Xml | Calls::Glm) => (&["<tool_call>"], &["</tool_call>"]),
        Some(Calls::Dsml) => (
            &["<｜DSML｜tool_calls>", "<｜DSML｜function_calls>", "<｜DSML｜ calls>"],
            &["</｜DSML｜tool_calls>", "</｜DSML｜function_calls>", "</｜DSML｜ calls>"],
        ),
        Some(Calls::DeepSeek) => (&["<｜tool▁calls▁begin｜>"], &["<｜tool▁calls▁end｜>"]),
        Some(Calls::Kimi) => (&["<|tool_calls_section_begin|>"], &["<|tool_calls_section_end|>"]),
        Some(Calls::Python) => (&["<|tool_call_start|>"], &["<|tool_call_end|>"]),
        Some(Calls::Bare) => (&["<|python_tag|>"], &[]),
        None => (&[], &[]),
    };
    marks.extend(open.iter().map(|&text| (text, Meaning::CallsOpen)));
    marks.extend(close.iter().map(|&text| (text, Meaning::CallsClose)));
    marks
}

/// Tokens, if the format ends with tokens; those of its stops that the tokenizer does not have cannot be sampled.
fn stop(syntax: &ReplySyntax, tokenizer: &Tokenizer) -> Stop {
    let added = tokenizer.added_tokens();
    let mut tokens: Vec<u32> = syntax.stop().iter().filter_map(|stop| added.get(stop).copied()).collect();
    if syntax.stop().is_empty() {
        tokens.extend(tokenizer.eos_token());
    }
    if tokens.is_empty() && !syntax.stop().is_empty() {
        Stop::Texts(syntax.stop().to_vec())
    } else {
        Stop::Tokens(tokens)
    }
}

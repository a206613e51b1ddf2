//! Replies: tokens as a message.
//!
//! Tokens become a text in which an added token has a code of its own (`codes.rs`), so that `<|im_end|>` as text is never taken for
//! the token. `scanner.rs` finds the marks of the format in it, `text.rs` and `channels.rs` follow them, `calls` reads the blocks.

mod calls;
mod channels;
mod codes;
mod format;
mod output;
mod scanner;
mod text;

use channels::MessagesReply;
use codes::CodedDecoder;
pub(super) use format::ReplyFormat;
use output::Output;
use text::TextReply;

use super::content::Content;
use super::message::Message;
use super::syntax::Body;
use super::tools::Tool;

/// A model's reply. [`Renderer::parse_reply`](crate::chat::Renderer::parse_reply) makes one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Reply {
    /// Content, reasoning and tool calls. A call that is not whole or not valid is not among them. If the prompt had a prefill, the
    /// message begins with it.
    pub message: Message,
    /// Why it ended.
    pub end: ReplyEnd,
    /// The text of all tokens, with special tokens.
    pub raw: String,
}

/// Why a reply ended. [`Renderer::parse_reply`](crate::chat::Renderer::parse_reply) has an example.
#[doc(alias = "ParseTermination")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyEnd {
    /// The model ended it. Tokens after the stop are in [`raw`](Reply::raw) alone.
    Complete,
    /// It has no stop: the limit of tokens was reached first.
    CutOff,
    /// It does not follow the format; what is wrong.
    Malformed(String),
}

/// What new tokens add to a reply. [`ReplyParser`] has an example.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplyDelta {
    /// More of the content.
    Content(String),
    /// More of the reasoning.
    Reasoning(String),
}

/// Reads a reply token by token. [`Renderer::reply_parser`](crate::chat::Renderer::reply_parser) makes one.
///
/// ```
/// use tinkex::Tokenizer;
/// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, ReplyDelta, ReplyEnd};
///
/// let tokenizer = Tokenizer::bytes();
/// let renderer = Renderer::new(ChatTemplate::builtin("plain")?, tokenizer.clone())?;
/// let prompt = renderer.prompt(&Conversation::from([Message::user("Hi")]))?;
///
/// let mut parser = renderer.reply_parser(&prompt);
/// assert_eq!(parser.push(&tokenizer.encode(" Hel")?), [ReplyDelta::Content("Hel".to_owned())]);
/// assert_eq!(parser.push(&tokenizer.encode("lo")?), [ReplyDelta::Content("lo".to_owned())]);
/// parser.push(&[256]);
/// let reply = parser.finish();
/// assert_eq!((reply.message.text().as_str(), reply.end), ("Hello", ReplyEnd::Complete));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Debug)]
pub struct ReplyParser {
    format: ReplyFormat,
    tools: Vec<Tool>,
    tokens: Vec<u32>,
    decoder: CodedDecoder,
    /// What was not read yet.
    buffer: String,
    reader: Reader,
    output: Output,
}

#[derive(Debug)]
enum Reader {
    Text(TextReply),
    Messages(MessagesReply),
}

/// What a reply follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReplyStart<'a> {
    /// The text of the prompt up to the prefill.
    pub(super) prompt: &'a str,
    /// The beginning of the reply that the prompt already has.
    pub(super) prefill: &'a str,
    /// The tools of the conversation.
    pub(super) tools: &'a [Tool],
}

impl ReplyParser {
    pub(super) fn new(format: &ReplyFormat, start: ReplyStart<'_>) -> Self {
        let ReplyStart { prompt, prefill, tools } = start;
        let messages = |has_channels| {
            let reader = MessagesReply::new(has_channels);
            (Reader::Messages(reader), MessagesReply::opening(has_channels, prompt))
        };
        let (reader, opening) = match format.0.body {
            Body::Text { think, calls } => (Reader::Text(TextReply::new(think, calls, prompt)), ""),
            Body::Harmony => messages(true),
            Body::Messages => messages(false),
        };
        let mut parser = ReplyParser {
            format: format.clone(),
            tools: tools.to_vec(),
            tokens: Vec::new(),
            decoder: CodedDecoder::after(prefill, &format.0.codes),
            buffer: format.0.codes.code(&format!("{opening}{prefill}")),
            reader,
            output: Output::default(),
        };
        parser.read();
        parser.output.take_deltas();
        parser
    }

    /// Adds tokens. What may be part of a mark, of a character or of a call is kept for the next ones: the deltas of all tokens
    /// together are the beginning of the message's content and reasoning. One exception: with DeepSeek R1, a reply without reasoning
    /// seems to be reasoning until it ends.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, ReplyDelta};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, Tokenizer::bytes())?;
    /// let prompt = renderer.prompt(&Conversation::from([Message::user("Hi")]))?;
    /// let mut parser = renderer.reply_parser(&prompt);
    /// // The first half of a character.
    /// assert_eq!(parser.push(&[b'H'.into(), 0xC3]), [ReplyDelta::Content("H".to_owned())]);
    /// assert_eq!(parser.push(&[0xA9]), [ReplyDelta::Content("é".to_owned())]);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn push(&mut self, tokens: &[u32]) -> Vec<ReplyDelta> {
        self.tokens.extend_from_slice(tokens);
        for &token in tokens {
            let is_broken = self.decoder.push(token, &self.format.0.codes, &mut self.buffer);
            // What follows the stop changes nothing.
            if is_broken && !self.has_ended() {
                self.output.problem("a character is not whole");
            }
            self.read();
        }
        self.output.take_deltas()
    }

    fn has_ended(&self) -> bool {
        match &self.reader {
            Reader::Text(reader) => reader.has_ended(),
            Reader::Messages(reader) => reader.has_ended(),
        }
    }

    fn read(&mut self) {
        match &mut self.reader {
            Reader::Text(reader) => reader.feed(&self.format.0, &self.tools, &mut self.buffer, &mut self.output),
            Reader::Messages(reader) => reader.feed(&self.format.0, &mut self.buffer, &mut self.output),
        }
    }

    /// The reply.
    ///
    /// ```
    /// use tinkex::Tokenizer;
    /// use tinkex::chat::{ChatTemplate, Conversation, Message, Renderer, ReplyEnd};
    ///
    /// let renderer = Renderer::new(ChatTemplate::builtin("chatml")?, Tokenizer::bytes())?;
    /// let prompt = renderer.prompt(&Conversation::from([Message::user("Hi")]))?;
    /// let reply = renderer.reply_parser(&prompt).finish();
    /// assert_eq!(reply.end, ReplyEnd::CutOff);
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    #[must_use]
    pub fn finish(mut self) -> Reply {
        let has_ended = self.has_ended();
        let format = &self.format.0;
        if !has_ended {
            self.decoder.flush(&format.codes, &mut self.buffer);
            match &mut self.reader {
                Reader::Text(reader) => reader.finish(&self.buffer, format, &mut self.output),
                Reader::Messages(reader) => reader.finish(&self.buffer, &format.codes, &mut self.output),
            }
        }
        let Output { content, reasoning, calls, problem, .. } = self.output;
        let end = match problem {
            Some(problem) => ReplyEnd::Malformed(problem),
            None if has_ended => ReplyEnd::Complete,
            None => ReplyEnd::CutOff,
        };
        let mut message = Message::assistant(Content::Text(content));
        message.reasoning_content = Some(reasoning).filter(|reasoning| !reasoning.is_empty());
        message.tool_calls = calls;
        let raw = format.tokenizer.decode_with_special_tokens(&self.tokens).unwrap_or_default();
        Reply { message, end, raw }
    }
}

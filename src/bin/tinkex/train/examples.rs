//! The examples of the data file, as datums that are built when a batch needs them.
//!
//! [`Examples::line`] is the one place where a line becomes tokens. A line with a prompt is one example; a conversation may be
//! several, since some templates change earlier messages later on.

use std::cell::RefCell;
use std::rc::Rc;

use tinkex::Tokenizer;
use tinkex::chat::{Conversation, ExampleNote, TrainOn};
use tinkex::toolkit::WeightedTokens;
use tinkex::types::{Batch, Datum};

use super::chat_settings::ChatSettings;
use super::completion;
use super::data_file::DataFile;
use super::dataset::{self, ChatOptions, Content};
use super::named::Named;
use crate::failure::Failure;

/// An example of the data file: a part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ExampleId {
    /// Counted as the data file does.
    pub(crate) line: u32,
    /// From 0; always 0 for a line with a prompt.
    pub(crate) part: u32,
}

pub(crate) struct Examples {
    pub(super) file: DataFile,
    pub(super) tokenizer: Tokenizer,
    options: ChatOptions,
    /// For a file with conversations.
    pub(super) chats: Option<ChatSettings>,
    /// The maximum number of tokens of an example, with the last, which is only a target.
    pub(super) max_tokens: Option<usize>,
    /// The conversation that was read last: its examples are often asked for one after another.
    last: RefCell<Option<LastLine>>,
}

struct LastLine {
    line: u32,
    at_most: Option<usize>,
    built: Rc<Line>,
}

/// The examples of a line, which are not cut yet.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) examples: Vec<WeightedTokens>,
    /// Whether it is a conversation.
    pub(super) is_chat: bool,
    /// The number of replies that are trained without the reasoning that they have.
    pub(super) lost_reasoning: usize,
    /// The number of replies that are trained and end with nothing that ends a reply.
    pub(super) without_stop: usize,
}

/// The examples of a step.
pub(crate) struct ExampleBatch {
    pub(crate) batch: Batch,
    /// Number of tokens.
    pub(crate) tokens: u64,
    /// Number of trained tokens.
    pub(crate) trained_tokens: u64,
}

impl Examples {
    /// `max_length` is the maximum number of tokens of a model input.
    pub(crate) fn new(
        file: DataFile,
        tokenizer: Tokenizer,
        options: ChatOptions,
        chats: Option<ChatSettings>,
        max_length: Option<usize>,
    ) -> Self {
        let max_tokens = max_length.map(|length| length.saturating_add(1));
        Examples { file, tokenizer, options, chats, max_tokens, last: RefCell::default() }
    }

    /// The examples of a line; of each, as much as shows that it has more than `at_most` tokens. The inner error is what is wrong
    /// with the line.
    pub(super) fn line(&self, line: u32, at_most: Option<usize>) -> Result<Result<Rc<Line>, String>, Failure> {
        let is_known = |last: &&LastLine| last.line == line && [None, at_most].contains(&last.at_most);
        if let Some(last) = self.last.borrow().as_ref().filter(is_known) {
            return Ok(Ok(Rc::clone(&last.built)));
        }
        let text = self.file.line(line)?;
        let parsed = dataset::parse(&text, &self.options);
        drop(text);
        let built = parsed.and_then(|parsed| match parsed.content {
            Content::Completion { prompt, completion } => {
                let example = completion::tokenize(&self.tokenizer, prompt, &completion, at_most);
                Ok(Line { examples: vec![example.map_err(reason)?], ..Line::default() })
            }
            Content::Chat { conversation, train_on } => self.chat(&conversation, train_on, at_most),
        });
        Ok(built.map(|built| {
            let built = Rc::new(built);
            if built.is_chat {
                self.last.replace(Some(LastLine { line, at_most, built: Rc::clone(&built) }));
            }
            built
        }))
    }

    fn chat(&self, conversation: &Conversation, train_on: TrainOn, at_most: Option<usize>) -> Result<Line, String> {
        let Some(ChatSettings { format, renderer }) = &self.chats else {
            return Err("a conversation, of which the file had none before".to_owned());
        };
        format.check(conversation)?;
        let examples = match at_most {
            Some(at_most) => renderer.clone().max_example_tokens(at_most).examples(conversation, train_on),
            None => renderer.examples(conversation, train_on),
        };
        let examples = examples.map_err(reason)?;
        let (mut lost_reasoning, mut without_stop) = (0, 0);
        for note in &examples.notes {
            match note {
                ExampleNote::ReasoningLeftOut { .. } => lost_reasoning += 1,
                ExampleNote::NoStop { .. } => without_stop += 1,
                ExampleNote::ToolCallsLeftOut { .. } => {
                    let origin = &format.origin;
                    return Err(format!(
                        "the conversation has calls of tools whose names {origin} does not write; pass another --template, or, if it writes their IDs, IDs such as functions.NAME:0"
                    ));
                }
                other => return Err(format!("{other:?}")),
            }
        }
        let examples: Vec<WeightedTokens> =
            examples.examples.iter().map(|example| example.weighted_tokens().clone()).collect();
        let is_longer = |example: &WeightedTokens| at_most.is_some_and(|at_most| example.len() > at_most);
        match examples.iter().any(|example| example.trained_len() > 0 || is_longer(example)) {
            true => Ok(Line { examples, is_chat: true, lost_reasoning, without_stop }),
            false => Err("no tokens to train on after tokenization".to_owned()),
        }
    }

    /// An example, cut to the maximum length.
    pub(super) fn example(&self, id: ExampleId) -> Result<WeightedTokens, Failure> {
        let line = self.line(id.line, self.max_tokens)?;
        let line = line.map_err(|why| Failure::usage(format!("{}: {why}", self.file.place(id.line))))?;
        let mut example = line.examples.get(id.part as usize).cloned().ok_or_else(|| self.file.changed())?;
        if let Some(max_tokens) = self.max_tokens {
            example.truncate(max_tokens);
        }
        Ok(example)
    }

    fn datum(&self, id: ExampleId) -> Result<(Datum, u64, u64), Failure> {
        let example = self.example(id)?;
        if example.trained_len() == 0 {
            let place = self.place(id);
            return Err(Failure::usage(format!("{place}: no tokens to train on after tokenization")));
        }
        Ok((example.datum()?, example.len() as u64, example.trained_len() as u64))
    }

    /// The batch of these examples.
    pub(crate) fn batch(&self, examples: &[ExampleId]) -> Result<ExampleBatch, Failure> {
        let built: Vec<_> = examples.iter().map(|&example| self.datum(example)).collect::<Result<_, _>>()?;
        let tokens = built.iter().map(|(_, tokens, _)| tokens).sum();
        let trained_tokens = built.iter().map(|(_, _, trained)| trained).sum();
        let batch = built.into_iter().map(|(datum, ..)| datum).collect::<Vec<_>>().into();
        Ok(ExampleBatch { batch, tokens, trained_tokens })
    }

    /// `data.jsonl:3`, or `data.jsonl:3 example 2`.
    pub(super) fn place(&self, ExampleId { line, part }: ExampleId) -> String {
        let place = self.file.place(line);
        if part == 0 { place } else { format!("{place} example {}", part + 1) }
    }

    /// Names these examples: `data.jsonl:3, data.jsonl:17`.
    pub(crate) fn places(&self, examples: &[ExampleId]) -> String {
        let mut places = Named::default();
        examples.iter().for_each(|&example| places.add(|| self.place(example)));
        places.to_string()
    }

    /// Divides examples into parts whose lines have this many bytes together, or one example.
    pub(crate) fn parts<'a>(&self, examples: &'a [ExampleId], bytes: usize) -> Vec<&'a [ExampleId]> {
        let (mut parts, mut start, mut size) = (Vec::new(), 0, 0);
        for (end, &example) in examples.iter().enumerate() {
            let line = self.file.line_bytes(example.line);
            if end > start && size + line > bytes {
                parts.extend(examples.get(start..end));
                (start, size) = (end, 0);
            }
            size += line;
        }
        parts.extend(examples.get(start..).filter(|rest| !rest.is_empty()));
        parts
    }
}

/// What is wrong with a line, and what to do about it.
fn reason(error: tinkex::Error) -> String {
    let failure = Failure::from(error);
    match failure.hint_text() {
        "" => failure.message().to_owned(),
        hint => format!("{}; {hint}", failure.message()),
    }
}

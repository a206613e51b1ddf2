//! The examples of the data file, as datums that are built when a batch needs them, and which of them are too long.
//!
//! [`Examples::tokenize`] is the one place where an example becomes tokens: a template of the model's own would be used there.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tinkex::Tokenizer;
use tinkex::toolkit::WeightedTokens;
use tinkex::types::{Batch, Datum};

use super::data_file::DataFile;
use super::dataset;
use crate::failure::Failure;
use crate::human::counted;
use crate::screen::Progress;
use crate::template;

/// No tokenizer makes more tokens of one byte: compatibility decomposition (NFKC) makes 11 bytes of one, at most.
const MAX_TOKENS_PER_BYTE: usize = 12;
/// A longer line is not tokenized as a whole to tell how long it is.
const LINE_THAT_IS_COUNTED: usize = 1 << 20;
/// How many examples are named.
const NAMED: usize = 20;

/// What happens to examples that are too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TooLong {
    /// Refuse the file, and name them.
    #[default]
    Error,
    /// Leave them out.
    Skip,
    /// Drop the tokens at their end.
    Truncate,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TooLong::Error => "error",
            TooLong::Skip => "skip",
            TooLong::Truncate => "truncate",
        })
    }
}

pub(crate) struct Examples {
    file: DataFile,
    tokenizer: Tokenizer,
    /// The maximum number of tokens of an example, with the last, which is only a target.
    max_tokens: Option<usize>,
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
    pub(crate) fn new(file: DataFile, tokenizer: Tokenizer, max_length: Option<usize>) -> Self {
        Examples { file, tokenizer, max_tokens: max_length.map(|length| length.saturating_add(1)) }
    }

    fn tokenize(&self, example: u32, at_most: Option<usize>) -> Result<WeightedTokens, Failure> {
        let line = self.file.line(example)?;
        let parsed =
            dataset::parse(&line).map_err(|why| Failure::usage(format!("{}: {why}", self.file.place(example))))?;
        drop(line);
        let segments = parsed.content.into_segments();
        template::tokenize(&self.tokenizer, &segments, at_most)
            .map_err(|error| Failure::from(error).subject(&self.file.place(example)))
    }

    fn datum(&self, example: u32) -> Result<(Datum, u64, u64), Failure> {
        let mut text = self.tokenize(example, self.max_tokens)?;
        if let Some(max_tokens) = self.max_tokens {
            text.truncate(max_tokens);
        }
        if text.trained_len() == 0 {
            let place = self.file.place(example);
            return Err(Failure::usage(format!("{place}: no tokens to train on after tokenization")));
        }
        Ok((text.datum()?, text.len() as u64, text.trained_len() as u64))
    }

    /// The batch of these examples.
    pub(crate) fn batch(&self, examples: &[u32]) -> Result<ExampleBatch, Failure> {
        let built: Vec<_> = examples.iter().map(|&example| self.datum(example)).collect::<Result<_, _>>()?;
        let tokens = built.iter().map(|(_, tokens, _)| tokens).sum();
        let trained_tokens = built.iter().map(|(_, _, trained)| trained).sum();
        let batch = built.into_iter().map(|(datum, ..)| datum).collect::<Vec<_>>().into();
        Ok(ExampleBatch { batch, tokens, trained_tokens })
    }

    /// Names these examples: `data.jsonl:3, data.jsonl:17`.
    pub(crate) fn places(&self, examples: &[u32]) -> String {
        listed(examples.iter().map(|&example| self.file.place(example)), examples.len())
    }

    /// Divides examples into parts whose lines have this many bytes together, or one example.
    pub(crate) fn parts<'a>(&self, examples: &'a [u32], bytes: usize) -> Vec<&'a [u32]> {
        let (mut parts, mut start, mut size) = (Vec::new(), 0, 0);
        for (end, &example) in examples.iter().enumerate() {
            let line = self.file.line_bytes(example);
            if end > start && size + line > bytes {
                parts.extend(examples.get(start..end));
                (start, size) = (end, 0);
            }
            size += line;
        }
        parts.extend(examples.get(start..).filter(|rest| !rest.is_empty()));
        parts
    }

    /// Tokenizes the examples that may be too long. Returns those that are left out, in order, and what there is to say about
    /// them. With [`TooLong::Error`], an example that is too long is an error.
    pub(crate) fn check_lengths(
        &self,
        too_long: TooLong,
        bar: &Progress,
    ) -> Result<(Vec<u32>, Option<String>), Failure> {
        let Some(max_tokens) = self.max_tokens else { return Ok((Vec::new(), None)) };
        let (mut left_out, mut places, mut longer) = (Vec::new(), Vec::new(), 0_u64);
        let all = u32::try_from(self.file.len()).map_err(|_| Failure::usage("the file has more than 2³² examples"))?;
        bar.set_total(u64::from(all));
        for example in 0..all {
            bar.add(1);
            let bytes = self.file.line_bytes(example);
            if bytes.saturating_mul(MAX_TOKENS_PER_BYTE) <= max_tokens {
                continue;
            }
            let at_most = Some(max_tokens).filter(|_| bytes > LINE_THAT_IS_COUNTED || too_long == TooLong::Truncate);
            let mut text = self.tokenize(example, at_most)?;
            if text.len() <= max_tokens {
                continue;
            }
            longer += 1;
            if places.len() < NAMED {
                let more = if at_most.is_some() { "more than " } else { "" };
                let tokens = if at_most.is_some() { max_tokens - 1 } else { text.len() - 1 };
                places.push(format!("{} ({more}{tokens} tokens)", self.file.place(example)));
            }
            text.truncate(max_tokens);
            if too_long != TooLong::Truncate || text.trained_len() == 0 {
                left_out.push(example);
            }
        }
        if longer == 0 {
            return Ok((left_out, None));
        }
        let limit = max_tokens - 1;
        let (count, places) = (counted(longer, "example"), listed(places.into_iter(), longer as usize));
        match too_long {
            TooLong::Error => Err(Failure::usage(format!("{count} longer than {limit} tokens: {places}"))
                .hint("shorten or remove them, or pass --too-long skip or --too-long truncate")),
            TooLong::Skip => Ok((left_out, Some(format!("skipped {count} longer than {limit} tokens: {places}")))),
            TooLong::Truncate => {
                let note = format!("truncated {count} longer than {limit} tokens: {places}");
                let lost = match left_out.len() {
                    0 => String::new(),
                    lost => format!("; {lost} of them skipped, since none of the tokens that are left is trained"),
                };
                Ok((left_out, Some(note + &lost)))
            }
        }
    }
}

fn listed(places: impl Iterator<Item = String>, count: usize) -> String {
    let places = places.take(NAMED).collect::<Vec<_>>().join(", ");
    match count.saturating_sub(NAMED) {
        0 => places,
        more => format!("{places} and {more} more"),
    }
}

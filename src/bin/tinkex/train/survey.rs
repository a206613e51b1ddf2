//! The pass over all examples before the first step: how many there are, which are too long, and what is lost.

use tinkex::toolkit::WeightedTokens;

use super::bad_lines::BadLines;
use super::examples::{ExampleId, Examples, Line};
use super::named::Named;
use super::too_long::TooLong;
use crate::failure::Failure;
use crate::human::counted;
use crate::screen::Progress;

/// No tokenizer makes more tokens of one byte: compatibility decomposition (NFKC) makes 11 bytes of one, at most.
const MAX_TOKENS_PER_BYTE: usize = 12;
/// A longer line is not tokenized as a whole to tell how long it is.
const LINE_THAT_IS_COUNTED: usize = 1 << 20;

/// What the pass has found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The examples to use, in order.
    pub(crate) examples: Vec<ExampleId>,
    /// Whether there are others, which are too long.
    pub(crate) leaves_out: bool,
    /// What there is to say about all conversations.
    pub(crate) summary: Option<String>,
    /// What is cut, left out or lost.
    pub(crate) warnings: Vec<String>,
}

impl Examples {
    /// Looks at all examples. Fails for lines that cannot be used, and with [`TooLong::Error`] for examples that are too long.
    pub(crate) fn survey(&self, too_long: TooLong, bar: &Progress) -> Result<Survey, Failure> {
        let all = u32::try_from(self.file.len()).map_err(|_| Failure::usage("the file has more than 2³² lines"))?;
        bar.set_total(u64::from(all));
        let (mut bad, mut chats, mut examples) = (BadLines::default(), Chats::default(), Vec::new());
        let mut lengths = Lengths { max_tokens: self.max_tokens.unwrap_or(usize::MAX), ..Lengths::default() };
        for number in 0..all {
            bar.add(1);
            let bytes = self.file.line_bytes(number);
            if self.chats.is_none() && bytes.saturating_mul(MAX_TOKENS_PER_BYTE) <= lengths.max_tokens {
                examples.push(ExampleId { line: number, part: 0 });
                continue;
            }
            let at_most = self.max_tokens.filter(|_| bytes > LINE_THAT_IS_COUNTED);
            let line = match self.line(number, at_most)? {
                Ok(line) => line,
                Err(why) => {
                    bad.add(|| format!("{}: {why}", self.file.place(number)));
                    continue;
                }
            };
            chats.add(&line, || self.file.place(number));
            let is_counted = at_most.is_none();
            for (part, example) in (0..).zip(&line.examples) {
                let id = ExampleId { line: number, part };
                if example.len() <= lengths.max_tokens || lengths.add(example, too_long, is_counted, || self.place(id))
                {
                    examples.push(id);
                }
            }
        }
        bad.check()?;
        let leaves_out = lengths.left_out > 0;
        let origin = self.chats.as_ref().map(|chats| chats.format.origin.to_string()).unwrap_or_default();
        let summary = chats.summary();
        let warnings = lengths.warning(too_long)?.into_iter().chain(chats.warnings(&origin)).collect();
        Ok(Survey { examples, leaves_out, summary, warnings })
    }
}

/// The examples that are too long.
#[derive(Debug, Default)]
struct Lengths {
    max_tokens: usize,
    places: Named,
    left_out: usize,
    /// The trained tokens that are cut.
    cut: usize,
    /// Whether that of one is not known.
    is_uncounted: bool,
}

impl Lengths {
    /// Adds an example. Returns whether it is used.
    fn add(
        &mut self,
        example: &WeightedTokens,
        too_long: TooLong,
        is_counted: bool,
        place: impl FnOnce() -> String,
    ) -> bool {
        let (more, tokens) = if is_counted { ("", example.len()) } else { ("more than ", self.max_tokens) };
        self.places.add(|| format!("{} ({more}{} tokens)", place(), tokens.saturating_sub(1)));
        let kept = example.weights().iter().take(self.max_tokens).skip(1).filter(|weight| **weight != 0.0).count();
        let is_used = too_long == TooLong::Truncate && kept > 0;
        if is_used {
            self.is_uncounted |= !is_counted;
            self.cut += example.trained_len() - kept;
        } else {
            self.left_out += 1;
        }
        is_used
    }

    fn warning(self, too_long: TooLong) -> Result<Option<String>, Failure> {
        let places = self.places;
        if places.count == 0 {
            return Ok(None);
        }
        let (count, limit) = (counted(places.count as u64, "example"), self.max_tokens - 1);
        match too_long {
            TooLong::Error => Err(Failure::usage(format!("{count} longer than {limit} tokens: {places}"))
                .hint("shorten or remove them, or pass --too-long skip or --too-long truncate")),
            TooLong::Skip => Ok(Some(format!("skipped {count} longer than {limit} tokens: {places}"))),
            TooLong::Truncate => {
                let more = if self.is_uncounted { "at least " } else { "" };
                let cut = counted(self.cut as u64, "trained token");
                let lost = match self.left_out {
                    0 => String::new(),
                    lost => format!("; {lost} of them skipped, since none of the tokens that are left is trained"),
                };
                Ok(Some(format!("truncated {count} longer than {limit} tokens, by {more}{cut}: {places}{lost}")))
            }
        }
    }
}

/// The conversations.
#[derive(Debug, Default)]
struct Chats {
    count: usize,
    examples: usize,
    lost_reasoning: Tally,
    without_stop: Tally,
}

/// Conversations with something in some of their messages.
#[derive(Debug, Default)]
struct Tally {
    places: Named,
    messages: usize,
}

impl Tally {
    fn add(&mut self, messages: usize, place: impl FnOnce() -> String) {
        if messages > 0 {
            self.messages += messages;
            self.places.add(place);
        }
    }

    /// What there is to say about the conversations and messages, with the places.
    fn warning(self, says: impl FnOnce(String, String) -> String) -> Option<String> {
        let Tally { places, messages } = self;
        (places.count > 0).then(|| {
            let conversations = counted(places.count as u64, "conversation");
            format!("{}: {places}", says(conversations, counted(messages as u64, "trained message")))
        })
    }
}

impl Chats {
    fn add(&mut self, line: &Line, place: impl Fn() -> String) {
        if line.is_chat {
            self.count += 1;
            self.examples += line.examples.len();
            self.lost_reasoning.add(line.lost_reasoning, &place);
            self.without_stop.add(line.without_stop, &place);
        }
    }

    fn summary(&self) -> Option<String> {
        let count = |count: usize, noun| counted(count as u64, noun);
        let several = (self.examples > self.count).then_some("; the template changes earlier messages later on");
        (self.count > 0).then(|| {
            let (chats, examples) = (count(self.count, "conversation"), count(self.examples, "example"));
            format!("{chats}, {examples}{}", several.unwrap_or_default())
        })
    }

    fn warnings(self, origin: &str) -> impl Iterator<Item = String> {
        let lost = self.lost_reasoning.warning(|conversations, messages| {
            format!("{conversations} lost the reasoning of {messages}, which {origin} leaves out")
        });
        let endless = self.without_stop.warning(|conversations, messages| {
            format!("{conversations} have {messages} that {origin} ends with no stop token, so a model does not learn to stop there")
        });
        [lost, endless].into_iter().flatten()
    }
}

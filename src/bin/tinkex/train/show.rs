//! `--show`: the first examples, with what carries loss marked.

use std::fmt;
use std::io;

use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;
use tinkex::toolkit::WeightedTokens;
use tinkex::types::SupportedModel;
use tinkex::{Tokenizer, TokenizerSource};

use super::base_model;
use super::chat_settings::ChatSettings;
use super::dataset::ChatOptions;
use super::examples::{ExampleId, Examples};
use super::too_long::TooLong;
use super::train_options::Options;
use super::training_data::TrainingData;
use crate::app::App;
use crate::failure::Failure;
use crate::human::counted;
use crate::text::multi_line;
use crate::tokenizer_choice::{self, Found};

const TRAINED: Style = AnsiColor::Green.on_default().bold();
const TITLE: Style = Style::new().dimmed();
/// What becomes of an example that is not used.
const SKIPPED: &str = "too long, skipped";
/// What surrounds trained text without color.
const MARKS: [char; 2] = ['⟦', '⟧'];

#[derive(Serialize)]
struct Shown {
    examples: Vec<ShownExample>,
}

#[derive(Serialize)]
struct ShownExample {
    /// Where it is in the data file.
    place: String,
    tokens: Vec<u32>,
    weights: Vec<f32>,
    /// The text of the tokens; together, the whole text.
    pieces: Vec<Piece>,
    /// What becomes of it if it is longer than the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<&'static str>,
    /// Whether the template leaves out reasoning of its conversation.
    lost_reasoning: bool,
}

/// Text whose tokens are trained, or not.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Piece {
    text: String,
    trained: bool,
}

/// Prints the first examples, instead of training on them.
pub(super) fn run(
    app: &App,
    options: &Options,
    data: TrainingData,
    chat_options: ChatOptions,
    count: usize,
) -> Result<(), Failure> {
    // Downloads alone need no key.
    let config = app.config_for_checks(false)?;
    let models = || Ok::<_, Failure>(app.rest()?.get_server_capabilities()?.supported_models);
    let (tokenizer, source) = match (&options.tokenizer, &options.base_model) {
        (Some(name), _) => tokenizer_choice::named(name, &config)?,
        // The service is asked only for what is nowhere else: it may not be reachable.
        (None, Some(model)) => tokenizer_choice::named(&Tokenizer::id_of_model(model), &config)
            .or_else(|failure| of_service(app, &models().unwrap_or_default(), model).unwrap_or(Err(failure)))?,
        (None, None) => {
            let models = models()?;
            let model = base_model::only_one(&models)?;
            let of_service = of_service(app, &models, model);
            of_service.unwrap_or_else(|| tokenizer_choice::named(&Tokenizer::id_of_model(model), &config))?
        }
    };
    let chats = ChatSettings::find(options, &data, &chat_options, &tokenizer, &source)?;
    let examples = Examples::new(data.file, tokenizer, chat_options, chats, options.max_length);
    let shown = Shown { examples: first(&examples, options.too_long, count)? };
    let colors = AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    app.output.report(&Text { shown: &shown, colors }, &shown)
}

/// The tokenizer of a model, if the service says that it has it itself.
fn of_service(app: &App, models: &[SupportedModel], model: &str) -> Option<Result<Found, Failure>> {
    let known = models.iter().find(|known| known.model_name.as_deref() == Some(model));
    known?.tokenizer_package.clone().map(|package| {
        let (id, config) = (package.id.clone(), app.config()?);
        let source = TokenizerSource::from_env().config(&config).service(&config, package);
        Ok((source.load(&id)?, source))
    })
}

/// The first examples. They are cut if that is what `too_long` says.
fn first(examples: &Examples, too_long: TooLong, count: usize) -> Result<Vec<ShownExample>, Failure> {
    let mut shown = Vec::new();
    // What is not cut is shown whole.
    let at_most = examples.max_tokens.filter(|_| too_long == TooLong::Truncate);
    for line in 0..u32::try_from(examples.file.len()).unwrap_or(u32::MAX) {
        let built = examples.line(line, at_most)?;
        let built = built.map_err(|why| Failure::usage(format!("{}: {why}", examples.file.place(line))))?;
        for (part, example) in (0..).zip(&built.examples) {
            if shown.len() == count {
                return Ok(shown);
            }
            let mut example = example.clone();
            let max_tokens = examples.max_tokens.filter(|max_tokens| example.len() > *max_tokens);
            let length = max_tokens.map(|max_tokens| match too_long {
                TooLong::Truncate => {
                    example.truncate(max_tokens);
                    if trained_tokens(example.weights()) > 0 { "cut" } else { SKIPPED }
                }
                TooLong::Skip => SKIPPED,
                TooLong::Error => "too long",
            });
            shown.push(ShownExample {
                place: examples.place(ExampleId { line, part }),
                pieces: pieces(&examples.tokenizer, &example)?,
                tokens: example.tokens().to_vec(),
                weights: example.weights().to_vec(),
                length,
                lost_reasoning: built.lost_reasoning > 0,
            });
        }
    }
    Ok(shown)
}

/// Nothing comes before the first token to predict it from.
fn trained_tokens(weights: &[f32]) -> usize {
    weights.iter().skip(1).filter(|weight| **weight != 0.0).count()
}

/// The text of an example, divided where the loss begins or ends.
fn pieces(tokenizer: &Tokenizer, example: &WeightedTokens) -> Result<Vec<Piece>, Failure> {
    let text = |tokens: &[u32]| tokenizer.decode_with_special_tokens(tokens);
    // Nothing comes before the first token to predict it from.
    let trained = |(index, weight): (usize, &f32)| index > 0 && *weight != 0.0;
    let flags: Vec<bool> = example.weights().iter().enumerate().map(trained).collect();
    let (mut pieces, mut start, mut before) = (Vec::new(), 0, String::new());
    for run in flags.chunk_by(|left, right| left == right) {
        let end = start + run.len();
        // Some tokenizers leave out the space before the first token, so a run is not decoded by itself.
        let until = text(example.tokens().get(..end).unwrap_or_default())?;
        let piece = match until.strip_prefix(&*before) {
            Some(piece) => piece.to_owned(),
            None => text(example.tokens().get(start..end).unwrap_or_default())?,
        };
        pieces.push(Piece { text: piece, trained: run.first() == Some(&true) });
        (start, before) = (end, until);
    }
    Ok(pieces)
}

/// The examples for a person.
struct Text<'a> {
    shown: &'a Shown,
    colors: bool,
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, example) in self.shown.examples.iter().enumerate() {
            let trained = trained_tokens(&example.weights);
            let length = example.length.map(|length| format!(", {length}")).unwrap_or_default();
            let lost = if example.lost_reasoning { ", reasoning left out" } else { "" };
            let tokens = counted(example.tokens.len() as u64, "token");
            let title = format!("{}: {tokens}, {trained} trained{length}{lost}", example.place);
            let gap = if index == 0 { "" } else { "\n\n" };
            match self.colors {
                true => writeln!(f, "{gap}{TITLE}{title}{TITLE:#}")?,
                false => writeln!(f, "{gap}{title}")?,
            }
            for piece in &example.pieces {
                let text = multi_line(&piece.text);
                match (piece.trained, self.colors) {
                    (false, _) => f.write_str(&text)?,
                    (true, false) => write!(f, "{}{text}{}", MARKS[0], MARKS[1])?,
                    (true, true) => write!(f, "{TRAINED}{}{TRAINED:#}", with_visible_end(&text))?,
                }
            }
        }
        Ok(())
    }
}

/// Shows line breaks at the end of a text, whose color could not be seen.
fn with_visible_end(text: &str) -> String {
    let body = text.trim_end_matches('\n');
    format!("{body}{}", "⏎\n".repeat(text.len() - body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        let bytes = Tokenizer::bytes();
        let tokens = |text: &str| bytes.encode(text).unwrap();
        let example = WeightedTokens::new().context(tokens("Q: é\nA:")).trained(tokens(" x\n")).trained([256]);
        let pieces = pieces(&bytes, &example).unwrap();
        let (tokens, weights) = (example.tokens().to_vec(), example.weights().to_vec());
        Shown {
            examples: vec![ShownExample {
                place: "d:1".to_owned(),
                tokens,
                weights,
                pieces,
                length: None,
                lost_reasoning: false,
            }],
        }
    }

    #[test]
    fn pieces_divide_the_text_by_loss() {
        let piece = |text: &str, trained| Piece { text: text.to_owned(), trained };
        assert_eq!(shown().examples[0].pieces, [piece("Q: é\nA:", false), piece(" x\n<|endoftext|>", true)]);
        // The first token is never trained.
        let first = pieces(&Tokenizer::bytes(), &WeightedTokens::new().trained([97, 98])).unwrap();
        assert_eq!(first, [piece("a", false), piece("b", true)]);
    }

    #[test]
    fn marks_replace_colors() {
        let text = |colors| Text { shown: &shown(), colors }.to_string();
        assert_eq!(text(false), "d:1: 12 tokens, 4 trained\nQ: é\nA:⟦ x\n<|endoftext|>⟧");
        assert!(text(true).ends_with("Q: é\nA:\u{1b}[1m\u{1b}[32m x\n<|endoftext|>\u{1b}[0m"), "{:?}", text(true));
        assert_eq!(with_visible_end("a\nb\n\n"), "a\nb⏎\n⏎\n");
    }
}

//! `tinkex sample`: text from a model.

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use tinkex::types::{ModelInput, SamplingParams, StopReason};
use tinkex::{SampleOptions, ServiceClient};

use crate::app::App;
use crate::errors::Failure;
use crate::render::{self, Role};
use crate::tokenizer;

/// Let a model go on from a prompt, and print what it says.
///
/// The prompt is the argument, a file or stdin, as it is. With --format json, the document has the tokens and their
/// log-probabilities besides the text.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The prompt; else stdin is read.
    #[arg(conflicts_with = "prompt_file")]
    prompt: Option<String>,
    /// Read the prompt from this file.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// A base model, or the tinker:// path of saved sampler weights.
    #[arg(short, long, value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    model: String,
    /// Ask as `tinkex train` renders chats: the prompt is what the user says, the sample what the assistant answers.
    #[arg(long)]
    chat: bool,
    /// What the system says first in the chat.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// The most tokens of a sample.
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: u32,
    /// 0 takes the most likely token each time; 1 samples from the model's own distribution.
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Sample among so many of the most likely tokens; -1 is all.
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    top_k: i32,
    /// Sample among the most likely tokens that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// The same seed gives the same sample.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Stop at this text; may be repeated.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// How many samples are taken.
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    num_samples: u32,
    /// Use this tokenizer in place of the model's: `bytes`, a tokenizer.json, its directory, or an id on the Hugging Face hub.
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
}

#[derive(Serialize)]
struct Samples {
    model: String,
    prompt: String,
    prompt_tokens: Vec<u32>,
    samples: Vec<Sample>,
}

#[derive(Serialize)]
struct Sample {
    text: String,
    tokens: Vec<u32>,
    logprobs: Option<Vec<f32>>,
    stop_reason: StopReason,
}

/// The texts, each on lines of its own.
struct Texts<'a>(&'a [Sample]);

impl fmt::Display for Texts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_terminal = io::stdout().is_terminal();
        let texts = self.0.iter().map(|sample| if is_terminal { harmless(&sample.text) } else { sample.text.clone() });
        f.write_str(&texts.collect::<Vec<_>>().join("\n"))
    }
}

/// A text that does not steer the terminal: line ends and tabs stay, other control characters are escaped.
fn harmless(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\t' => character.to_string(),
        control if control.is_control() => control.escape_unicode().to_string(),
        other => other.to_string(),
    };
    text.chars().map(shown).collect()
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let mut params = SamplingParams::default()
        .max_tokens(options.max_tokens)
        .temperature(options.temperature)
        .top_k(options.top_k)
        .top_p(options.top_p);
    params.seed = options.seed;
    if !options.stop.is_empty() {
        params = params.stop(options.stop.clone());
    }
    params.validate().map_err(|error| Failure::usage(error.to_string()))?;
    let config = app.config()?;
    let prompt = prompt(app, options)?;

    app.reach(&config)?;
    let service = ServiceClient::connect(config)?;
    let sampler = service.create_sampling_client(&options.model)?;
    let tokenizer = tokenizer::chosen(options.tokenizer.as_deref(), service.config(), || sampler.tokenizer())?;
    let input = ModelInput::from_text(&tokenizer, &prompt)?;
    let asked = SampleOptions::new(&input).num_samples(options.num_samples).sampling_params(params);
    let reply = sampler.sample_with(asked)?;
    let samples = reply
        .sequences
        .into_iter()
        .map(|sequence| {
            let text = tokenizer.decode(&sequence.tokens)?;
            let (tokens, logprobs, stop_reason) = (sequence.tokens, sequence.logprobs, sequence.stop_reason);
            Ok(Sample { text, tokens, logprobs, stop_reason })
        })
        .collect::<tinkex::Result<Vec<_>>>()?;
    let prompt_tokens = input.to_tokens()?;
    let samples = Samples { model: options.model.clone(), prompt, prompt_tokens, samples };
    app.output.report(&Texts(&samples.samples), &samples)
}

/// The prompt, as the model reads it.
fn prompt(app: &App, options: &Options) -> Result<String, Failure> {
    let text = match (&options.prompt, &options.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", file.display())))?,
        (None, None) => {
            if io::stdin().is_terminal() {
                app.output.note("type the prompt, and end it with Ctrl-D on a line of its own");
            }
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.map_err(|error| {
                Failure::usage(format!("stdin cannot be read: {error}")).hint("a prompt is text in UTF-8")
            })?;
            text
        }
    };
    if !options.chat {
        return Ok(text);
    }
    let system = options.system.as_deref().map(|system| (Role::System, system));
    // A line end that only ends the input is no part of what is said.
    let said = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(render::chat_prompt(&system.into_iter().chain([(Role::User, said)]).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\n\tb\u{1b}[2J\r"), "a\n\tb\\u{1b}[2J\\u{d}");
    }
}

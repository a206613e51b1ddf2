//! `tinkex sample`: generates text.

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
use crate::failure::Failure;
use crate::number::{self, at_least};
use crate::offered;
use crate::template::{self, Role};
use crate::text::multi_line;
use crate::tokenizer_choice;

/// Generate text from a prompt.
///
/// The prompt comes from the argument, a file or stdin, and is used verbatim unless --chat is given. With --format json, the
/// document has the tokens and their log-probabilities as well as the text.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Prompt [default: read from stdin].
    #[arg(conflicts_with = "prompt_file")]
    prompt: Option<String>,
    /// Read the prompt from this file.
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// Base model, or path of sampler weights, such as tinker://RUN_ID/sampler_weights/NAME.
    // `train` calls it --base-model, whose nearest name here is --base-url.
    #[arg(short, long, alias = "base-model", value_name = "NAME|PATH", value_parser = NonEmptyStringValueParser::new())]
    model: String,
    /// Format the prompt as a user message, as `tinkex train` formats chats; the samples are the assistant's replies.
    #[arg(long)]
    chat: bool,
    /// System message of the chat.
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,
    /// Maximum number of tokens to generate per sample.
    #[arg(long, value_name = "N", default_value_t = 256, allow_negative_numbers = true, value_parser = at_least(1_u32))]
    max_tokens: u32,
    /// Sampling temperature: 0 always picks the most likely token, 1 samples from the model's distribution.
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number::finite)]
    temperature: f64,
    /// Sample from the N most likely tokens; -1 for all tokens.
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, value_parser = at_least(-1_i32))]
    top_k: i32,
    /// Nucleus sampling: sample from the most likely tokens whose probabilities add up to P.
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true, value_parser = number::finite)]
    top_p: f64,
    /// Random seed, for reproducible samples.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(0_u64))]
    seed: Option<u64>,
    /// Stop sequence: end a sample at this text; can be repeated.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Number of samples to generate.
    #[arg(short, long, value_name = "N", default_value_t = 1, allow_negative_numbers = true, value_parser = at_least(1_u32))]
    num_samples: u32,
    /// Tokenizer to use instead of the model's own: `bytes`, a tokenizer.json, its directory, or an ID on the Hugging Face Hub.
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

/// Prints the texts of the samples, each beginning on a new line.
struct Texts<'a>(&'a [Sample]);

impl fmt::Display for Texts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_terminal = io::stdout().is_terminal();
        let texts =
            self.0.iter().map(|sample| if is_terminal { multi_line(&sample.text) } else { sample.text.clone() });
        f.write_str(&texts.collect::<Vec<_>>().join("\n"))
    }
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
    params.validate()?;
    let config = app.config()?;
    let prompt = prompt(app, options)?;

    app.require_service(&config)?;
    let samples = App::in_session(config, |service| generate(service, options, params, prompt))?;
    app.output.report(&Texts(&samples.samples), &samples)
}

fn generate(
    service: &ServiceClient,
    options: &Options,
    params: SamplingParams,
    prompt: String,
) -> Result<Samples, Failure> {
    let sampler = service.create_sampling_client(&options.model);
    let sampler = sampler.map_err(|error| offered::explain(error, service, &options.model))?;
    let tokenizer = tokenizer_choice::load(options.tokenizer.as_deref(), service.config(), || sampler.tokenizer())?;
    let input = ModelInput::from_text(&tokenizer, &prompt)?;
    let request = SampleOptions::new(&input).num_samples(options.num_samples).sampling_params(params);
    let response = sampler.sample_with(request)?;
    let samples = response
        .sequences
        .into_iter()
        .map(|sequence| {
            let text = tokenizer.decode(&sequence.tokens)?;
            let text = if options.chat { template::reply(&text).to_owned() } else { text };
            let (tokens, logprobs, stop_reason) = (sequence.tokens, sequence.logprobs, sequence.stop_reason);
            Ok(Sample { text, tokens, logprobs, stop_reason })
        })
        .collect::<tinkex::Result<Vec<_>>>()?;
    let prompt_tokens = input.to_tokens()?;
    Ok(Samples { model: options.model.clone(), prompt, prompt_tokens, samples })
}

/// The prompt as the model receives it.
fn prompt(app: &App, options: &Options) -> Result<String, Failure> {
    let text = match (&options.prompt, &options.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(file)) => fs::read_to_string(file)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?,
        (None, None) => {
            if io::stdin().is_terminal() {
                app.output.note("type the prompt, then press Ctrl-D on an empty line");
            }
            let mut text = String::new();
            let read = io::stdin().read_to_string(&mut text);
            read.map_err(|error| {
                Failure::usage(format!("cannot read stdin: {error}")).hint("the prompt must be UTF-8 text")
            })?;
            text
        }
    };
    if !options.chat {
        return Ok(text);
    }
    let system = options.system.as_deref().map(|system| (Role::System, system));
    // The line break at the end of a file or of `echo` is not part of the message.
    let message = text.strip_suffix('\n').map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(template::chat_prompt(&system.into_iter().chain([(Role::User, message)]).collect::<Vec<_>>()))
}

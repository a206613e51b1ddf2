//! `tinkex sample`: generates text.

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use tinkex::chat::Message;
use tinkex::types::{ModelInput, SamplingParams, StopReason};
use tinkex::{SampleOptions, ServiceClient};

use crate::app::App;
use crate::chat_format;
use crate::conversation_options::{Beginning, ConversationOptions};
use crate::failure::Failure;
use crate::number::at_least;
use crate::reply::{Page, ReadReply};
use crate::sampled_model::SampledModel;
use crate::sampling_options::{MAX_TOKENS, SamplingOptions};

/// Generate text from a prompt.
///
/// The prompt comes from the argument, a file or stdin, and is used verbatim unless --chat is given. With --format json, the
/// document has the tokens and their log-probabilities as well as the text; with --chat also the reply as a message, and why it
/// ended.
#[derive(Args, Debug)]
#[command(mut_group("ConversationOptions", |options| options.requires("chat")))]
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
    /// Send the prompt as a user message in the model's own format; the samples are the assistant's replies.
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    conversation: ConversationOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
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
    /// With `--chat`.
    #[serde(flatten)]
    reply: Option<ReadReply>,
    tokens: Vec<u32>,
    logprobs: Option<Vec<f32>>,
    stop_reason: StopReason,
}

/// Prints the samples, each beginning on a new line.
struct Texts<'a>(&'a [Sample]);

impl fmt::Display for Texts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = Page::stdout();
        let texts = self.0.iter().map(|sample| match &sample.reply {
            Some(reply) => page.message(&reply.message),
            None => page.text(&sample.text),
        });
        f.write_str(&texts.collect::<Vec<_>>().join("\n"))
    }
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let params = options.sampling.params(Some(MAX_TOKENS))?;
    let beginning = options.conversation.read()?;
    let config = app.config()?;
    let text = prompt(app, options)?;

    app.require_service(&config)?;
    let samples = App::in_session(config, |service| generate(app, service, options, &beginning, params, text))?;
    // The document says it itself.
    for reply in samples.samples.iter().filter_map(|sample| sample.reply.as_ref()).filter(|_| !app.output.is_json()) {
        reply.note_end();
    }
    app.output.report(&Texts(&samples.samples), &samples)
}

fn generate(
    app: &App,
    service: &ServiceClient,
    options: &Options,
    beginning: &Beginning,
    params: SamplingParams,
    text: String,
) -> Result<Samples, Failure> {
    let SampledModel { sampler, tokenizer, source } =
        SampledModel::find(service, &options.model, options.tokenizer.as_deref())?;
    let (input, prompt, reader, params) = if options.chat {
        let format = chat_format::find(options.conversation.template.as_deref(), &tokenizer, &source)?;
        app.output.note(format_args!("using {}", format.origin));
        let renderer = format.renderer(&tokenizer)?;
        let stop = options.sampling.stop_of_reply(renderer.stop(), &tokenizer)?;
        format.check_options(beginning)?;
        let prompt = renderer.prompt(&beginning.conversation(vec![Message::user(text)]))?;
        (prompt.input.clone(), prompt.text.clone(), Some((renderer, prompt)), params.stop(stop))
    } else {
        (ModelInput::from_text(&tokenizer, &text)?, text, None, params)
    };
    let request = SampleOptions::new(&input).num_samples(options.num_samples).sampling_params(params);
    let response = sampler.sample_with(request)?;
    let read = |tokens: &[u32]| -> tinkex::Result<_> {
        Ok(match &reader {
            Some((renderer, prompt)) => {
                let reply = ReadReply::from(renderer.parse_reply(prompt, tokens));
                (reply.message.text(), Some(reply))
            }
            None => (tokenizer.decode(tokens)?, None),
        })
    };
    let samples = response
        .sequences
        .into_iter()
        .map(|sequence| {
            let (text, reply) = read(&sequence.tokens)?;
            let (tokens, logprobs, stop_reason) = (sequence.tokens, sequence.logprobs, sequence.stop_reason);
            Ok(Sample { text, reply, tokens, logprobs, stop_reason })
        })
        .collect::<tinkex::Result<Vec<_>>>()?;
    let prompt_tokens = input.to_tokens()?;
    Ok(Samples { model: options.model.clone(), prompt, prompt_tokens, samples })
}

/// The prompt, or the message of a chat.
fn prompt(app: &App, options: &Options) -> Result<String, Failure> {
    let mut text = match (&options.prompt, &options.prompt_file) {
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
    // The line break at the end of a file or of `echo` is not part of a message.
    if options.chat {
        let end = text.strip_suffix('\n').map(|text| text.strip_suffix('\r').unwrap_or(text).len());
        text.truncate(end.unwrap_or(text.len()));
    }
    Ok(text)
}

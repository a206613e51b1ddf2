//! `tinkex chat`: a conversation with a model, at the terminal or from stdin.
//!
//! | file | what it decides |
//! |---|---|
//! | `entry.rs` | what a person types: messages of one or more lines, and commands |
//! | `talk.rs` | what follows from it: the history, replies, results of tools |
//! | `replying.rs` | what Ctrl-C stops |
//! | `piped.rs` | conversations from stdin, and their replies as JSON |

mod entry;
mod piped;
mod replying;
mod talk;

use std::io::{self, IsTerminal};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use tinkex::chat::Renderer;
use tinkex::types::SamplingParams;
use tinkex::{SamplingClient, ServiceClient};

use crate::app::App;
use crate::chat_format::{self, ChatFormat};
use crate::conversation_options::ConversationOptions;
use crate::failure::Failure;
use crate::sampled_model::SampledModel;
use crate::sampling_options::SamplingOptions;

/// Talk to a model.
///
/// At a terminal, each line is a message to the model, and /help lists the commands. Ctrl-C stops a reply and not the program,
/// Ctrl-D ends it.
///
/// Otherwise stdin has one or more conversations as JSON, such as {"messages": [{"role": "user", "content": "Hi"}]}, also in JSON
/// Lines format; "tools" and "chat_template_kwargs" beside the messages are understood. For each, a line of JSON is printed, in the
/// same order: "message", "end" (complete, cut_off or malformed), "raw" (the text with special tokens) and, for a malformed reply,
/// "problem".
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Base model, or path of sampler weights, such as tinker://RUN_ID/sampler_weights/NAME.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    model: String,
    #[command(flatten)]
    conversation: ConversationOptions,
    #[command(flatten)]
    sampling: SamplingOptions,
    /// Tokenizer to use instead of the model's own: `bytes`, a tokenizer.json, its directory, or an ID on the Hugging Face Hub.
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
}

/// A model, and how to talk to it.
struct Partner {
    sampler: SamplingClient,
    renderer: Renderer,
    params: SamplingParams,
    format: ChatFormat,
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let params = options.sampling.params(None)?;
    let beginning = options.conversation.read()?;
    let is_terminal = io::stdin().is_terminal();
    if is_terminal && app.output.is_json() {
        return Err(Failure::usage("--format json is for conversations from stdin, which is a terminal")
            .hint("leave it out, or pass a file: tinkex chat MODEL < conversation.json"));
    }
    let conversations = if is_terminal { Vec::new() } else { piped::read(io::stdin().lock(), &beginning)? };
    let config = app.config()?;
    app.require_service(&config)?;
    App::in_session(config, |service| {
        let partner = Partner::find(service, options, params)?;
        partner.format.check_options(&beginning)?;
        if is_terminal {
            talk::run(app, &options.model, partner, &beginning)
        } else {
            piped::run(app, &partner, &conversations)
        }
    })
}

impl Partner {
    fn find(service: &ServiceClient, options: &Options, params: SamplingParams) -> Result<Partner, Failure> {
        let SampledModel { sampler, tokenizer, source } =
            SampledModel::find(service, &options.model, options.tokenizer.as_deref())?;
        let format = chat_format::find(options.conversation.template.as_deref(), &tokenizer, &source)?;
        let renderer = format.renderer(&tokenizer)?;
        let params = params.stop(options.sampling.stop_of_reply(renderer.stop(), &tokenizer)?);
        Ok(Partner { sampler, renderer, params, format })
    }
}

//! The program `tinkex`: training runs, checkpoints and sessions of a Tinker service, training and sampling from the command
//! line, and the local server.
//!
//! | file | contents |
//! |---|---|
//! | `args.rs` | the commands |
//! | `app.rs` | the global options, and what every command gets: output, configuration, interrupt |
//! | `output.rs` | tables and JSON on stdout, notes on stderr |
//! | `failure.rs` | why a command failed: exit code, message, hint, causes |
//! | `interrupt` | Ctrl-C, SIGTERM and SIGHUP |
//! | `text.rs`, `human.rs` | text that is safe to print; sizes and ages for people |
//! | `screen` | the line at the bottom of the terminal: progress, and what is waited for |
//! | `listing.rs` | `--limit`, `--columns` and titles of lists |
//! | `offered.rs` | the models of the service, for one that it does not have |
//! | `number.rs`, `time_args.rs` | parsers of numbers and times on the command line |
//! | `confirm.rs`, `csv.rs` | questions to the person at the terminal; tables as CSV files |
//! | `chat_format.rs`, `tokenizer_choice.rs` | how chats become tokens, for `train`, `sample`, `eval` and `chat` |
//! | `sampled_model.rs` | a model to sample from, with its tokenizer, for `sample`, `eval`, `chat` and `proxy` |
//! | `sampling_options.rs`, `conversation_options.rs`, `reply.rs` | options of `sample`, `eval` and `chat`, and how a reply is printed |
//! | the others | one command group each: its options, what it does and what it prints |
//!
//! A command is a function from its options and the [`App`](app::App) to a `Result`. It prints through `output` only, so that
//! stdout has one table or one JSON document and nothing else, and a closed pipe ends the program quietly.

mod app;
mod args;
mod auth;
mod billing;
mod chat;
mod chat_format;
mod checkpoint;
mod confirm;
mod conversation_options;
mod csv;
mod doctor;
mod download_bar;
mod eval;
mod export;
mod failure;
mod generate;
mod human;
mod interrupt;
mod listen;
mod listing;
mod model;
mod number;
mod offered;
mod output;
mod proxy;
mod reply;
mod run;
mod sample;
mod sampled_model;
mod sampling_options;
mod screen;
mod serve;
mod session;
mod text;
mod time_args;
mod tokenizer_choice;
mod train;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use app::App;
use args::{Arguments, Command};
use failure::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::report_clap(&error),
    };
    let verbose = arguments.global.verbose;
    let outcome = start(arguments);
    screen::clear();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(verbose),
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    // A short command reports a problem once, as its error. Long ones should also log warnings, such as those of an outage.
    let log = if matches!(arguments.command, Command::Train(_) | Command::Serve(_) | Command::Proxy(_)) {
        "warn"
    } else {
        "error"
    };
    if arguments.global.project.is_some() && !arguments.command.opens_session() {
        return Err(Failure::usage("--project is for commands that open a session, and this one opens none")
            .hint("leave it out; `run list` and `billing checkpoint-storage` have --project-id"));
    }
    let app = App::start(arguments.global, log)?;
    match arguments.command {
        Command::Model(command) => model::run(&app, &command),
        Command::Billing(command) => billing::run(&app, &command),
        Command::Run(command) => run::run(&app, &command),
        Command::Checkpoint(command) => checkpoint::run(&app, &command),
        Command::Session(command) => session::run(&app, &command),
        Command::Sampler(command) => session::run_sampler(&app, &command),
        Command::Auth(command) => auth::run(&app, &command),
        Command::Sample(options) => sample::run(&app, &options),
        Command::Chat(options) => chat::run(&app, &options),
        Command::Eval(options) => eval::run(&app, &options),
        Command::Export(options) => export::run(&app, &options),
        Command::Train(options) => train::run(&app, &options),
        Command::Doctor(options) => doctor::run(&app, &options),
        Command::Serve(options) => serve::run(&app, options),
        Command::Proxy(options) => proxy::run(&app, &options),
        Command::Version => version::run(&app),
        Command::Completions(options) => generate::completions(&app, Arguments::command(), &options),
        Command::Man(options) => generate::man(&app, Arguments::command(), &options),
    }
}

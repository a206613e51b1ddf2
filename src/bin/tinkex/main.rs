//! The program `tinkex`: training runs, checkpoints and sessions of a Tinker service from the command line, and the local
//! server.
//!
//! | file | what it has |
//! |---|---|
//! | `args.rs` | the commands |
//! | `app.rs` | the options that all commands share, and what a command is given: output, configuration, interrupt |
//! | `output.rs` | tables and JSON on stdout, notes on stderr |
//! | `errors.rs` | what ends a command early: exit code, message, hint, causes |
//! | `interrupt.rs` | Ctrl-C and SIGTERM |
//! | `listing.rs`, `human.rs`, `progress.rs` | `--limit` and titles; sizes and ages; progress bars |
//! | `render.rs`, `tokenizer.rs` | how text becomes tokens, for `train` and `sample` |
//! | the others | one command group each: its options, what it does, and what it prints |
//!
//! A command is a function from its options and the [`App`](app::App) to a `Result`. It prints through `output` alone, so that
//! stdout has one table or one JSON document and nothing else, and a closed pipe ends it quietly.

mod app;
mod args;
mod checkpoint;
mod doctor;
mod errors;
mod generate;
mod human;
mod interrupt;
mod listing;
mod output;
mod progress;
mod render;
mod run;
mod sample;
mod serve;
mod session;
mod tokenizer;
mod train;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use app::App;
use args::{Arguments, Command};
use errors::Failure;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return errors::not_understood(&error),
    };
    let verbose = arguments.global.verbose;
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(verbose),
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    // Who waits for a short command is told once, by its error; of long ones, how they go is worth a line.
    let log = if matches!(arguments.command, Command::Train(_) | Command::Serve(_)) { "warn" } else { "error" };
    let app = App::start(arguments.global, log)?;
    match arguments.command {
        Command::Run(command) => run::run(&app, &command),
        Command::Checkpoint(command) => checkpoint::run(&app, &command),
        Command::Session(command) => session::run(&app, &command),
        Command::Sampler(command) => session::sampler(&app, &command),
        Command::Sample(options) => sample::run(&app, &options),
        Command::Train(options) => train::run(&app, &options),
        Command::Doctor(options) => doctor::run(&app, &options),
        Command::Serve(options) => serve::run(&app, options),
        Command::Version => version::run(&app),
        Command::Completions(options) => generate::completions(&app, Arguments::command(), &options),
        Command::Man(options) => generate::man(&app, Arguments::command(), &options),
    }
}

//! The commands. Options of one are in its own file, those that all share in `app`.

use clap::{Parser, Subcommand};

use crate::app::Global;
use crate::{checkpoint, doctor, generate, run, sample, serve, session, train};

/// Fine-tune and sample language models on a Tinker service.
///
/// The key is read from TINKER_API_KEY and the address from TINKER_BASE_URL.
#[derive(Debug, Parser)]
#[command(name = "tinkex", version, max_term_width = 100, after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten, next_help_heading = "Global options")]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Environment:
  TINKER_API_KEY    the key; never an argument, which others could see
  TINKER_BASE_URL   where the service is, unless --base-url says so
  TINKER_LOG        what is logged to stderr: error, warn, info, debug, trace or
                    off; or by module, such as tinkex=debug. Else warn for
                    `train` and `serve`, and error for the others
  TINKER_TELEMETRY  0: the service is not told how `sample` and `train` go
  TINKER_TAGS       tags of their sessions, separated by commas
  CLOUDFLARE_ACCESS_CLIENT_ID, CLOUDFLARE_ACCESS_CLIENT_SECRET
                    the token of a Cloudflare Access gateway
  TINKEX_CACHE, HF_HUB_CACHE, HF_HOME
                    where tokenizers are kept and looked for
  HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE
                    where and how they are downloaded; HF_HUB_OFFLINE=1: not
  ALL_PROXY, HTTPS_PROXY, HTTP_PROXY, NO_PROXY
                    the proxy
  NO_COLOR          no colours

Exit codes:
  0    done, or the reader of the output went away
  1    failed
  2    wrong usage: arguments or settings that make no sense; nothing was done
  130  interrupted

With --format json, stdout has one JSON document and nothing else. Errors are
text on stderr in both formats; without a document, stdout is empty.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Run(run::Run),
    #[command(subcommand)]
    Checkpoint(checkpoint::Command),
    #[command(subcommand)]
    Session(session::Session),
    #[command(subcommand)]
    Sampler(session::Sampler),
    Sample(sample::Options),
    Train(train::Options),
    Serve(serve::Options),
    Doctor(doctor::Options),
    /// Print the version of the program.
    Version,
    Completions(generate::CompletionsOptions),
    Man(generate::ManOptions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn check(command: &clap::Command) {
        for line in command.get_after_long_help().map(ToString::to_string).unwrap_or_default().lines() {
            assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }

    #[test]
    fn texts_with_lines_of_their_own_fit_a_terminal() {
        check(&Arguments::command());
    }
}

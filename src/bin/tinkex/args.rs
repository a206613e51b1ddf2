//! The commands. The options of one command are in its own file, those of all commands in `app`.

use clap::{Parser, Subcommand};

use crate::app::GlobalOptions;
use crate::{
    auth, billing, chat, checkpoint, doctor, eval, export, generate, model, proxy, run, sample, serve, session, train,
};

/// Fine-tune and sample language models on a Tinker service.
///
/// The API key is read from TINKER_API_KEY or was stored by `tinkex auth login`; the URL of the service from TINKER_BASE_URL.
#[derive(Debug, Parser)]
#[command(name = "tinkex", version, max_term_width = 100, after_long_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten, next_help_heading = "Global options")]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Environment:
  TINKER_API_KEY    API key. There is no option for it, since other users could
                    see it in the list of processes
  TINKER_CREDENTIAL_CMD
                    shell command that prints the API key, if TINKER_API_KEY is
                    not set [default: the key stored by `tinkex auth login`]
  TINKER_BASE_URL   URL of the service, unless --base-url is given
  TINKER_LOG        log level on stderr: error, warn, info, debug, trace or off;
                    also by module, such as tinkex=debug [default: warn for
                    `train`, `serve` and `proxy`, error for others]
  TINKER_TELEMETRY  0 turns off telemetry of `sample`, `chat`, `train` and
                    `eval`
  TINKER_TAGS       tags of the sessions of `sample`, `chat`, `train` and
                    `eval`, separated by commas
  TINKER_PROJECT_ID project of these sessions, unless --project is given
  TINKER_WIRE       wire format of training batches: auto, json or protobuf
                    [default: auto]
  CLOUDFLARE_ACCESS_CLIENT_ID, CLOUDFLARE_ACCESS_CLIENT_SECRET
                    service token of Cloudflare Access
  TINKEX_CACHE, HF_HUB_CACHE, HF_HOME
                    cache directories for tokenizers and chat templates
  HF_ENDPOINT, HF_TOKEN
                    mirror of the Hugging Face Hub, and access token for it
  HF_HUB_OFFLINE    1 turns off downloads of tokenizers and templates
  HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY
                    proxy for https, http or both (http://, https://, socks5://
                    or socks5h://), and hosts that are reached without it; also
                    in lower case, read as curl reads them
  SSL_CERT_FILE, SSL_CERT_DIR
                    PEM file, and directories of them, with certificate
                    authorities to trust besides the public ones
  NO_COLOR          turns off colors

Exit codes:
  0    success, also if the reader of the output closed the pipe
  1    failure
  2    invalid arguments or settings; nothing was done
  130  interrupted by Ctrl-C, SIGTERM or SIGHUP; a signal that is ignored when
       the program starts, as by nohup, stays ignored

With --format json, stdout is exactly one JSON document; `serve`, `proxy`,
`completions` and `man` ignore --format. `chat` prints a line of JSON for each
conversation of stdin, in both formats. Errors are text on stderr in both
formats; stdout is then empty unless the command's help says otherwise.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(subcommand)]
    Model(model::ModelCommand),
    #[command(subcommand)]
    Run(run::RunCommand),
    #[command(subcommand)]
    Checkpoint(checkpoint::CheckpointCommand),
    #[command(subcommand)]
    Session(session::SessionCommand),
    #[command(subcommand)]
    Sampler(session::SamplerCommand),
    #[command(subcommand)]
    Billing(billing::BillingCommand),
    #[command(subcommand)]
    Auth(auth::AuthCommand),
    Sample(sample::Options),
    Chat(chat::Options),
    Train(train::Options),
    Eval(eval::Options),
    Export(export::Options),
    Serve(serve::Options),
    Proxy(proxy::Options),
    Doctor(doctor::Options),
    /// Print the version and, with --format json, the features of this build.
    Version,
    Completions(generate::CompletionsOptions),
    Man(generate::ManOptions),
}

impl Command {
    /// Whether it opens a session, so that the options for sessions mean something.
    pub(crate) fn opens_session(&self) -> bool {
        use checkpoint::CheckpointCommand::Download;
        matches!(
            self,
            Command::Sample(_)
                | Command::Chat(_)
                | Command::Train(_)
                | Command::Proxy(_)
                | Command::Eval(_)
                | Command::Export(_)
                | Command::Doctor(_)
                | Command::Checkpoint(Download(_))
        )
    }
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
    fn preformatted_help_fits_80_columns() {
        check(&Arguments::command());
    }
}

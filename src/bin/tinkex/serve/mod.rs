//! `tinkex serve`: the local server as a separate process.

mod help;
mod models;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tinkex::local::{Faults, Flag, LocalServer, WireFormats};

use models::ModelOptions;

use crate::app::App;
use crate::failure::Failure;
use crate::listen::{self, ListenOptions};
use crate::number::at_least;
use crate::time_args::length;

/// Run a local Tinker service with models that can be trained.
///
/// They are tiny ones of bytes, and real ones: a directory in Hugging Face's format, a GGUF file, or an ID on the hub, which is
/// fetched once into the cache.
///
/// When the server is ready, it prints `listening on http://HOST:PORT` on stdout. Set TINKER_BASE_URL to that URL and
/// TINKER_API_KEY to any text. Ctrl-C or SIGTERM stops the server, with exit code 0.
///
/// The server uses plain HTTP and accepts any API key: do not expose it to an untrusted network.
#[derive(Args, Debug)]
#[command(after_long_help = format!("{}\n\n{}", help::CHAOS, help::FLAGS))]
pub(crate) struct Options {
    #[command(flatten)]
    listen: ListenOptions,
    /// Directory to store runs, sessions and checkpoints in, and to load existing ones from [default: keep them in memory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    models: ModelOptions,
    /// Formats of training batches and results that the server takes: both, json (like a server of 2025) or protobuf (like the
    /// newest servers).
    #[arg(long, value_name = "FORMATS", default_value = "both", value_parser = parse_wire)]
    wire: WireFormats,
    /// Setting that the server announces to its clients; can be repeated; see below.
    #[arg(long = "flag", value_name = "NAME=VALUE")]
    flags: Vec<Flag>,
    /// How long a token is valid that a client got in exchange for its key.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = token_life)]
    token_time: Duration,
    /// Size of a result in bytes above which a client that allows it first gets the size alone.
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024, conflicts_with = "stub")]
    metadata_above: usize,
    /// Compute nothing, to measure clients: passes, steps and samples get results of the right form and size, with numbers that mean
    /// nothing. GET /stub returns counts of requests, bytes and connections; POST /stub/release makes all results ready.
    #[arg(long)]
    stub: bool,
    /// When the results of --stub are ready, in milliseconds after the request.
    #[arg(long, value_name = "MS", default_value_t = 0, requires = "stub")]
    stub_delay_ms: u64,
    /// Maximum number of open connections.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_connections: usize,
    /// Rules for injecting faults; see below.
    #[arg(long, value_name = "RULES")]
    chaos: Option<Faults>,
    /// Random seed for rules with a percentage.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "chaos", allow_negative_numbers = true, value_parser = at_least(0_u64))]
    chaos_seed: u64,
}

fn parse_wire(word: &str) -> Result<WireFormats, &'static str> {
    word.parse().map_err(|_| "expected both, json or protobuf")
}

/// A token of no time has expired before it is used.
fn token_life(text: &str) -> Result<Duration, String> {
    let life = length(text)?;
    (!life.is_zero()).then_some(life).ok_or_else(|| "expected 1 second or more".to_owned())
}

pub(crate) fn run(app: &App, options: Options) -> Result<(), Failure> {
    let address = options.listen.address();
    let mut builder = LocalServer::builder()
        .addr(address.as_str())
        .wire(options.wire)
        .token_time(options.token_time)
        .metadata_above(options.metadata_above)
        .max_connections(options.max_connections)
        .fault_seed(options.chaos_seed);
    for origin in options.listen.allowed_origins {
        builder = builder.allow_origin(origin);
    }
    if let Some(directory) = options.data_dir {
        builder = builder.data_dir(directory);
    }
    for model in models::load(app, options.models)? {
        builder = builder.model(model);
    }
    for flag in options.flags {
        builder = builder.flag(flag);
    }
    if options.stub {
        builder = builder.stub(Duration::from_millis(options.stub_delay_ms));
    }
    if let Some(faults) = options.chaos {
        builder = builder.faults(faults);
    }
    let server = builder.start().map_err(|error| listen::explain(error, &address))?;
    app.output.raw(&format_args!("listening on {}", server.base_url()))?;
    app.output.note(format_args!(
        "set TINKER_BASE_URL={} and TINKER_API_KEY to any text; press Ctrl-C to stop",
        server.base_url()
    ));
    app.interrupt.wait();
    server.stop();
    Ok(())
}

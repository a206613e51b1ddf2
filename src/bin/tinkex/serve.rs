//! `tinkex serve`: the local server as a separate process.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tinkex::local::model::Model;
use tinkex::local::transformer::Transformer;
use tinkex::local::{Faults, Flag, LocalServer, WireFormats};

use crate::app::App;
use crate::failure::Failure;
use crate::number::at_least;
use crate::time_args::length;

/// Run a local Tinker service with small models that can be trained.
///
/// When the server is ready, it prints `listening on http://HOST:PORT` on stdout. Set TINKER_BASE_URL to that URL and
/// TINKER_API_KEY to any text. Ctrl-C or SIGTERM stops the server, with exit code 0.
///
/// The server uses plain HTTP and accepts any API key: do not expose it to an untrusted network.
#[derive(Args, Debug)]
#[command(after_long_help = format!("{CHAOS_HELP}\n\n{FLAGS_HELP}"))]
pub(crate) struct Options {
    /// Address to listen on; port 0 picks a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", conflicts_with = "port")]
    addr: String,
    /// Port of 127.0.0.1 to listen on, in place of --addr.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Directory to store runs, sessions and checkpoints in, and to load existing ones from [default: keep them in memory].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Model to serve: tinkex/bytes-tiny, tinkex/bytes-small or tinkex/bytes-medium; can be repeated [default: all].
    #[arg(long = "model", value_name = "NAME", value_parser = parse_model)]
    models: Vec<ServedModel>,
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
    #[arg(long, value_name = "BYTES", default_value_t = 1024 * 1024)]
    metadata_above: usize,
    /// Rules for injecting faults; see below.
    #[arg(long, value_name = "RULES")]
    chaos: Option<Faults>,
    /// Random seed for rules with a percentage.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "chaos", allow_negative_numbers = true, value_parser = at_least(0_u64))]
    chaos_seed: u64,
}

const CHAOS_HELP: &str = "\
Fault rules:
  Rules are separated by `;`. The first rule that matches a request applies.

      ENDPOINT:ACTION[*TIMES][%PERCENT][,SETTING=VALUE ...]

  ENDPOINT  first or last part of the path after /api/v1/, such as asample; or *
  ACTION    status code from 200 to 599: respond with it, without executing the
              request
            reset: reset the connection; silence: never respond
            reset_during, reset_after, lost_response, truncate, malformed:
              execute the request, but do not deliver a complete response
            paused_rate_limit, paused_capacity: respond to a poll that the queue
              is paused
            slow: only delay the request
  TIMES     maximum number of requests that the rule applies to
  PERCENT   probability that the rule applies to a request
  SETTING   after: number of requests that pass before the rule applies
            delay_ms: delay in milliseconds
            with a status code: retry_after, retry_after_ms, should_retry,
              header (NAME:VALUE), detail (message), body (sent verbatim; write
              \\, and \\; for , and ;)
            with a paused queue: reason, form (408 or try_again)

  Example: 'asample:429*3,retry_after_ms=50; *:slow%2.5,delay_ms=20'";

const FLAGS_HELP: &str = "\
Flags:
  Clients of 2026 read these settings of the server. The defaults are those of
  the protocol. A switch is true or false.

    pjwt_auth_enabled=false             exchange the key for a short-lived token
    credential_default_source=api_key   or credential_cmd: where the key is from
    parallel_fwdbwd_chunks=true         send the chunks of a batch in parallel
    fwdbwd_max_chunk_len=1024           datums in a chunk
    fwdbwd_max_chunk_bytes_count=5000000
                                        estimated bytes in a chunk
    fwdbwd_dispatch_bytes_semaphore_size=50000000
                                        estimated bytes of passes being sent
    proto_compress_fwdbwd=false         compress passes with zstd
    sample_dispatch_bytes_semaphore_size=10485760
                                        estimated bytes of samples being sent
    sample_max_concurrent_requests=2000 samples in flight
    sample_no_retries=false             never resubmit an expired sample
    sample_enable_stuck_detection=true  give up samples without progress
    sample_use_retrieve_futures=false   one poll for all samples of a session
    sample_join_sampling_session=false  clones ask the server for their number
    inflight_response_bytes_semaphore_size=52428800
                                        bytes of results being received
    billing_exception_max_pause_duration_sec=3600
                                        how long clients wait after a 402
    custom_loss_server_side=false       run custom losses on the server, which
                                        this server refuses
    use_pyqwest_transport=true          HTTP library of the Python client
    refresh_interval_sec=300            how long the next two hold
    sample_cancel_enabled=false         tell the server of samples given up
    sample_cancel_max_batch_size=64     such requests at once

  Example: --flag fwdbwd_max_chunk_len=8 --flag pjwt_auth_enabled=true";

/// The value of `--model`.
#[derive(Clone, Debug)]
struct ServedModel(Arc<dyn Model>);

fn parse_model(name: &str) -> Result<ServedModel, String> {
    let all = [Transformer::bytes_tiny(), Transformer::bytes_small(), Transformer::bytes_medium()];
    let names: Vec<_> = all.iter().map(|model| model.name().to_owned()).collect();
    let model = all.into_iter().find(|model| model.name() == name);
    model.map(|model| ServedModel(Arc::new(model))).ok_or_else(|| format!("expected one of {}", names.join(", ")))
}

fn parse_wire(word: &str) -> Result<WireFormats, &'static str> {
    word.parse().map_err(|_| "expected both, json or protobuf")
}

/// A token of no time has expired before it is used.
fn token_life(text: &str) -> Result<Duration, String> {
    let life = length(text)?;
    (!life.is_zero()).then_some(life).ok_or_else(|| "expected 1 second or more".to_owned())
}

/// Why the server did not start, with the options that help.
fn explain(error: tinkex::Error, address: &str) -> Failure {
    let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    let failure = Failure::from(error);
    match kind {
        Some(io::ErrorKind::AddrInUse) => failure.hint(format!(
            "another program listens on {address}: choose another port with --port or --addr; port 0 picks a free one"
        )),
        Some(io::ErrorKind::AddrNotAvailable) => {
            failure.hint(format!("{address} is no address of this machine: choose another with --addr"))
        }
        _ => failure,
    }
}

pub(crate) fn run(app: &App, options: Options) -> Result<(), Failure> {
    app.interrupt.catch();
    let address = options.port.map_or(options.addr, |port| format!("127.0.0.1:{port}"));
    let mut builder = LocalServer::builder()
        .addr(address.as_str())
        .wire(options.wire)
        .token_time(options.token_time)
        .metadata_above(options.metadata_above)
        .fault_seed(options.chaos_seed);
    if let Some(directory) = options.data_dir {
        builder = builder.data_dir(directory);
    }
    for ServedModel(model) in options.models {
        builder = builder.model(model);
    }
    for flag in options.flags {
        builder = builder.flag(flag);
    }
    if let Some(faults) = options.chaos {
        builder = builder.faults(faults);
    }
    let server = builder.start().map_err(|error| explain(error, &address))?;
    app.output.raw(&format_args!("listening on {}", server.base_url()))?;
    app.output.note(format_args!(
        "set TINKER_BASE_URL={} and TINKER_API_KEY to any text; press Ctrl-C to stop",
        server.base_url()
    ));
    app.interrupt.wait();
    server.stop();
    Ok(())
}

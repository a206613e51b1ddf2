//! `tinkex serve`: the local server as a process of its own.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tinkex::local::model::Model;
use tinkex::local::transformer::Transformer;
use tinkex::local::{Faults, LocalServer};

use crate::app::App;
use crate::errors::Failure;

/// Run a Tinker service on this machine, with small models that really train.
///
/// The first line on stdout is `listening on http://HOST:PORT`, once the server is ready: set TINKER_BASE_URL to that, and
/// TINKER_API_KEY to any text. Ctrl-C or SIGTERM ends the server, which is success.
///
/// It speaks plain HTTP and takes any key: it is no server for a network that is not trusted.
#[derive(Args, Debug)]
#[command(after_long_help = CHAOS)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    addr: String,
    /// Keep runs, sessions and checkpoints in this directory, and go on from what is there; else all is in memory and ends
    /// with the server.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Offer this model only; may be repeated. Else all of them: tinkex/bytes-tiny, tinkex/bytes-small, tinkex/bytes-medium.
    #[arg(long = "model", value_name = "NAME", value_parser = model)]
    models: Vec<Offered>,
    /// Fail on request, by these rules: see below.
    #[arg(long, value_name = "RULES")]
    chaos: Option<Faults>,
    /// Decides which requests a rate hits: the same number hits the same ones.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "chaos")]
    chaos_seed: u64,
}

const CHAOS: &str = "\
Chaos:
  Rules are separated by `;`. Of those for a request, the first that applies is
  used.

      ENDPOINT:ACTION[*TIMES][%PERCENT][,SETTING=VALUE ...]

  ENDPOINT  the first or last part of the path after /api/v1/, such as asample;
            or *
  ACTION    a status from 200 to 599: that answer, and nothing is carried out
            reset, silence: the connection is reset, or never answered
            reset_during, reset_after, lost_answer, truncate, malformed:
            carried out, but the answer does not arrive whole
            paused_rate_limit, paused_capacity: a poll says that the queue is
            paused
            slow: nothing but the delay
  TIMES     to so many requests only
  PERCENT   to a request with this probability
  SETTING   after (so many requests pass first), delay_ms
            of a status: retry_after, retry_after_ms, should_retry, header
            (NAME:VALUE), detail (the text) or body (as it is; write \\, and \\;
            for , and ;)
            of a queue that is paused: reason, form (408 or try_again)

  Such as 'asample:429*3,retry_after_ms=50; *:slow%2.5,delay_ms=20'.";

/// The model of one `--model`.
#[derive(Clone, Debug)]
struct Offered(Arc<dyn Model>);

fn model(name: &str) -> Result<Offered, String> {
    let all = [Transformer::bytes_tiny(), Transformer::bytes_small(), Transformer::bytes_medium()];
    let names: Vec<_> = all.iter().map(|model| model.name().to_owned()).collect();
    let found = all.into_iter().find(|model| model.name() == name);
    found.map(|model| Offered(Arc::new(model))).ok_or_else(|| format!("the models are {}", names.join(", ")))
}

pub(crate) fn run(app: &App, options: Options) -> Result<(), Failure> {
    app.interrupt.take();
    let mut builder = LocalServer::builder().addr(options.addr).fault_seed(options.chaos_seed);
    if let Some(directory) = options.data_dir {
        builder = builder.data_dir(directory);
    }
    for Offered(model) in options.models {
        builder = builder.model(model);
    }
    if let Some(faults) = options.chaos {
        builder = builder.faults(faults);
    }
    let server = builder.start()?;
    app.output.raw(&format_args!("listening on {}", server.base_url()))?;
    app.output.note(format_args!(
        "set TINKER_BASE_URL={} and TINKER_API_KEY to any text; Ctrl-C ends the server",
        server.base_url()
    ));
    app.interrupt.wait();
    server.stop();
    Ok(())
}

//! A Tinker service on this machine, for any Tinker client.
//!
//! ```text
//! cargo run --release --example serve --features local -- --addr 127.0.0.1:8000 --data-dir tinker-data
//! ```
//!
//! The first line on standard output is `listening on http://HOST:PORT`; use that as `TINKER_BASE_URL`, with any
//! `TINKER_API_KEY`. It runs until it is killed, and goes on from its data directory when it is started again.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use tinkex::local::LocalServer;

const USAGE: &str = "usage: serve [--addr HOST:PORT] [--data-dir DIRECTORY]";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter("TINKER_LOG")).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut builder = LocalServer::builder();
    let mut arguments = std::env::args().skip(1);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(USAGE)?;
        builder = match option.as_str() {
            "--addr" => builder.addr(value),
            "--data-dir" => builder.data_dir(value),
            _ => return Err(USAGE.into()),
        };
    }
    let server = builder.start()?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", server.base_url())?;
    out.flush()?;
    loop {
        std::thread::park();
    }
}

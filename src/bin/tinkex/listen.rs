//! The address that a server of the program listens on.

use std::error::Error as _;
use std::io;

use clap::Args;

use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct ListenOptions {
    /// Address to listen on; port 0 picks a free port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", conflicts_with = "port")]
    addr: String,
    /// Port of 127.0.0.1 to listen on, in place of --addr.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Origin of web pages that may use OpenAI's API from a browser, such as http://localhost:3000, null for files, or * for all; can be
    /// repeated [default: none].
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub(crate) allowed_origins: Vec<String>,
}

impl ListenOptions {
    pub(crate) fn address(&self) -> String {
        self.port.map_or_else(|| self.addr.clone(), |port| format!("127.0.0.1:{port}"))
    }
}

/// Why the server did not start, with the options that help.
pub(crate) fn explain(error: tinkex::Error, address: &str) -> Failure {
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

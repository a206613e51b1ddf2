//! `tinkex version`.

use serde::Serialize;

use crate::app::App;
use crate::failure::Failure;

#[derive(Serialize)]
struct Version {
    version: &'static str,
    features: Vec<&'static str>,
}

pub(crate) fn run(app: &App) -> Result<(), Failure> {
    let all = [
        ("chat", cfg!(feature = "chat")),
        ("cli", cfg!(feature = "cli")),
        ("eval", cfg!(feature = "eval")),
        ("gzip", cfg!(feature = "gzip")),
        ("local", cfg!(feature = "local")),
        ("native-tls", cfg!(feature = "native-tls")),
        ("ndarray", cfg!(feature = "ndarray")),
        ("pretrained", cfg!(feature = "pretrained")),
        ("rustls", cfg!(feature = "rustls")),
        ("sse", cfg!(feature = "sse")),
        ("test-util", cfg!(feature = "test-util")),
        ("tokenizers", cfg!(feature = "tokenizers")),
        ("zstd", cfg!(feature = "zstd")),
    ];
    let features = all.into_iter().filter_map(|(name, on)| on.then_some(name)).collect();
    let version = Version { version: env!("CARGO_PKG_VERSION"), features };
    app.output.report(&format_args!("tinkex {}", version.version), &version)
}

//! What researchers port first, each as short as with the official client and run on the local server.

#[cfg(feature = "chat")]
mod chat;
mod distillation;
mod dpo;
mod evaluation;
mod grpo;
mod resume;
mod supervised;
mod three_ahead;

use tinkex::Config;
use tinkex::local::LocalServer;

/// A server, and a configuration for it.
fn server() -> (LocalServer, Config) {
    let server = LocalServer::start().unwrap();
    let config = Config::builder()
        .base_url(server.base_url())
        .api_key("tml-ports")
        .telemetry(false)
        .build_with(|_| None)
        .unwrap();
    (server, config)
}

/// The lines of the same programs with the official client, counted in the same way; of the chat, with the official cookbook.
const PORTS: [(&str, usize, &str); 8] = [
    ("supervised", 36, include_str!("supervised.rs")),
    ("GRPO", 33, include_str!("grpo.rs")),
    ("DPO", 22, include_str!("dpo.rs")),
    ("distillation", 29, include_str!("distillation.rs")),
    ("chat with masks", 6, include_str!("chat.rs")),
    ("200 prompts evaluated", 18, include_str!("evaluation.rs")),
    ("resume", 23, include_str!("resume.rs")),
    ("three steps ahead", 19, include_str!("three_ahead.rs")),
];

/// The lines from the first import to the end of the first function, without blanks and comments.
fn lines(source: &str) -> usize {
    let (program, _) = source.split_once("\n}\n").unwrap();
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    program.lines().filter(is_code).count() + 1
}

#[test]
fn no_port_is_longer_than_the_official_one() {
    let longer: Vec<_> = PORTS
        .iter()
        .map(|(name, official, source)| (name, lines(source), official))
        .filter(|(_, ours, official)| ours > official)
        .collect();
    assert!(longer.is_empty(), "{longer:?}");
}

#[test]
fn blanks_and_comments_are_not_counted() {
    assert_eq!(lines("use a;\n\n/// Text.\nfn f() {\n    // Why.\n    g();\n}\n\n#[test]\nfn g() {\n}\n"), 4);
}

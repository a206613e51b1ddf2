//! Scenarios of the Python client 0.38.0.
//!
//! Differences on purpose, besides those that a test or a table names:
//!
//! - `sdk_version` is that of the protocol that this crate speaks.
//! - A session is told its end also when the program does not close it (`sessions/ID/finish`).
//! - A poll accepts JSON beside protobuf.
//! - Chunks of a batch are sent in order, each after the promise of the one before: parallel ones can hang.
//!
//! Bodies in protobuf are compared as messages, since the order of a map's entries is not stable.

mod failures;
mod passes;
mod polls;
mod registry;
mod sampling;
mod sessions;
mod training;
mod weights;

use serde_json::Value;

use super::replay::Scenario;

/// Requests that only the Python client sends, and why.
const ONLY_PYTHON: [(&str, &str); 2] = [
    ("get_info", "Python asks as soon as a model exists; this crate when the program asks, or for a tokenizer"),
    ("session_heartbeat", "on a manual clock none is due"),
];

fn start(name: &str) -> Scenario {
    start_without(name, |_| false)
}

/// The same, without these requests and responses.
fn start_without(name: &str, is_left_out: impl Fn(&Value) -> bool) -> Scenario {
    let is_only_pythons =
        |exchange: &Value| ONLY_PYTHON.iter().any(|(path, _)| exchange["path"] == format!("/api/v1/{path}"));
    Scenario::of_2026(name, |exchange| !is_only_pythons(exchange) && !is_left_out(exchange))
}

/// The same, with every request.
fn start_whole(name: &str) -> Scenario {
    Scenario::of_2026(name, |_: &Value| true)
}

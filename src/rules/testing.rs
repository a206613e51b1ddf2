//! What the tests of the rules share: reading the fixtures of the Python client, and an instant to count from.

use std::time::Instant;

use serde_json::Value;

#[allow(dead_code, unreachable_pub, reason = "the integration tests use the rest of it")]
#[path = "../../tests/support/golden.rs"]
mod fixtures;

pub(crate) use self::fixtures::{fixture as golden, fixture_2026 as golden_2026};

/// An instant to count from; std has no constructor for one but the current time.
#[expect(clippy::disallowed_methods, reason = "the rules compare instants and do not care which")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// A list in a fixture.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// A float in a fixture, where NaN and the infinities are written as `{"__float__": "nan"}`.
pub(crate) fn float(value: &Value) -> f64 {
    match value.get("__float__") {
        Some(word) => word.as_str().unwrap().parse().unwrap(),
        None => value.as_f64().unwrap(),
    }
}

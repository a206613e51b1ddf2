//! The same for the Python client 0.38.0, in `tests/golden/v0.38.0`.

mod inputs;
mod tensors;
mod types;
mod words;

use serde_json::Value;

use super::{entries, inner};
use crate::support::golden::fixture_2026;

/// A list in a fixture.
fn cases(fixture: &str, part: &str) -> Vec<Value> {
    entries(&fixture_2026(fixture)[part]).to_vec()
}

//! The wire types against the traffic of the Python client 0.4.1, in `tests/golden/v0.4.1`.
//!
//! If the crate differs on purpose, the test has a table of the differences, by the names in the fixture.

mod model_input;
mod normal;
mod of_2026;
mod parsing;
mod query;
mod requests;
mod responses;
mod tensors;
mod types;

use serde_json::Value;

use crate::support::golden::fixture;

/// The entries of a list in a fixture.
fn entries(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

/// JSON text within a fixture.
fn inner(value: &Value) -> Value {
    serde_json::from_str(value.as_str().unwrap()).unwrap()
}

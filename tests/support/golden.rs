//! The fixtures: traffic and values recorded from the Python client 0.4.1. Shared with the library's unit tests.

use std::fs;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The folder of the fixtures, each a JSON file.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v0.4.1");

/// Reads the fixture with this name.
pub fn fixture(name: &str) -> Value {
    fixture_as(name)
}

/// Reads the fixture with this name as a type, where a JSON tree would lose something.
pub fn fixture_as<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{FOLDER}/{name}.json");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The recorded requests of a scenario with their responses, in order.
pub fn exchanges(name: &str) -> Vec<Value> {
    match fixture(name)["exchanges"].take() {
        Value::Array(exchanges) => exchanges,
        _ => panic!("{name} has no exchanges"),
    }
}

//! The fixtures: traffic and values recorded from the Python client. Shared with the library's unit tests.

use std::fs;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// The folder of the fixtures of the client 0.4.1, each a JSON file.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v0.4.1");

/// The folder of the fixtures of the client 0.38.0.
pub const FOLDER_2026: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v0.38.0");

/// Reads the fixture of the client 0.4.1 with this name.
pub fn fixture(name: &str) -> Value {
    fixture_as(name)
}

/// Reads the fixture of the client 0.38.0 with this name.
pub fn fixture_2026(name: &str) -> Value {
    read(FOLDER_2026, name)
}

/// Reads the fixture of the client 0.4.1 with this name as a type, where a JSON tree would lose something.
pub fn fixture_as<T: DeserializeOwned>(name: &str) -> T {
    read(FOLDER, name)
}

fn read<T: DeserializeOwned>(folder: &str, name: &str) -> T {
    let path = format!("{folder}/{name}.json");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The recorded requests of a scenario of the client 0.4.1 with their responses, in order.
pub fn exchanges(name: &str) -> Vec<Value> {
    exchanges_of(fixture(name), name)
}

/// The same of the client 0.38.0.
pub fn exchanges_2026(name: &str) -> Vec<Value> {
    exchanges_of(fixture_2026(name), name)
}

fn exchanges_of(mut fixture: Value, name: &str) -> Vec<Value> {
    match fixture["exchanges"].take() {
        Value::Array(exchanges) => exchanges,
        _ => panic!("{name} has no exchanges"),
    }
}

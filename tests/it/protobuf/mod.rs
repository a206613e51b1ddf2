//! Passes and results in protobuf, against the encodings of the Python client 0.38.0 in `pure_proto`.

mod broken;
mod polls;
mod requests;
mod responses;

use serde_json::Value;

use crate::support::golden::fixture_2026;

/// The entries of a list in the fixture.
fn cases(list: &str) -> Vec<Value> {
    fixture_2026("pure_proto")[list].as_array().unwrap().clone()
}

/// Bytes in hexadecimal.
fn bytes(hex: &Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap().as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

//! The fixtures in `tests/golden/chat`. Its README says what made them.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// The folder of the fixtures.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat");

/// The fixture with this path below [`FOLDER`], such as `templates/qwen3`.
pub fn fixture(name: &str) -> Value {
    let path = format!("{FOLDER}/{name}.json");
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A fixture whose license keeps it out of this repository: from `../shared`, or `None` with a word on stderr.
pub fn fixture_outside(name: &str) -> Option<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../shared/golden/chat/{name}.json"));
    match fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(_) => {
            eprintln!("skipped: {} is not here; its license keeps it out of the repository", path.display());
            None
        }
    }
}

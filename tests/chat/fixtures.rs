//! The fixtures in `tests/golden/chat`. Its README says what made them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use serde_json::Value;
use tinkex::Tokenizer;

/// The folder of the fixtures.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/chat");

/// What all tests share, by name: it takes long to make.
pub struct Shared<T>(Mutex<BTreeMap<String, T>>);

impl<T: Clone> Shared<T> {
    pub const fn new() -> Self {
        Shared(Mutex::new(BTreeMap::new()))
    }

    /// What has this name, made if it is asked for the first time.
    pub fn get(&self, name: &str, make: impl FnOnce() -> T) -> T {
        self.0.lock().entry(name.to_owned()).or_insert_with(make).clone()
    }
}

/// The fixture with this path below [`FOLDER`], such as `templates/qwen3`.
pub fn fixture(name: &str) -> Arc<Value> {
    static READ: Shared<Arc<Value>> = Shared::new();
    READ.get(name, || {
        let path = format!("{FOLDER}/{name}.json");
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path}: {error}"))
    })
}

/// SmolLM2's tokenizer.
pub fn smollm2_tokenizer() -> Tokenizer {
    static SMOLLM2: LazyLock<Tokenizer> =
        LazyLock::new(|| Tokenizer::from_path(format!("{FOLDER}/tokenizers/smollm2")).unwrap());
    SMOLLM2.clone()
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

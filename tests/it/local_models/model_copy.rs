//! Copies of the micro models, to be damaged.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tempfile::TempDir;
use tinkex::Error;
use tinkex::local::pretrained::ModelLoader;
use tinkex::local::transformer::Transformer;

pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/models")).join(name)
}

pub fn load(path: &Path) -> Result<Transformer, Error> {
    ModelLoader::new(path.to_str().unwrap()).load()
}

/// A copy of a model, which is deleted at the end.
pub struct ModelCopy(TempDir);

impl ModelCopy {
    /// A copy of a directory, or a directory with the copy of a file.
    pub fn of(name: &str) -> Self {
        let (directory, source) = (TempDir::new().unwrap(), golden(name));
        let files = match fs::read_dir(&source) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => vec![source],
        };
        for file in files {
            // Not `fs::copy`: the original may be read-only.
            fs::write(directory.path().join(file.file_name().unwrap()), fs::read(&file).unwrap()).unwrap();
        }
        ModelCopy(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Changes the JSON of a file.
    pub fn edit(self, name: &str, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        let mut json: Map<String, Value> = serde_json::from_slice(&fs::read(self.file(name)).unwrap()).unwrap();
        change(&mut json);
        fs::write(self.file(name), Value::from(json).to_string()).unwrap();
        self
    }

    /// Sets options of the configuration.
    pub fn options(self, options: Value) -> Self {
        let Value::Object(options) = options else { panic!("options are an object") };
        self.edit("config.json", |config| config.extend(options))
    }

    /// Changes the bytes of a file.
    pub fn bytes(self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = fs::read(self.file(name)).unwrap();
        change(&mut bytes);
        fs::write(self.file(name), bytes).unwrap();
        self
    }

    /// Changes the header of a safetensors file; its data stay as they are.
    pub fn header(self, name: &str, change: impl FnOnce(&mut Map<String, Value>)) -> Self {
        self.bytes(name, |bytes| {
            let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..end]).unwrap();
            change(&mut header);
            let header = Value::from(header).to_string();
            *bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes[end..]].concat();
        })
    }

    /// Overwrites the `index`th number of a tensor in a safetensors file of f32.
    pub fn number(self, tensor: &str, index: usize, number: f32) -> Self {
        self.bytes("model.safetensors", |bytes| {
            let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let header: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
            let start = end + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize + 4 * index;
            bytes[start..start + 4].copy_from_slice(&number.to_le_bytes());
        })
    }

    /// Adds a file of one byte.
    pub fn with(self, name: &str) -> Self {
        fs::write(self.file(name), "{").unwrap();
        self
    }

    pub fn remove(self, name: &str) -> Self {
        fs::remove_file(self.file(name)).unwrap();
        self
    }

    pub fn load(&self) -> Result<Transformer, Error> {
        load(self.path())
    }

    /// The first line of the error of loading it.
    pub fn refusal(&self) -> String {
        let error = self.load().map(|_| ()).unwrap_err();
        assert!(error.hint().is_some(), "no hint: {error}");
        error.to_string()
    }
}

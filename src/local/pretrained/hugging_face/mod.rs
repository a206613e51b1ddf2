//! Models in Hugging Face's format: a directory with a `config.json` and safetensors files.

pub(crate) mod config;
mod options;
mod rope;
pub(crate) mod safetensors;
mod shards;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use self::config::Description;
use self::options::Options;
use self::shards::Shards;
use super::checkpoint::Checkpoint;
use super::refusal::unusable;
use super::stored::StoredTensor;
use crate::error::{Error, ErrorKind, Result};

pub(in crate::local) const CONFIG: &str = "config.json";
pub(in crate::local) const WEIGHTS: &str = "model.safetensors";
pub(in crate::local) const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
/// The longest file of JSON that is read: the index of a model with ten thousands of tensors has a few million bytes.
const MAX_JSON: u64 = 16 << 20;
const GENERATION: &str = "generation_config.json";

/// Reads the configuration and the headers of a directory.
pub(super) fn open(directory: &Path) -> Result<Checkpoint> {
    let config = directory.join(CONFIG);
    let map: Map<String, Value> = json(&config)?;
    let Description { architecture, mut config, is_tied } =
        config::read(&map).map_err(|refusal| refusal.of(directory))?;
    let generation = directory.join(GENERATION);
    if generation.is_file() {
        let map: Map<String, Value> = json(&generation)?;
        let tokens = Options(&map).tokens("eos_token_id").map_err(|refusal| refusal.of(&generation))?;
        config.end_tokens.extend(tokens);
    }
    let Shards { files, file_of } = shards::find(directory)?;
    let mut tensors = BTreeMap::new();
    for (index, path) in files.iter().enumerate() {
        for tensor in safetensors::read(path, index)? {
            let expected = file_of.as_ref().map_or(Some(&index), |file_of| file_of.get(&tensor.label));
            if expected != Some(&index) {
                return Err(unusable(path, &format!("its tensor {} is not there by the index", tensor.label)));
            }
            // Older files have a table of the rotary positions, which the configuration gives, too.
            if !tensor.label.ends_with(".rotary_emb.inv_freq") {
                tensors.insert(tensor.label.clone(), tensor);
            }
        }
    }
    let path = directory.to_owned();
    Ok(Checkpoint { path, architecture, config, is_tied, files, tensors, gguf: None })
}

/// The tensors of one safetensors file, whatever they are of.
pub(in crate::local) fn tensors_of_file(path: &Path) -> Result<Vec<StoredTensor>> {
    safetensors::read(path, 0)
}

/// Reads a file of JSON.
fn json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_JSON + 1).read_to_end(&mut content));
    read.map_err(|error| {
        Error::new(ErrorKind::Io, format!("the file {} cannot be read: {error}", path.display())).with_source(error)
    })?;
    if content.len() as u64 > MAX_JSON {
        return Err(unusable(path, &format!("it has more than {MAX_JSON} bytes")));
    }
    serde_json::from_slice(&content).map_err(|error| unusable(path, &format!("its JSON cannot be read: {error}")))
}

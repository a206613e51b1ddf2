//! Which files of a directory have the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{WEIGHTS, WEIGHTS_INDEX, json};
use crate::error::Result;
use crate::local::pretrained::refusal::unusable;

/// Which file has which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files with weights; and which of them has which tensor, if there is an index.
pub(super) struct Shards {
    pub(super) files: Vec<PathBuf>,
    pub(super) file_of: Option<BTreeMap<String, usize>>,
}

/// Finds the files of a directory: `model.safetensors`, or those that the index names.
pub(super) fn find(directory: &Path) -> Result<Shards> {
    let (weights, index) = (directory.join(WEIGHTS), directory.join(WEIGHTS_INDEX));
    if weights.is_file() {
        return Ok(Shards { files: vec![weights], file_of: None });
    }
    if !index.is_file() {
        let others = ["pytorch_model.bin", "pytorch_model.bin.index.json"];
        return Err(match others.iter().find(|name| directory.join(name).exists()) {
            Some(name) => unusable(directory, &format!("its weights are in {name}, and only safetensors can be read"))
                .with_hint("convert it with save_pretrained of transformers, or use a repository with safetensors"),
            None => unusable(directory, &format!("it has neither {WEIGHTS} nor {WEIGHTS_INDEX}"))
                .with_hint("download all files of the model, or name its GGUF file"),
        });
    }
    let Index { weight_map } = json(&index)?;
    let names: BTreeSet<&String> = weight_map.values().collect();
    let mut files = Vec::new();
    for name in &names {
        files.push(file(directory, name).map_err(|why| unusable(&index, &format!("its file {name:?} {why}")))?);
    }
    let number = |name: &String| names.iter().position(|known| *known == name).unwrap_or_default();
    let file_of = weight_map.iter().map(|(tensor, name)| (tensor.clone(), number(name))).collect();
    Ok(Shards { files, file_of: Some(file_of) })
}

/// The file that an index names, which comes from elsewhere: it must lie in the directory of the index.
fn file(directory: &Path, name: &str) -> std::result::Result<PathBuf, String> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':', '\0']) {
        return Err("is not a plain name of a file beside it".to_owned());
    }
    let path = directory.join(name);
    if !path.is_file() {
        return Err("is missing".to_owned());
    }
    let real = |path: &Path| fs::canonicalize(path).map_err(|error| format!("cannot be read: {error}"));
    let (target, home) = (real(&path)?, real(directory)?);
    if target.parent() == Some(&*home) || is_blob(&target, &home) {
        Ok(path)
    } else {
        Err("is a link to a place outside of the model's directory".to_owned())
    }
}

/// Whether a file is what the cache of Hugging Face's programs has instead of one in a snapshot: `models--NAME/snapshots/COMMIT`
/// links to `models--NAME/blobs`.
fn is_blob(target: &Path, snapshot: &Path) -> bool {
    let repository = snapshot.parent().filter(|parent| parent.ends_with("snapshots")).and_then(Path::parent);
    repository.is_some_and(|repository| target.parent() == Some(&*repository.join("blobs")))
}

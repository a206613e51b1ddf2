//! A model in files, of either format: what it is, and its tensors under the names of Hugging Face's format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::WEIGHTS;
use super::architecture::{Architecture, HEAD};
use super::labels;
use super::refusal::unusable;
use super::stored::StoredTensor;
use crate::error::{Error, Result};
use crate::gguf::Metadata;
use crate::local::model::Cancellation;
use crate::local::transformer::ModelConfig;

/// A model in files, whose headers have been read and checked.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    /// The directory in Hugging Face's format, or the GGUF file.
    pub(crate) path: PathBuf,
    pub(crate) architecture: Architecture,
    pub(in crate::local) config: ModelConfig,
    /// Whether the embedding serves as the unembedding, too.
    pub(crate) is_tied: bool,
    /// The files with the tensors.
    pub(super) files: Vec<PathBuf>,
    /// By the names of Hugging Face's format.
    pub(crate) tensors: BTreeMap<String, StoredTensor>,
    /// The metadata, if it is a GGUF file.
    pub(super) gguf: Option<Metadata>,
}

impl Checkpoint {
    /// Reads the numbers of a tensor, row by row, and calls `sink` with a piece at a time. Needs a few hundred kilobytes.
    ///
    /// # Errors
    ///
    /// There is no such tensor, the file cannot be read, a number is not finite, the work is no longer wanted, or an error of `sink`.
    pub(crate) fn read(
        &self,
        name: &str,
        cancellation: &Cancellation,
        sink: &mut dyn FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let tensor = self.tensors.get(name).ok_or_else(|| self.unusable(&format!("it has no tensor {name}")))?;
        tensor.read(self.file(tensor), cancellation, sink)
    }

    /// Whether it is a GGUF file.
    pub(crate) fn is_gguf(&self) -> bool {
        self.gguf.is_some()
    }

    /// The files in Hugging Face's format that have the tensors, or would have those of a GGUF file: names, each with the names of its
    /// tensors.
    pub(crate) fn shards(&self) -> Vec<(String, Vec<&String>)> {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names = self.files.iter().map(|path| if self.is_gguf() { WEIGHTS.to_owned() } else { name(path) });
        let tensors = |index| self.tensors.iter().filter(move |(_, tensor)| tensor.file == index).map(|(name, _)| name);
        names.enumerate().map(|(index, name)| (name, tensors(index).collect())).collect()
    }

    /// The file that a tensor is in.
    pub(crate) fn file(&self, tensor: &StoredTensor) -> &Path {
        self.files.get(tensor.file).map_or(&self.path, PathBuf::as_path)
    }

    /// Whether there is exactly what the model needs: each tensor in its shape, and no other.
    pub(super) fn check(&self) -> Result<()> {
        let mut expected = 0;
        for (name, shape) in self.architecture.tensors(&self.config, self.is_tied) {
            let Some(tensor) = self.tensors.get(&name) else {
                let error = self.unusable(&format!("the tensor {} is missing", self.label(&name)));
                return Err(if name == HEAD { error.with_hint(UNTIED) } else { error });
            };
            if tensor.shape != shape {
                let found = &tensor.shape;
                let why = format!("the tensor {} has the shape {found:?}, and {shape:?} is expected", tensor.label);
                return Err(self.unusable(&why).with_hint("use the configuration that the weights were made with"));
            }
            expected += 1;
        }
        if expected == self.tensors.len() {
            return Ok(());
        }
        let names: Vec<String> = self.architecture.tensors(&self.config, self.is_tied).map(|(name, _)| name).collect();
        let other = self.tensors.iter().find(|(name, _)| !names.contains(name));
        let label = other.map_or(String::new(), |(_, tensor)| tensor.label.clone());
        let why = format!("the tensor {label} belongs to no {} model", self.architecture);
        Err(self.unusable(&why).with_hint("results without it would be wrong; use the model's own configuration"))
    }

    /// What the files call a tensor.
    fn label(&self, name: &str) -> String {
        if self.gguf.is_some() { labels::label(name) } else { name.to_owned() }
    }

    pub(super) fn unusable(&self, why: &str) -> Error {
        unusable(&self.path, why)
    }
}

const UNTIED: &str =
    "if the model shares this matrix with its embedding, set \"tie_word_embeddings\": true in config.json";

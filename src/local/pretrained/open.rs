//! Finds out in which format a model is, and opens it.

use std::fs;
use std::path::{Path, PathBuf};

use super::architecture::{EMBEDDING, HEAD};
use super::checkpoint::Checkpoint;
use super::gguf;
use super::hugging_face::{self, CONFIG, WEIGHTS, WEIGHTS_INDEX};
use super::refusal::unusable;
use crate::error::{Error, ErrorKind, Result};
use crate::local::model::Cancellation;
use crate::tokenizer::file_kind::FileKind;

impl Checkpoint {
    /// Reads the headers of a model, and checks everything that can be checked without its weights. `path` is a directory in
    /// Hugging Face's format, a GGUF file, or a directory with one GGUF file.
    ///
    /// # Errors
    ///
    /// The files cannot be read, are damaged, do not fit each other, or hold a model that this crate does not compute; or the work
    /// is no longer wanted.
    pub(crate) fn open(path: &Path, cancellation: &Cancellation) -> Result<Self> {
        let mut checkpoint = match gguf_file(path)? {
            Some(file) => gguf::open(&file)?,
            None => hugging_face::open(path)?,
        };
        checkpoint.drop_copied_head(cancellation)?;
        checkpoint.check()?;
        Ok(checkpoint)
    }

    /// Some files hold the embedding twice, the second time as the unembedding.
    fn drop_copied_head(&mut self, cancellation: &Cancellation) -> Result<()> {
        let (true, Some(head), Some(embedding)) = (self.is_tied, self.tensors.get(HEAD), self.tensors.get(EMBEDDING))
        else {
            return Ok(());
        };
        if !head.is_same(self.file(head), embedding, self.file(embedding), cancellation)? {
            let why = format!("{HEAD} differs from the embedding, and \"tie_word_embeddings\" is true");
            return Err(self
                .unusable(&why)
                .with_hint("set \"tie_word_embeddings\": false in config.json, if this matrix is meant"));
        }
        self.tensors.remove(HEAD);
        Ok(())
    }
}

/// The GGUF file that a path stands for; `None` if it stands for a directory in Hugging Face's format.
fn gguf_file(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_file() {
        return match is_gguf(path) {
            true => Ok(Some(path.to_owned())),
            false => Err(Error::invalid_input(format!("{} is no GGUF file", path.display()))
                .with_hint("name a file that ends in .gguf, or the directory of a model")),
        };
    }
    let entries = fs::read_dir(path).map_err(|error| {
        Error::new(ErrorKind::Io, format!("the model {} cannot be read: {error}", path.display())).with_source(error)
    })?;
    let has = |name: &str| path.join(name).is_file();
    if has(CONFIG) && (has(WEIGHTS) || has(WEIGHTS_INDEX)) {
        return Ok(None);
    }
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|file| is_gguf(file)).collect();
    files.sort();
    match files.as_slice() {
        [file] => Ok(Some(file.clone())),
        [first, ..] => {
            let message = format!("{} has {} GGUF files", path.display(), files.len());
            Err(Error::invalid_input(message).with_hint(format!("name one of them, such as {}", first.display())))
        }
        [] if has(CONFIG) => Ok(None),
        [] if has("adapter_config.json") => {
            Err(unusable(path, "it is an adapter, without the model that it belongs to")
                .with_hint("merge it into its model with `tinkex export --merge`, and load the result"))
        }
        [] => Err(unusable(path, &format!("it has neither {CONFIG} nor a GGUF file"))
            .with_hint("name the directory of a model in Hugging Face's format, or a GGUF file")),
    }
}

fn is_gguf(path: &Path) -> bool {
    FileKind::of(path) == FileKind::Gguf
}

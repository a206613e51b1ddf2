//! The files of a tokenizer: which one has the vocabulary, and how it is read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::file_kind::FileKind;
use super::hugging_face::{HuggingFace, caught};
use super::{Tokenizer, gguf_vocabulary, tiktoken};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::parent_of;
use crate::rules::tokenizer_id;

pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub(super) const TIKTOKEN: &str = "tiktoken.model";
/// The folder of this crate's cache with the names of the files that a tokenizer does not have.
pub(super) const ABSENT: &str = "absent";
/// A format that cannot be read.
pub(super) const SENTENCE_PIECE: &str = "tokenizer.model";

/// The file of a directory with a vocabulary that can be read: `tokenizer.json`, `tiktoken.model`, or the only GGUF file.
pub(super) fn find(directory: &Path) -> Result<Option<PathBuf>> {
    if let Some(file) = [TOKENIZER, TIKTOKEN].iter().map(|name| directory.join(name)).find(|file| file.is_file()) {
        return Ok(Some(file));
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|file| FileKind::of(file) == FileKind::Gguf && file.is_file()).collect();
    files.sort();
    match files.as_slice() {
        [] => Ok(None),
        [file] => Ok(Some(file.clone())),
        [first, ..] => {
            let message = format!("{} has {} GGUF files, and no tokenizer.json", directory.display(), files.len());
            Err(Error::invalid_input(message).with_hint(format!("name one of the files, such as {}", first.display())))
        }
    }
}

/// Reads a tokenizer from a file, or from the directory that contains it.
pub(crate) fn from_path(path: &Path, id: Option<&str>) -> Result<Tokenizer> {
    let mut name = path.to_string_lossy();
    // What looks like the id of another tokenizer would be taken for it.
    if tokenizer_id::parse(&name).is_ok() {
        name = format!("./{name}").into();
    }
    let id = id.unwrap_or(&name);
    let file = if path.is_dir() { find(path)?.unwrap_or_else(|| path.join(TOKENIZER)) } else { path.to_owned() };
    let shown = file.display();
    if file.file_name().is_some_and(|name| name == SENTENCE_PIECE) && file.is_file() {
        return Err(unreadable(id, &parent_of(&file).display().to_string(), None));
    }
    let kind = FileKind::of(&file);
    if kind == FileKind::Gguf {
        return gguf_vocabulary::read(&file, id);
    }
    let content = fs::read(&file).map_err(|error| {
        let directory = parent_of(&file);
        if error.kind() == std::io::ErrorKind::NotFound && directory.join(SENTENCE_PIECE).is_file() {
            return unreadable(id, &directory.display().to_string(), Some(&shown.to_string()));
        }
        Error::new(ErrorKind::Io, format!("the tokenizer {shown} cannot be read: {error}")).with_source(error)
    })?;
    let config = fs::read(file.with_file_name(TOKENIZER_CONFIG)).ok();
    parse(id, if kind == FileKind::Model { TIKTOKEN } else { TOKENIZER }, &content, config.as_deref())
        .map_err(|error| error.with_hint(format!("{shown} is damaged or not a tokenizer; replace or delete it")))
}

/// Builds a tokenizer from the content of its files. `name` is [`TIKTOKEN`], or anything else for the format of [`TOKENIZER`].
pub(super) fn parse(id: &str, name: &str, content: &[u8], config: Option<&[u8]>) -> Result<Tokenizer> {
    let unusable = |why: String| Error::new(ErrorKind::Decode, format!("the tokenizer {id:?} cannot be used: {why}"));
    let config = config.and_then(|config| serde_json::from_slice::<Value>(config).ok()).unwrap_or_default();
    let inner = match name {
        TIKTOKEN => tiktoken::build(content, &config).map_err(|why| unusable(format!("{TIKTOKEN}: {why}")))?,
        _ => {
            let read = caught(|| tokenizers::Tokenizer::from_bytes(content));
            let mut inner = read.map_err(|error| unusable(error.to_string()))?;
            // Some files configure truncation and padding, which are meant for batches.
            inner.with_truncation(None).map_err(|error| unusable(error.to_string()))?;
            inner.with_padding(None);
            inner
        }
    };
    let eos_token = text_of(&config["eos_token"]).and_then(|eos| inner.token_to_id(eos));
    Ok(Tokenizer::hugging_face(HuggingFace::new(id, inner, eos_token)))
}

/// The error for a tokenizer that exists only in a format that cannot be read, on the hub or on the disk. `destination` is where a
/// converted file belongs.
pub(super) fn unreadable(id: &str, place: &str, destination: Option<&str>) -> Error {
    let message =
        format!("the tokenizer {id:?} has no {TOKENIZER} at {place}, only {SENTENCE_PIECE}, which cannot be read");
    let to =
        destination.map_or_else(|| "in a directory for Tokenizer::from_path".to_owned(), |path| format!("at {path}"));
    Error::new(ErrorKind::Decode, message).with_hint(format!(
        "convert it in Python with transformers.AutoTokenizer.from_pretrained and save_pretrained, and put it {to}; or load the id \
         of a repository that has a converted one"
    ))
}

/// A token in a configuration is its text, or an object with its text.
fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

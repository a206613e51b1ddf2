//! The tokenizer of a model, with the files that clients need.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::checkpoint::Checkpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Metadata;
use crate::local::model::TextPackage;
use crate::tokenizer::package::{TOKENIZER, TOKENIZER_CONFIG};
use crate::tokenizer::{Tokenizer, gguf_vocabulary, package};

/// What programs read of a model to write and read its texts. `config.json` tells transformers the class of the tokenizer.
const FILES: [&str; 6] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    "chat_template.jinja",
    "special_tokens_map.json",
    "config.json",
    "generation_config.json",
];

/// The text package of a model with this name.
pub(in crate::local) fn package(checkpoint: &Checkpoint, name: &str) -> Result<TextPackage> {
    let package = match &checkpoint.gguf {
        Some(metadata) => of_gguf(checkpoint, metadata, name)?,
        None => of_directory(&checkpoint.path, name)?,
    };
    let (highest, rows) = (package.tokenizer().highest_id(), checkpoint.config.vocab_size);
    match highest.filter(|&id| id as usize >= rows) {
        Some(id) => Err(checkpoint
            .unusable(&format!("its tokenizer has the token {id}, and its embedding only {rows} rows"))
            .with_hint("use the tokenizer that the model was made with")),
        None => Ok(package),
    }
}

/// The tokens that end a text: those that the files name, and the tokenizer's.
pub(super) fn end_tokens(checkpoint: &Checkpoint, package: &TextPackage) -> Result<Vec<u32>> {
    let mut tokens = Vec::new();
    for &token in checkpoint.config.end_tokens.iter().chain(&package.tokenizer().eos_token()) {
        if token as usize >= checkpoint.config.vocab_size {
            return Err(checkpoint.unusable(&format!("the token {token}, which ends a text, is not in its vocabulary")));
        }
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

fn of_directory(directory: &Path, name: &str) -> Result<TextPackage> {
    let tokenizer = package::from_path(directory, Some(name)).map_err(|error| match error.hint() {
        Some(_) => error,
        None => error.with_hint(format!("put the {TOKENIZER} of the model beside its weights")),
    })?;
    let mut package = TextPackage::new(tokenizer);
    for name in FILES {
        let path = directory.join(name);
        if path.is_file() {
            let content = fs::read(&path).map_err(|error| {
                let message = format!("the file {} cannot be read: {error}", path.display());
                Error::new(ErrorKind::Io, message).with_source(error)
            })?;
            package = package.file(name, content);
        }
    }
    with_tokenizer(package)
}

/// Adds what another format of the vocabulary says as a `tokenizer.json`.
fn with_tokenizer(package: TextPackage) -> Result<TextPackage> {
    if package.get(TOKENIZER).is_some() {
        return Ok(package);
    }
    let json = package.tokenizer().to_json()?;
    Ok(match json {
        Some(json) => package.file(TOKENIZER, json),
        None => package,
    })
}

fn of_gguf(checkpoint: &Checkpoint, metadata: &Metadata, name: &str) -> Result<TextPackage> {
    let own = gguf_vocabulary::from_metadata(metadata, &checkpoint.path, name);
    let beside = checkpoint.path.with_file_name(TOKENIZER);
    let tokenizer = match own {
        // A vocabulary of another kind: the tokenizer of the original model does.
        Err(_) if beside.is_file() => package::from_path(&beside, Some(name))?,
        own => {
            own.map_err(|error| error.with_hint(format!("put the {TOKENIZER} of the original model beside the file")))?
        }
    };
    let config = tokenizer_config(metadata, checkpoint.config.context_length, &tokenizer);
    with_tokenizer(TextPackage::new(tokenizer).file(TOKENIZER_CONFIG, config.to_string()))
}

/// What a `tokenizer_config.json` says, by the metadata of a GGUF file.
fn tokenizer_config(metadata: &Metadata, context_length: usize, tokenizer: &Tokenizer) -> Value {
    let mut config = Map::from_iter([
        ("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast")),
        ("model_max_length".to_owned(), json!(context_length)),
        ("clean_up_tokenization_spaces".to_owned(), json!(false)),
    ]);
    let known = metadata.special_tokens().filter(|(_, token)| tokenizer.token_to_id(token).is_some());
    config.extend(known.map(|(name, token)| (name.to_owned(), json!(token))));
    let mut templates = metadata.chat_templates();
    match templates.as_slice() {
        [] => {}
        [_] => drop(config.insert("chat_template".to_owned(), json!(templates.remove(0).1))),
        several => {
            let named = several.iter().map(|(name, template)| json!({"name": name, "template": template}));
            config.insert("chat_template".to_owned(), named.collect());
        }
    }
    config.into()
}

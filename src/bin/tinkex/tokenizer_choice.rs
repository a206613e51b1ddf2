//! `--tokenizer`: which tokenizer a command uses.

use std::path::Path;

use tinkex::{Config, ErrorKind, Tokenizer, TokenizerSource};

use crate::failure::Failure;

/// A tokenizer, and where its chat template is.
pub(crate) type Found = (Tokenizer, TokenizerSource);

/// Loads the tokenizer that `--tokenizer` names. Without the option, that of the model.
pub(crate) fn load(
    choice: Option<&str>,
    config: &Config,
    of_model: impl FnOnce() -> tinkex::Result<Found>,
) -> Result<Found, Failure> {
    match choice {
        Some(name) => named(name, config),
        None => of_model().map_err(|error| match error.kind() {
            // The model has a tokenizer that could not be loaded: a local file would help.
            ErrorKind::Status | ErrorKind::Decode | ErrorKind::Config => {
                let hint = error.hint().map(|hint| format!("{hint}, or pass one with --tokenizer"));
                Failure::from(error).hint(hint.unwrap_or_else(|| "pass a tokenizer with --tokenizer".to_owned()))
            }
            _ => error.into(),
        }),
    }
}

/// Loads a tokenizer by its name: `bytes`, a path or an ID.
pub(crate) fn named(name: &str, config: &Config) -> Result<Found, Failure> {
    let source = TokenizerSource::from_env().config(config);
    let tokenizer = match name {
        "bytes" => Tokenizer::bytes(),
        path if Path::new(path).exists() => Tokenizer::from_path(path)?,
        id => source.load(id).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => {
                Failure::from(error).hint("pass an existing file or directory, or an ID such as organization/name")
            }
            _ => error.into(),
        })?,
    };
    Ok((tokenizer, source))
}

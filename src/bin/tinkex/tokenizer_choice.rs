//! `--tokenizer`: which tokenizer a command uses.

use std::path::Path;

use tinkex::{Config, ErrorKind, Tokenizer, TokenizerSource};

use crate::failure::Failure;

/// Loads the tokenizer that `--tokenizer` names: `bytes`, a path or an ID. Without the option, that of the model.
pub(crate) fn load(
    choice: Option<&str>,
    config: &Config,
    model_tokenizer: impl FnOnce() -> tinkex::Result<Tokenizer>,
) -> Result<Tokenizer, Failure> {
    match choice {
        None => model_tokenizer().map_err(|error| match error.kind() {
            // The model has a tokenizer that could not be loaded: a local file would help.
            ErrorKind::Status | ErrorKind::Decode | ErrorKind::Config => {
                let hint = error.hint().map(|hint| format!("{hint}, or pass one with --tokenizer"));
                Failure::from(error).hint(hint.unwrap_or_else(|| "pass a tokenizer with --tokenizer".to_owned()))
            }
            _ => error.into(),
        }),
        Some("bytes") => Ok(Tokenizer::bytes()),
        Some(path) if Path::new(path).exists() => Ok(Tokenizer::from_path(path)?),
        Some(id) => TokenizerSource::from_env().config(config).load(id).map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => {
                Failure::from(error).hint("pass an existing file or directory, or an ID such as organization/name")
            }
            _ => error.into(),
        }),
    }
}

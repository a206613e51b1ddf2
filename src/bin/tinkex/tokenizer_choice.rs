//! `--tokenizer`: which tokenizer a command uses.

use tinkex::{Config, Tokenizer};

use crate::failure::Failure;

/// Loads the tokenizer that `--tokenizer` names: `bytes`, a path or an ID. Without the option, that of the model.
#[cfg_attr(not(feature = "tokenizers"), allow(unused_variables, reason = "the configuration is for downloads only"))]
pub(crate) fn load(
    choice: Option<&str>,
    config: &Config,
    model_tokenizer: impl FnOnce() -> tinkex::Result<Tokenizer>,
) -> Result<Tokenizer, Failure> {
    match choice {
        None => model_tokenizer().map_err(|error| match error.kind() {
            // The model has a tokenizer that could not be loaded: a local file would help.
            tinkex::ErrorKind::Status | tinkex::ErrorKind::Decode | tinkex::ErrorKind::Config => {
                let hint = error.hint().map(|hint| format!("{hint}, or pass one with --tokenizer"));
                Failure::from(error).hint(hint.unwrap_or_else(|| "pass a tokenizer with --tokenizer".to_owned()))
            }
            _ => error.into(),
        }),
        Some("bytes") => Ok(Tokenizer::bytes()),
        #[cfg(feature = "tokenizers")]
        Some(path) if std::path::Path::new(path).exists() => Ok(Tokenizer::from_path(path)?),
        #[cfg(feature = "tokenizers")]
        Some(id) => tinkex::TokenizerSource::from_env().config(config).load(id).map_err(|error| match error.kind() {
            tinkex::ErrorKind::InvalidInput => {
                Failure::from(error).hint("pass an existing file or directory, or an ID such as organization/name")
            }
            _ => error.into(),
        }),
        #[cfg(not(feature = "tokenizers"))]
        Some(other) => Err(Failure::usage(format!("this build cannot load the tokenizer {other:?}"))
            .hint("build with the feature `tokenizers`, or pass --tokenizer bytes")),
    }
}

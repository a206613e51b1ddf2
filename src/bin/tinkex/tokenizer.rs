//! Which tokenizer a command uses.

use tinkex::{Config, Tokenizer};

use crate::errors::Failure;

/// The tokenizer of `--tokenizer`: `bytes`, a path or an id. Without the option, that of the model.
#[cfg_attr(not(feature = "tokenizers"), allow(unused_variables, reason = "only bytes need no source"))]
pub(crate) fn chosen(
    choice: Option<&str>,
    config: &Config,
    of_model: impl FnOnce() -> tinkex::Result<Tokenizer>,
) -> Result<Tokenizer, Failure> {
    match choice {
        None => of_model().map_err(|error| match error.kind() {
            // The model has one, but it could not be had: a way out is to name a file.
            tinkex::ErrorKind::Status | tinkex::ErrorKind::Decode | tinkex::ErrorKind::Config => {
                let hint = error.hint().map(|hint| format!("{hint}, or name one with --tokenizer"));
                Failure::from(error).hint(hint.unwrap_or_else(|| "name one with --tokenizer".to_owned()))
            }
            _ => error.into(),
        }),
        Some("bytes") => Ok(Tokenizer::bytes()),
        #[cfg(feature = "tokenizers")]
        Some(path) if std::path::Path::new(path).exists() => Ok(Tokenizer::from_path(path)?),
        #[cfg(feature = "tokenizers")]
        Some(id) => tinkex::TokenizerSource::from_env().config(config).load(id).map_err(|error| match error.kind() {
            tinkex::ErrorKind::InvalidInput => {
                Failure::from(error).hint("name a file that exists, or an id such as organisation/name")
            }
            _ => error.into(),
        }),
        #[cfg(not(feature = "tokenizers"))]
        Some(other) => Err(Failure::usage(format!("the tokenizer {other:?} cannot be read by this build"))
            .hint("build with the feature `tokenizers`, or use --tokenizer bytes")),
    }
}

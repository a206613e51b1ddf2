//! Why a model is refused, and the errors for it.

use std::path::Path;

use crate::error::{Error, ErrorKind};

/// Why a model is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// It is fine, but not one that this crate computes.
    Unsupported(String),
    /// It is fine, but its numbers are stored in a way that this crate does not read.
    OtherType(String),
    /// Its files are damaged, or do not fit each other.
    Damaged(String),
}

impl Refusal {
    pub(super) fn why(&self) -> &str {
        let (Refusal::Unsupported(why) | Refusal::OtherType(why) | Refusal::Damaged(why)) = self;
        why
    }

    /// The error for the model at this path.
    pub(crate) fn of(&self, path: &Path) -> Error {
        match self {
            Refusal::Unsupported(_) => unsupported(path, self.why()),
            Refusal::OtherType(_) => unsupported(path, self.why())
                .with_hint("convert it to one of these types, or use another file of the model"),
            Refusal::Damaged(_) => unusable(path, self.why()),
        }
    }
}

/// The error for files that are damaged, or do not fit each other.
pub(super) fn unusable(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Decode, format!("the model {} cannot be used: {why}", path.display()))
        .with_hint("download it again, or convert it again")
}

/// The error for a model that is fine, but not one that this crate computes.
pub(super) fn unsupported(path: &Path, what: &str) -> Error {
    Error::invalid_input(format!("the model {} is not supported: {what}", path.display()))
        .with_hint("use a model of the Llama, Mistral, Qwen2 or Qwen3 family without it")
}

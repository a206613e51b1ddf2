//! What a file of a tokenizer is, by its name.

use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A model with its vocabulary and template.
    Gguf,
    /// A vocabulary: that of tiktoken, or SentencePiece's.
    Model,
    /// A tokenizer of Hugging Face, or its configuration.
    Json,
    Other,
}

impl FileKind {
    /// What a file with this name is; capital letters make no difference.
    pub(crate) fn of(file: &Path) -> Self {
        let extension = file.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("gguf") => FileKind::Gguf,
            Some("model" | "tiktoken") => FileKind::Model,
            Some("json") => FileKind::Json,
            _ => FileKind::Other,
        }
    }
}

//! Tokenizers in other formats than `tokenizer.json`: how to recognize them, and what to do about them.

use crate::error::{Error, ErrorKind};

/// The file of a tokenizer in another format, and how to get a `tokenizer.json` from it.
pub(super) struct OtherFormat {
    pub(super) file: &'static str,
    conversion: &'static str,
}

/// The rarer formats of the hub. A repository has one of them or none.
pub(super) const OTHER_FORMATS: [OtherFormat; 2] = [
    OtherFormat {
        file: "tiktoken.model",
        conversion: "convert it in Python with transformers.convert_slow_tokenizer.TikTokenConverter, with the pattern and the \
                     special tokens of the model's own tokenizer code, and save it",
    },
    OtherFormat {
        file: "tokenizer.model",
        conversion: "convert it in Python with transformers.AutoTokenizer.from_pretrained and save_pretrained, and put it",
    },
];

impl OtherFormat {
    /// The error for a tokenizer of this format at a place, on the hub or on the disk. `destination` is where the converted file
    /// belongs.
    pub(super) fn error(&self, id: &str, place: &str, destination: Option<&str>) -> Error {
        let (file, conversion) = (self.file, self.conversion);
        let message =
            format!("the tokenizer {id:?} has no tokenizer.json at {place}, only {file}, which cannot be read");
        let to = destination
            .map_or_else(|| "in a directory for Tokenizer::from_path".to_owned(), |path| format!("at {path}"));
        let hint = format!("{conversion} {to}; or load the id of a repository that has a converted one");
        Error::new(ErrorKind::Decode, message).with_hint(hint)
    }
}

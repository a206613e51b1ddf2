//! What a model's tokens mean, and how it writes conversations.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Tokenizer;

/// A model's tokenizer, with the files that clients need of the model's package: `tokenizer.json`, `tokenizer_config.json` and
/// `chat_template.jinja`, as far as it has them. The server gives them to clients, which then need no hub.
///
/// ```
/// use tinkex::Tokenizer;
/// use tinkex::local::model::TextPackage;
///
/// let package = TextPackage::new(Tokenizer::bytes()).file("chat_template.jinja", "{{ messages[0].content }}");
/// assert!(package.get("chat_template.jinja").is_some() && package.get("tokenizer.json").is_none());
/// ```
#[derive(Clone, Debug)]
pub struct TextPackage {
    tokenizer: Tokenizer,
    files: BTreeMap<String, Arc<[u8]>>,
}

impl TextPackage {
    /// A package with this tokenizer and no files.
    #[must_use]
    pub fn new(tokenizer: Tokenizer) -> Self {
        TextPackage { tokenizer, files: BTreeMap::new() }
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, content: impl AsRef<[u8]>) -> Self {
        self.files.insert(name.into(), content.as_ref().into());
        self
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// A file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(AsRef::as_ref)
    }
}

//! What a model's tokens mean, and how it writes conversations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::tokenizer::Tokenizer;

/// A model's tokenizer, with the files that clients need of the model's package: `tokenizer.json`, `tokenizer_config.json` and
/// `chat_template.jinja`, as far as it has them. The server gives them to clients, which then need no hub.
///
/// ```
/// use tinkex::Tokenizer;
/// use tinkex::local::model::TextPackage;
///
/// let package = TextPackage::new(Tokenizer::bytes()).file("chat_template.jinja", "{{ messages[0].content }}");
/// assert!(package.get("chat_template.jinja").is_some() && package.get("tokenizer.json").is_none());
/// assert_eq!(package.files().count(), 1);
/// ```
#[derive(Clone)]
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

    /// The files, by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, content)| (name.as_str(), content.as_ref()))
    }

    /// A file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(AsRef::as_ref)
    }
}

impl fmt::Debug for TextPackage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: BTreeMap<_, _> = self.files().map(|(name, content)| (name, content.len())).collect();
        f.debug_struct("TextPackage").field("tokenizer", &self.tokenizer.id()).field("file_sizes", &sizes).finish()
    }
}

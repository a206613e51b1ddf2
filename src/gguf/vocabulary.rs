//! What the metadata say beside the vocabulary: special tokens and chat templates.

use super::Metadata;

const TOKENS: &str = "tokenizer.ggml.tokens";
const TEMPLATE: &str = "tokenizer.chat_template";
/// The names of special tokens in a tokenizer's configuration, and in metadata.
const SPECIAL_TOKENS: [(&str, &str); 5] = [
    ("bos_token", "tokenizer.ggml.bos_token_id"),
    ("eos_token", "tokenizer.ggml.eos_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("sep_token", "tokenizer.ggml.separator_token_id"),
];

impl Metadata {
    /// Whether a key is one that templates need.
    pub(crate) fn is_for_templates(key: &str) -> bool {
        key.starts_with(TEMPLATE) || key == TOKENS || SPECIAL_TOKENS.iter().any(|(_, id)| *id == key)
    }

    /// The sources of chat templates, with their names; the one without a name is `default`.
    pub(crate) fn chat_templates(&self) -> Vec<(String, String)> {
        let named = self.keys().filter_map(|key| {
            let name = match key.strip_prefix(TEMPLATE)? {
                "" => "default",
                name => name.strip_prefix('.')?,
            };
            Some((name.to_owned(), self.text(key)?.to_owned()))
        });
        named.collect()
    }

    /// The special tokens by their names in a tokenizer's configuration, such as `eos_token`.
    pub(crate) fn special_tokens(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let tokens = self.texts(TOKENS).unwrap_or_default();
        SPECIAL_TOKENS
            .into_iter()
            .filter_map(move |(name, id)| Some((name, tokens.get(usize::try_from(self.integer(id)?).ok()?)?.as_str())))
    }
}

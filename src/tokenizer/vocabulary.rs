//! What is in the vocabulary of a tokenizer.

use std::collections::BTreeMap;

use super::bytes::{END_OF_BYTES, END_OF_BYTES_TEXT, token_of_byte};
use super::{Kind, Tokenizer};
#[cfg(feature = "pretrained")]
use crate::error::Result;

impl Tokenizer {
    /// The id of one token, special or not, by its text in the vocabulary; `None` if there is no such token. The vocabulary may
    /// write characters in its own way, for example `Ġthe` for ` the`: to convert a text, use [`encode`](Tokenizer::encode).
    ///
    /// # Examples
    ///
    /// ```
    /// let tokenizer = tinkex::Tokenizer::bytes();
    /// assert_eq!(tokenizer.token_to_id("a"), Some(97));
    /// assert_eq!(tokenizer.token_to_id("<|endoftext|>"), tokenizer.eos_token());
    /// assert_eq!(tokenizer.token_to_id("<|im_end|>"), None);
    /// ```
    #[doc(alias = "convert_tokens_to_ids")]
    #[must_use]
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        match &*self.0 {
            Kind::Bytes => (0..=END_OF_BYTES).find(|id| token_of_byte(*id).as_deref() == Some(token)),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.token_to_id(token),
        }
    }

    /// The text of one token in the vocabulary, special or not; `None` if no token has this id. The tokenizer of bytes writes a
    /// byte that is no visible ASCII character as `<0x0A>`.
    ///
    /// # Examples
    ///
    /// ```
    /// let tokenizer = tinkex::Tokenizer::bytes();
    /// assert_eq!(tokenizer.id_to_token(97).as_deref(), Some("a"));
    /// assert_eq!(tokenizer.id_to_token(10).as_deref(), Some("<0x0A>"));
    /// assert_eq!(tokenizer.id_to_token(300), None);
    /// ```
    #[doc(alias = "convert_ids_to_tokens")]
    #[must_use]
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        match &*self.0 {
            Kind::Bytes => token_of_byte(id),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.id_to_token(id),
        }
    }

    /// The bytes of one token, special or not, in a text; none for an unknown one. A token may be a part of a character.
    #[cfg(feature = "pretrained")]
    pub(crate) fn bytes_of_token(&self, id: u32) -> Vec<u8> {
        match &*self.0 {
            Kind::Bytes => {
                u8::try_from(id).map_or_else(|_| token_of_byte(id).unwrap_or_default().into(), |byte| vec![byte])
            }
            Kind::HuggingFace(inner) => inner.bytes_of_token(id),
        }
    }

    /// The special tokens, such as `<|im_start|>`, with their ids: those that [`decode`](Tokenizer::decode) leaves out.
    ///
    /// # Examples
    ///
    /// ```
    /// for (token, id) in tinkex::Tokenizer::bytes().special_tokens() {
    ///     assert_eq!((token.as_str(), id), ("<|endoftext|>", 256));
    /// }
    /// ```
    #[doc(alias = "all_special_tokens")]
    #[must_use]
    pub fn special_tokens(&self) -> BTreeMap<String, u32> {
        match &*self.0 {
            Kind::Bytes => BTreeMap::from([(END_OF_BYTES_TEXT.to_owned(), END_OF_BYTES)]),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.special_tokens(),
        }
    }

    /// The added tokens with their ids: those that [`encode`](Tokenizer::encode) looks for in a text before it cuts the rest into
    /// words. They are the [special tokens](Tokenizer::special_tokens), and others such as `<think>`, which
    /// [`decode`](Tokenizer::decode) shows.
    ///
    /// # Examples
    ///
    /// ```
    /// let tokenizer = tinkex::Tokenizer::bytes();
    /// assert_eq!(tokenizer.added_tokens().get("<|endoftext|>"), Some(&256));
    /// ```
    #[doc(alias = "get_added_vocab")]
    #[must_use]
    pub fn added_tokens(&self) -> BTreeMap<String, u32> {
        match &*self.0 {
            Kind::Bytes => BTreeMap::from([(END_OF_BYTES_TEXT.to_owned(), END_OF_BYTES)]),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.added_tokens(),
        }
    }

    /// The end-of-text token, if known.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(tinkex::Tokenizer::bytes().eos_token(), Some(256));
    /// ```
    #[must_use]
    pub fn eos_token(&self) -> Option<u32> {
        match &*self.0 {
            Kind::Bytes => Some(END_OF_BYTES),
            #[cfg(feature = "tokenizers")]
            Kind::HuggingFace(inner) => inner.eos_token(),
        }
    }

    /// The highest id of a token.
    #[cfg(feature = "pretrained")]
    pub(crate) fn highest_id(&self) -> Option<u32> {
        match &*self.0 {
            Kind::Bytes => Some(END_OF_BYTES),
            Kind::HuggingFace(inner) => inner.highest_id(),
        }
    }

    /// The content of a `tokenizer.json`; `None` for the tokenizer of bytes.
    #[cfg(feature = "pretrained")]
    pub(crate) fn to_json(&self) -> Result<Option<String>> {
        match &*self.0 {
            Kind::Bytes => Ok(None),
            Kind::HuggingFace(inner) => inner.to_json().map(Some),
        }
    }
}

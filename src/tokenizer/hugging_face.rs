//! A tokenizer in Hugging Face's format.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

pub(super) struct HuggingFace {
    id: String,
    inner: tokenizers::Tokenizer,
    eos_token: Option<u32>,
}

impl HuggingFace {
    /// From the content of `tokenizer.json` and, if present, of `tokenizer_config.json`.
    pub(super) fn parse(id: &str, json: &[u8], config: Option<&[u8]>) -> Result<Self> {
        let unusable =
            |why: String| Error::new(ErrorKind::Decode, format!("the tokenizer {id:?} cannot be used: {why}"));
        let mut inner = tokenizers::Tokenizer::from_bytes(json).map_err(|error| unusable(error.to_string()))?;
        // Some files configure truncation and padding, which are meant for batches.
        inner.with_truncation(None).map_err(|error| unusable(error.to_string()))?;
        inner.with_padding(None);
        let config = config.and_then(|config| serde_json::from_slice::<Value>(config).ok());
        let eos = config.as_ref().and_then(|config| text_of(&config["eos_token"]));
        let eos_token = eos.and_then(|eos| inner.token_to_id(eos));
        Ok(HuggingFace { id: id.to_owned(), inner, eos_token })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn eos_token(&self) -> Option<u32> {
        self.eos_token
    }

    pub(super) fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    pub(super) fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    pub(super) fn special_tokens(&self) -> BTreeMap<String, u32> {
        let added = self.inner.get_added_tokens_decoder();
        added.into_iter().filter(|(_, token)| token.special).map(|(id, token)| (token.content, id)).collect()
    }

    pub(super) fn encode(&self, text: &str, whole: bool) -> Result<Vec<u32>> {
        match self.inner.encode_fast(text, whole) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(Error::invalid_input(format!("{:?} cannot encode the text: {error}", self.id))),
        }
    }

    pub(super) fn decode(&self, tokens: &[u32], with_special: bool) -> Result<String> {
        self.inner
            .decode(tokens, !with_special)
            .map_err(|error| Error::invalid_input(format!("{:?} cannot decode the tokens: {error}", self.id)))
    }
}

/// A token in a configuration is its text, or an object with its text.
fn text_of(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

//! Tokenizers from the metadata of GGUF files.

use std::path::Path;

use tokenizers::AddedToken;

use super::byte_level::Parts;
use super::hugging_face::HuggingFace;
use super::{Tokenizer, words};
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Metadata;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";

/// The types of tokens that are not words.
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;
const UNUSED: i64 = 5;

/// Reads the tokenizer of a GGUF file.
pub(super) fn read(path: &Path, id: &str) -> Result<Tokenizer> {
    let keys = [MODEL, PRE, TOKENS, TYPES, MERGES, BOS, EOS, ADD_BOS, ADD_EOS];
    from_metadata(&Metadata::read(path, |key| keys.contains(&key))?, path, id)
}

/// The tokenizer of the metadata of this file.
pub(crate) fn from_metadata(metadata: &Metadata, path: &Path, id: &str) -> Result<Tokenizer> {
    let built = build(metadata);
    built.map(|(inner, eos_token)| Tokenizer::hugging_face(HuggingFace::new(id, inner, eos_token))).map_err(|why| {
        let message = format!("the vocabulary of the GGUF file {} cannot be used: {why}", path.display());
        Error::new(ErrorKind::Decode, message)
            .with_hint("use the tokenizer.json of the model that the file was made from, with Tokenizer::from_path")
    })
}

fn build(metadata: &Metadata) -> std::result::Result<(tokenizers::Tokenizer, Option<u32>), String> {
    let tokens = metadata.texts(TOKENS).ok_or("it has no tokens")?;
    match metadata.text(MODEL) {
        Some("gpt2") => {}
        Some(other) => return Err(format!("only byte-level BPE (`gpt2`) can be read, and this is `{other}`")),
        None => return Err("it does not say of what kind it is".to_owned()),
    }
    let words = match metadata.text(PRE) {
        None | Some("default") => return Err("it does not say how a text is cut into words".to_owned()),
        Some(name) => words::named(name).ok_or(format!("how `{name}` cuts a text into words is not known"))?,
    };
    let types = metadata.integers(TYPES).unwrap_or_default();
    let kind = |index: usize| types.get(index).copied().unwrap_or_default();
    let mut ids = Vec::with_capacity(tokens.len());
    let mut added = Vec::new();
    for (index, (token, id)) in tokens.iter().zip(0u32..).enumerate() {
        if kind(index) == UNUSED || token.is_empty() {
            continue;
        }
        if let CONTROL | USER_DEFINED = kind(index) {
            added.push(AddedToken::from(token.as_str(), kind(index) == CONTROL).normalized(false));
        }
        ids.push((token.clone(), id));
    }
    let merges = metadata.texts(MERGES).ok_or("it has no merges")?.iter().map(|merge| {
        let (left, right) = merge.split_once(' ').ok_or_else(|| format!("{merge:?} is not a merge of two words"))?;
        Ok((left.to_owned(), right.to_owned()))
    });
    let merges = merges.collect::<std::result::Result<_, String>>()?;
    let id = |key: &str| metadata.integer(key).and_then(|id| u32::try_from(id).ok());
    let token = |key: &str| {
        let id = id(key).ok_or_else(|| format!("it adds a token around a text, and {key} does not say which"))?;
        let text = usize::try_from(id).ok().and_then(|index| tokens.get(index));
        Ok::<_, String>((text.ok_or_else(|| format!("{key} is {id}, which is not a token"))?.clone(), id))
    };
    let around = |adds: bool, key: &str| adds.then(|| token(key)).transpose();
    let before = around(metadata.flag(ADD_BOS).unwrap_or(words.begins && id(BOS).is_some()), BOS)?;
    let after = around(metadata.flag(ADD_EOS).unwrap_or(false), EOS)?;
    let parts = Parts { ids, merges, added, words, pattern: None, before, after };
    let tokenizer = parts.build().map_err(|error| error.to_string())?;
    let eos_token = id(EOS).filter(|&id| tokenizer.id_to_token(id).is_some());
    Ok((tokenizer, eos_token))
}

//! A tokenizer of Hugging Face's library.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(feature = "chat")]
use tokenizers::tokenizer::OffsetReferential;
use tokenizers::tokenizer::{AddedToken, Model, Normalizer, OffsetType, PreTokenizedString, PreTokenizer};

use crate::error::{Error, Result};
use crate::threads::panic_text;

/// The most bytes of white space in a row. Patterns that look ahead for its end, as most tokenizers have, fail at a million
/// characters, and the library then silently leaves the rest of the text in one piece.
const MAX_WHITE_SPACE: usize = 500_000;

pub(super) struct HuggingFace {
    id: String,
    inner: tokenizers::Tokenizer,
    eos_token: Option<u32>,
}

impl HuggingFace {
    pub(super) fn new(id: &str, inner: tokenizers::Tokenizer, eos_token: Option<u32>) -> Self {
        HuggingFace { id: id.to_owned(), inner, eos_token }
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

    /// The content of a `tokenizer.json`.
    #[cfg(feature = "pretrained")]
    pub(super) fn to_json(&self) -> Result<String> {
        self.inner
            .to_string(false)
            .map_err(|error| Error::invalid_input(format!("the tokenizer {:?} cannot be written: {error}", self.id)))
    }

    /// The highest id of a token.
    #[cfg(feature = "pretrained")]
    pub(super) fn highest_id(&self) -> Option<u32> {
        self.inner.get_vocab(true).into_values().max()
    }

    /// The bytes of one token in a text: those that its letters stand for with byte-level BPE; otherwise its text, where `▁` is a
    /// space and `<0x0A>` a byte.
    #[cfg(feature = "pretrained")]
    pub(super) fn bytes_of_token(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.inner.id_to_token(id) else { return Vec::new() };
        if self.inner.get_added_vocabulary().get_vocab().contains_key(&token) {
            return token.into_bytes();
        }
        if self.inner.get_decoder().is_some_and(is_byte_level) {
            let letters = super::byte_level::letters();
            let byte =
                |letter| letters.iter().position(|other| *other == letter).and_then(|byte| u8::try_from(byte).ok());
            return token.chars().filter_map(byte).collect();
        }
        let byte = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => vec![byte],
            None => token.replace('▁', " ").into_bytes(),
        }
    }

    pub(super) fn special_tokens(&self) -> BTreeMap<String, u32> {
        let added = self.inner.get_added_tokens_decoder();
        added.into_iter().filter(|(_, token)| token.special).map(|(id, token)| (token.content, id)).collect()
    }

    pub(super) fn added_tokens(&self) -> BTreeMap<String, u32> {
        self.inner.get_added_vocabulary().get_vocab().iter().map(|(token, &id)| (token.clone(), id)).collect()
    }

    /// The parts of a text: those that are added tokens, with their ids, and those between them. A part that is a token holds the
    /// white space that the token takes with it.
    #[cfg(feature = "chat")]
    pub(super) fn split_added_tokens<'a>(&self, text: &'a str) -> Result<Vec<(&'a str, Option<u32>)>> {
        let added = self.inner.get_added_vocabulary();
        let split = caught(|| Ok(added.extract_and_normalize(self.inner.get_normalizer(), text)))
            .map_err(|error| self.not_encoded(&error))?;
        let mut parts = Vec::new();
        let mut add = |from: usize, to: usize, id| {
            parts.extend(text.get(from..to).filter(|part| !part.is_empty()).map(|part| (part, id)));
        };
        let mut end = 0;
        for (_, offsets, tokens) in split.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            if let Some(token) = tokens.as_ref().and_then(|tokens| tokens.first()) {
                add(end, offsets.0, None);
                add(offsets.0, offsets.1, Some(token.id));
                end = offsets.1;
            }
        }
        add(end, text.len(), None);
        Ok(parts)
    }

    pub(super) fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        self.check(text)?;
        let tokens = caught(|| self.without_added(text)).map_err(|error| self.not_encoded(&error))?;
        let cuts = self.marks_among(&tokens, text);
        if cuts.is_empty() {
            return Ok(tokens);
        }
        // A vocabulary that holds the text of a mark as an ordinary word, too: in two pieces it cannot be that word.
        let ends = cuts.iter().copied().chain([text.len()]);
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let mut tokens = Vec::new();
        for (start, end) in starts.zip(ends) {
            tokens.extend(self.encode_text(text.get(start..end).unwrap_or_default())?);
        }
        Ok(tokens)
    }

    fn check(&self, text: &str) -> Result<()> {
        let is_cut = text.len() > MAX_WHITE_SPACE && self.inner.get_pre_tokenizer().is_some();
        if is_cut && text.split(|letter: char| !letter.is_whitespace()).any(|run| run.len() > MAX_WHITE_SPACE) {
            let why = format!("it has more than {MAX_WHITE_SPACE} bytes of white space in a row");
            return Err(self.not_encoded(&why));
        }
        Ok(())
    }

    /// The tokens of the model itself.
    fn without_added(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        let mut parts = PreTokenizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            parts.normalize(|part| normalizer.normalize(part))?;
        }
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut parts)?;
        }
        let model = self.inner.get_model();
        parts.tokenize(|part| model.tokenize(part.get()))?;
        Ok(parts.into_encoding(None, 0, OffsetType::None)?.get_ids().to_vec())
    }

    /// Where to cut a text so that the marks that are among its tokens cannot come about: after the first character of each.
    fn marks_among(&self, tokens: &[u32], text: &str) -> Vec<usize> {
        let added = self.inner.get_added_vocabulary().get_added_tokens_decoder();
        let mut marks: Vec<&AddedToken> =
            tokens.iter().filter_map(|id| added.get(id)).filter(|&mark| is_mark(mark)).collect();
        marks.sort_unstable_by_key(|mark| &mark.content);
        marks.dedup_by_key(|mark| &mark.content);
        let mut cuts: Vec<usize> = marks
            .iter()
            .flat_map(|mark| {
                let first = mark.content.chars().next().map_or(0, char::len_utf8);
                text.match_indices(&mark.content).map(move |(start, _)| start + first)
            })
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }

    fn not_encoded(&self, error: &dyn std::fmt::Display) -> Error {
        Error::invalid_input(format!("{:?} cannot encode the text: {error}", self.id))
    }

    pub(super) fn encode(&self, text: &str, whole: bool) -> Result<Vec<u32>> {
        self.check(text)?;
        match caught(|| self.inner.encode_fast(text, whole)) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(self.not_encoded(&error)),
        }
    }

    pub(super) fn decode(&self, tokens: &[u32], with_special: bool) -> Result<String> {
        caught(|| self.inner.decode(tokens, !with_special))
            .map_err(|error| Error::invalid_input(format!("{:?} cannot decode the tokens: {error}", self.id)))
    }
}

#[cfg(feature = "pretrained")]
fn is_byte_level(decoder: &tokenizers::DecoderWrapper) -> bool {
    match decoder {
        tokenizers::DecoderWrapper::ByteLevel(_) => true,
        tokenizers::DecoderWrapper::Sequence(decoders) => decoders.get_decoders().iter().any(is_byte_level),
        _ => false,
    }
}

/// Calls the library, which panics over some damaged files: when it reads them, or only when it uses what they say.
pub(super) fn caught<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        Err(format!("its file is damaged, and the tokenizers library panicked over it: {}", panic_text(&*panic)).into())
    })
}

/// Whether an added token marks something, and is not a word of the language: `<think>`, but not two line breaks.
fn is_mark(token: &AddedToken) -> bool {
    let text = token.content.as_str();
    let enclosed = |open, close| text.starts_with(open) && text.ends_with(close);
    text.chars().nth(1).is_some() && (token.special || enclosed('<', '>') || enclosed('[', ']'))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(id: u32, content: &str, flags: &[&str]) -> Value {
        let flag = |name: &str| flags.contains(&name);
        json!({
            "id": id, "content": content, "single_word": flag("single_word"), "lstrip": flag("lstrip"),
            "rstrip": flag("rstrip"), "normalized": flag("normalized"), "special": flag("special"),
        })
    }

    /// Words are the letters that follow each other, and each is a token of its own.
    fn tokenizer(added: &[Value], words: &[&str]) -> HuggingFace {
        let letters = "abcdefghiknort</>_|[]. \nÀ".chars().map(|letter| letter.to_string());
        let words = words.iter().map(|word| (*word).to_owned());
        let vocabulary: serde_json::Map<String, Value> =
            letters.chain(words).zip(1000..).map(|(word, id)| (word, Value::from(id))).collect();
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": " "}, "behavior": "Isolated", "invert": false},
            "post_processor": null, "decoder": {"type": "Fuse"},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": true,
                "vocab": vocabulary, "merges": [],
            },
        });
        HuggingFace::new("test", tokenizers::Tokenizer::from_bytes(json.to_string()).unwrap(), None)
    }

    #[test]
    fn marks_in_the_vocabulary_are_text_too() {
        let added = [token(0, "<think>", &[]), token(1, "<s>", &["special"]), token(2, "ab", &[])];
        let tokenizer = tokenizer(&added, &["<think>", "ab"]);
        let id = |token: &str| tokenizer.token_to_id(token).unwrap();
        assert_eq!(tokenizer.encode("<think>", false).unwrap(), [id("<think>")]);
        let tokens = tokenizer.encode_text("<think> ab").unwrap();
        assert_eq!(tokens.len(), 9, "{tokens:?}");
        assert!(!tokens.contains(&id("<think>")));
        // No mark: a word that the tokenizer would find in a text anyway.
        assert_eq!(tokens.last(), Some(&id("ab")));
        assert_eq!(tokenizer.encode_text("<think><think>").unwrap().len(), 14);
    }

    #[cfg(feature = "chat")]
    #[test]
    fn added_tokens_are_found_by_their_flags() {
        let added = [
            token(0, "<a>", &["lstrip"]),
            token(1, "<b>", &["rstrip"]),
            token(2, "<c>", &[]),
            token(3, "<c>d", &[]),
            token(4, "<À>", &["normalized"]),
            token(5, "or", &["single_word"]),
        ];
        let tokenizer = tokenizer(&added, &[]);
        let id = |token: &str| tokenizer.token_to_id(token);
        for (text, parts) in [
            ("", vec![]),
            ("abc", vec![("abc", None)]),
            ("a <a> b", vec![("a", None), (" <a>", id("<a>")), (" b", None)]),
            ("a <b> \n b", vec![("a ", None), ("<b> \n ", id("<b>")), ("b", None)]),
            ("<c><c>dd", vec![("<c>", id("<c>")), ("<c>d", id("<c>d")), ("d", None)]),
            ("A\u{300}<A\u{300}>", vec![("A\u{300}", None), ("<A\u{300}>", id("<À>"))]),
            ("for or", vec![("for ", None), ("or", id("or"))]),
        ] {
            assert_eq!(tokenizer.split_added_tokens(text).unwrap(), parts, "{text}");
        }
    }

    #[cfg(feature = "chat")]
    #[test]
    fn parts_have_the_tokens_of_the_whole() {
        let added = [token(0, "<a>", &["lstrip"]), token(1, "<b>", &["rstrip"]), token(2, "or", &["single_word"])];
        let tokenizer = tokenizer(&added, &[]);
        let pieces = ["<a>", "<b>", "or", " ", "\n", "a", "A\u{300}", "<", "b>", "."];
        let texts = (0..10_000).map(|number: usize| {
            let digits = [number % 10, number / 10 % 10, number / 100 % 10, number / 1000];
            digits.map(|digit| pieces[digit]).concat()
        });
        for text in texts {
            let parts = tokenizer.split_added_tokens(&text).unwrap();
            assert_eq!(parts.iter().map(|(part, _)| *part).collect::<String>(), text);
            let tokens = parts.iter().flat_map(|(part, id)| match id {
                Some(id) => vec![*id],
                None => tokenizer.encode_text(part).unwrap(),
            });
            assert_eq!(tokens.collect::<Vec<u32>>(), tokenizer.encode(&text, false).unwrap(), "{text:?}");
        }
    }
}

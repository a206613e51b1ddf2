//! Builds tokenizers of byte-level BPE from their parts.

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::{SpecialToken, TemplateProcessing};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::words::Words;

/// The parts of a tokenizer.
pub(super) struct Parts {
    /// The ids of all tokens: words, written in letters ([`letters`]), and added tokens, written as they are.
    pub(super) ids: Vec<(String, u32)>,
    /// Pairs of words, the first ones to be merged first. They, and what they make, are among the tokens.
    pub(super) merges: Merges,
    /// Among the tokens, too.
    pub(super) added: Vec<AddedToken>,
    pub(super) words: &'static Words,
    /// A pattern in place of those of `words`.
    pub(super) pattern: Option<String>,
    /// The tokens around a whole text.
    pub(super) before: Option<(String, u32)>,
    pub(super) after: Option<(String, u32)>,
}

impl Parts {
    pub(super) fn build(self) -> tokenizers::Result<tokenizers::Tokenizer> {
        let vocabulary: Vocab = self.ids.into_iter().collect();
        for (left, right) in &self.merges {
            if [left, right, &format!("{left}{right}")].into_iter().any(|word| !vocabulary.contains_key(word)) {
                return Err(format!("it merges {left:?} and {right:?}, which is not in the vocabulary").into());
            }
        }
        let model = BPE::builder().vocab_and_merges(vocabulary, self.merges).ignore_merges(self.words.whole);
        let mut tokenizer = tokenizers::Tokenizer::new(model.build()?);
        if self.words.nfc {
            tokenizer.with_normalizer(Some(NFC))?;
        }
        let patterns = match &self.pattern {
            Some(pattern) => std::slice::from_ref(pattern).iter().map(String::as_str).collect(),
            None => self.words.patterns.to_vec(),
        };
        let mut steps = Vec::new();
        for pattern in patterns {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            steps.push(PreTokenizerWrapper::from(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?));
        }
        steps.push(ByteLevel::new(false, true, false).into());
        tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
        tokenizer.with_decoder(Some(ByteLevel::new(false, true, false)));
        if self.before.is_some() || self.after.is_some() {
            let (before, after) =
                (self.before.map(|token| ("before", token)), self.after.map(|token| ("after", token)));
            let name = |token: &Option<(&str, _)>| token.as_ref().map_or(String::new(), |(name, _)| (*name).to_owned());
            let template = format!("{} $A {}", name(&before), name(&after));
            let tokens = before.into_iter().chain(after);
            let tokens = tokens.map(|(name, (text, id))| SpecialToken::new(name.to_owned(), vec![id], vec![text]));
            let tokens = tokens.collect::<tokenizers::Result<Vec<_>>>()?;
            let template = TemplateProcessing::builder().try_single(template.trim())?.special_tokens(tokens).build()?;
            tokenizer.with_post_processor(Some(template));
        }
        tokenizer.add_tokens(self.added)?;
        Ok(tokenizer)
    }
}

/// The letters that stand for bytes in the vocabularies of byte-level BPE: a visible character of Latin-1 for itself, another
/// byte for a character from U+0100 on.
pub(super) fn letters() -> [char; 256] {
    let mut next = 256;
    std::array::from_fn(|byte| {
        let visible = matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let letter = if visible { byte } else { next };
        next += usize::from(!visible);
        u32::try_from(letter).ok().and_then(char::from_u32).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_the_library() {
        let (ours, theirs) = (letters(), ByteLevel::alphabet());
        assert!(ours.iter().all(|letter| theirs.contains(letter)));
        assert_eq!(theirs.len(), 256);
        assert_eq!((ours[usize::from(b' ')], ours[usize::from(b'\n')], ours[0xAD], ours[0xFF]), ('Ġ', 'Ċ', 'Ń', 'ÿ'));
    }

    #[test]
    fn merges_of_nothing_are_refused() {
        let parts = |merges: &[(&str, &str)]| Parts {
            ids: vec![("a".to_owned(), 0), ("b".to_owned(), 1), ("ab".to_owned(), 2)],
            merges: merges.iter().map(|(left, right)| ((*left).to_owned(), (*right).to_owned())).collect(),
            added: Vec::new(),
            words: &super::super::words::KIMI,
            pattern: None,
            before: None,
            after: None,
        };
        assert!(parts(&[("a", "b")]).build().is_ok());
        for merge in [("ab", "ab"), ("c", "a"), ("b", "a")] {
            let error = parts(&[merge]).build().unwrap_err().to_string();
            assert!(error.contains(merge.0), "{error}");
        }
    }
}

//! Decodes a stream of tokens.

use super::Tokenizer;
use crate::error::Result;

/// Decodes tokens as they arrive, and holds back what may be the start of a character. Made by [`Tokenizer::decoder`].
///
/// # Examples
///
/// ```
/// let mut decoder = tinkex::Tokenizer::bytes().decoder();
/// assert_eq!(decoder.push(&[b'a'.into(), 0xC3])?, "a");
/// assert_eq!(decoder.push(&[0xA9])?, "é");
/// assert_eq!(decoder.push(&[0xC3])?, "");
/// assert_eq!(decoder.finish()?, "\u{FFFD}");
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TextDecoder {
    tokenizer: Tokenizer,
    /// The tokens of the last returned text, since the text of the next ones may depend on them, and those after it.
    tokens: Vec<u32>,
    /// How many of them were returned as text.
    returned: usize,
    with_special: bool,
}

impl TextDecoder {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        TextDecoder { tokenizer, tokens: Vec::new(), returned: 0, with_special: false }
    }

    /// Returns the text of special tokens, too, as [`Tokenizer::decode_with_special_tokens`]. Defaults to leaving it out.
    #[cfg(feature = "local")]
    pub(crate) fn with_special_tokens(mut self) -> Self {
        self.with_special = true;
        self
    }

    /// Takes the next tokens, and returns the text that they complete.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::decode`].
    ///
    /// # Examples
    ///
    /// ```
    /// let mut decoder = tinkex::Tokenizer::bytes().decoder();
    /// assert_eq!(decoder.push(&[104, 105])?, "hi");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn push(&mut self, tokens: &[u32]) -> Result<String> {
        let mut text = String::new();
        for &token in tokens {
            self.tokens.push(token);
            let next = self.next()?;
            if !next.is_empty() && !next.ends_with('\u{FFFD}') {
                text.push_str(&next);
                self.tokens.drain(..self.returned);
                self.returned = self.tokens.len();
            }
        }
        Ok(text)
    }

    /// Returns the rest, with U+FFFD for an incomplete character.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::decode`].
    ///
    /// # Examples
    ///
    /// ```
    /// let mut decoder = tinkex::Tokenizer::bytes().decoder();
    /// decoder.push(&[104, 0xC3])?;
    /// assert_eq!(decoder.finish()?, "\u{FFFD}");
    /// # Ok::<(), tinkex::Error>(())
    /// ```
    pub fn finish(self) -> Result<String> {
        self.next()
    }

    /// The text of the tokens that were not returned yet.
    fn next(&self) -> Result<String> {
        let returned = self.tokenizer.decoded(&self.tokens[..self.returned], self.with_special)?;
        let all = self.tokenizer.decoded(&self.tokens, self.with_special)?;
        Ok(all.get(returned.len()..).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn streamed(parts: &[Vec<u32>]) -> String {
        let mut decoder = Tokenizer::bytes().decoder();
        let mut text: String = parts.iter().map(|part| decoder.push(part).unwrap()).collect();
        text.push_str(&decoder.finish().unwrap());
        text
    }

    quickcheck! {
        fn parts_make_the_whole(text: String, cuts: Vec<usize>) -> bool {
            let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            streamed(&cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec()).collect::<Vec<_>>()) == text
        }

        fn streaming_matches_decoding_at_once(bytes: Vec<u8>) -> bool {
            let tokens: Vec<u32> = bytes.iter().copied().map(u32::from).collect();
            let parts: Vec<Vec<u32>> = tokens.iter().map(|&token| vec![token]).collect();
            streamed(&parts) == String::from_utf8_lossy(&bytes)
        }
    }

    #[test]
    fn a_character_is_returned_whole() {
        let mut decoder = Tokenizer::bytes().decoder();
        let parts: Vec<String> = "a😀b".bytes().map(|byte| decoder.push(&[byte.into()]).unwrap()).collect();
        assert_eq!(parts, ["a", "", "", "", "😀", "b"]);
    }
}

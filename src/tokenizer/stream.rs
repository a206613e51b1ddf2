//! Text from tokens that arrive bit by bit.

use super::Tokenizer;
use crate::error::Result;

/// Turns tokens into text as they arrive, and keeps back what may be the beginning of a character. Made by
/// [`Tokenizer::decoder`].
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
    /// The tokens of the last piece that was given out, which the next one may depend on, and those after it.
    tokens: Vec<u32>,
    /// How many of them were given out.
    given: usize,
}

impl TextDecoder {
    pub(super) fn new(tokenizer: Tokenizer) -> Self {
        TextDecoder { tokenizer, tokens: Vec::new(), given: 0 }
    }

    /// Takes the next tokens and returns the text that is complete with them.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::decode`].
    pub fn push(&mut self, tokens: &[u32]) -> Result<String> {
        let mut text = String::new();
        for &token in tokens {
            self.tokens.push(token);
            let next = self.next()?;
            if !next.is_empty() && !next.ends_with('\u{FFFD}') {
                text.push_str(&next);
                self.tokens.drain(..self.given);
                self.given = self.tokens.len();
            }
        }
        Ok(text)
    }

    /// Returns what is left, with U+FFFD for what is no character.
    ///
    /// # Errors
    ///
    /// As [`Tokenizer::decode`].
    pub fn finish(self) -> Result<String> {
        self.next()
    }

    /// What the tokens that were not given out add to those that were.
    fn next(&self) -> Result<String> {
        let given = self.tokenizer.decode(&self.tokens[..self.given])?;
        let all = self.tokenizer.decode(&self.tokens)?;
        Ok(all.get(given.len()..).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    fn streamed(pieces: &[Vec<u32>]) -> String {
        let mut decoder = Tokenizer::bytes().decoder();
        let mut text: String = pieces.iter().map(|piece| decoder.push(piece).unwrap()).collect();
        text.push_str(&decoder.finish().unwrap());
        text
    }

    quickcheck! {
        fn pieces_make_the_whole(text: String, cuts: Vec<usize>) -> bool {
            let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            streamed(&cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec()).collect::<Vec<_>>()) == text
        }

        fn any_bytes_make_what_they_make_at_once(bytes: Vec<u8>) -> bool {
            let tokens: Vec<u32> = bytes.iter().copied().map(u32::from).collect();
            let pieces: Vec<Vec<u32>> = tokens.iter().map(|&token| vec![token]).collect();
            streamed(&pieces) == String::from_utf8_lossy(&bytes)
        }
    }

    #[test]
    fn a_character_comes_out_whole() {
        let mut decoder = Tokenizer::bytes().decoder();
        let pieces: Vec<String> = "a😀b".bytes().map(|byte| decoder.push(&[byte.into()]).unwrap()).collect();
        assert_eq!(pieces, ["a", "", "", "", "😀", "b"]);
    }
}

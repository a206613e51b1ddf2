//! The first tokens of a text, without the rest of it: a tokenizer needs about a hundred bytes of memory for each token.

use crate::error::Result;

/// How much more of a text than the wanted tokens is encoded at first: a token has fewer bytes on average, and what follows a cut
/// can change only the few tokens before it.
const BYTES_PER_TOKEN: usize = 16;
const TOKENS_AT_A_CUT: usize = 1024;

/// What is encoded of a text, or of a beginning of it whose first `max_tokens` tokens are those of the whole.
pub(crate) fn of<T>(
    text: &str,
    max_tokens: usize,
    mut encode: impl FnMut(&str) -> Result<T>,
    len: impl Fn(&T) -> usize,
) -> Result<T> {
    let enough = max_tokens.saturating_add(TOKENS_AT_A_CUT);
    let mut cut = enough.saturating_mul(BYTES_PER_TOKEN);
    while cut < text.len() {
        let end = (cut..text.len()).find(|&end| text.is_char_boundary(end)).unwrap_or(text.len());
        let encoded = encode(text.get(..end).unwrap_or(text))?;
        if len(&encoded) > enough {
            return Ok(encoded);
        }
        cut = cut.saturating_mul(2);
    }
    encode(text)
}

/// The first `max_tokens` tokens of a text.
pub(super) fn tokens(text: &str, max_tokens: usize, encode: impl Fn(&str) -> Result<Vec<u32>>) -> Result<Vec<u32>> {
    let mut tokens = of(text, max_tokens, encode, Vec::len)?;
    tokens.truncate(max_tokens);
    tokens.shrink_to_fit();
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_beginning_has_the_tokens_of_the_whole() {
        // Tokens of 40 bytes first, which are longer than expected, and of one byte after them.
        let text = [" ".repeat(40 * 2000), "a".repeat(1 << 20)].concat();
        let encode = |text: &str| {
            let spaces = text.bytes().take_while(|byte| *byte == b' ').count();
            Ok([vec![0; spaces / 40], vec![1; text.len() - spaces]].concat())
        };
        let whole = encode(&text).unwrap();
        for max_tokens in [0, 1, 500, 1999, 2001, 5000, usize::MAX] {
            let lengths = RefCell::new(Vec::new());
            let counted = |text: &str| {
                lengths.borrow_mut().push(text.len());
                encode(text)
            };
            let expected = whole.get(..max_tokens).unwrap_or(&whole);
            assert_eq!(tokens(&text, max_tokens, counted).unwrap(), expected);
            let is_whole = lengths.borrow().last() == Some(&text.len());
            assert_eq!(is_whole, max_tokens == usize::MAX, "{lengths:?}");
        }
    }

    #[test]
    fn a_cut_is_between_characters() {
        let text = "é€".repeat(20_000);
        let encode = |text: &str| Ok(text.bytes().map(u32::from).collect::<Vec<u32>>());
        for max_tokens in 0..20 {
            assert_eq!(tokens(&text, max_tokens, encode).unwrap(), encode(&text).unwrap()[..max_tokens]);
        }
    }
}

//! The tokens of the local server's models: bytes, and one that ends a text.

/// The token that ends a text in the byte tokenizer: the one after the last byte.
pub(super) const END_OF_BYTES: u32 = 256;

/// What stands for it in a text that shows special tokens.
pub(super) const END_OF_BYTES_TEXT: &str = "<|endoftext|>";

/// `end` is the text of [`END_OF_BYTES`]. Tokens above it are not from this tokenizer and become U+FFFD.
pub(super) fn text_of_bytes(tokens: &[u32], end: &str) -> String {
    let mut bytes = Vec::with_capacity(tokens.len());
    for &token in tokens {
        match u8::try_from(token) {
            Ok(byte) => bytes.push(byte),
            Err(_) if token == END_OF_BYTES => bytes.extend(end.bytes()),
            Err(_) => bytes.extend("\u{FFFD}".bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text of one token of the byte tokenizer.
pub(super) fn token_of_byte(id: u32) -> Option<String> {
    match u8::try_from(id) {
        Ok(byte) if byte.is_ascii_graphic() || byte == b' ' => Some(char::from(byte).to_string()),
        Ok(byte) => Some(format!("<0x{byte:02X}>")),
        Err(_) => (id == END_OF_BYTES).then(|| END_OF_BYTES_TEXT.to_owned()),
    }
}

/// The parts of a text: each text of the end token, with that token, and what is between them.
#[cfg(feature = "chat")]
pub(super) fn split_end(text: &str) -> Vec<(&str, Option<u32>)> {
    let mut parts = Vec::new();
    for (index, between) in text.split(END_OF_BYTES_TEXT).enumerate() {
        if index > 0 {
            parts.push((END_OF_BYTES_TEXT, Some(END_OF_BYTES)));
        }
        if !between.is_empty() {
            parts.push((between, None));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn bytes_are_tokens_and_back() {
        let tokenizer = Tokenizer::bytes();
        assert_eq!(tokenizer.encode("aé").unwrap(), [97, 0xC3, 0xA9]);
        assert_eq!(tokenizer.encode_continuation("b").unwrap(), [98]);
        assert_eq!(tokenizer.decode(&[97, 0xC3, 0xA9, 256]).unwrap(), "aé");
        assert_eq!(tokenizer.decode(&[97, 0xC3, 300, 98]).unwrap(), "a\u{FFFD}\u{FFFD}b");
        assert_eq!((tokenizer.id(), tokenizer.eos_token()), ("bytes", Some(256)));
    }

    #[cfg(feature = "chat")]
    #[test]
    fn the_end_of_a_text_is_a_part() {
        let end = (END_OF_BYTES_TEXT, Some(END_OF_BYTES));
        for (text, parts) in [
            ("", vec![]),
            ("a", vec![("a", None)]),
            ("a<|endoftext|>b", vec![("a", None), end, ("b", None)]),
            ("<|endoftext|><|endoftext|>", vec![end, end]),
        ] {
            assert_eq!(Tokenizer::bytes().split_added_tokens(text).unwrap(), parts, "{text}");
        }
        let tokens = Tokenizer::bytes().encode_text("<|endoftext|>").unwrap();
        assert!(!tokens.contains(&END_OF_BYTES), "{tokens:?}");
    }

    #[test]
    fn each_byte_has_one_token_text() {
        let tokenizer = Tokenizer::bytes();
        for id in 0..=END_OF_BYTES {
            let token = tokenizer.id_to_token(id).unwrap();
            assert_eq!(tokenizer.token_to_id(&token), Some(id), "{token}");
        }
        assert_eq!(tokenizer.id_to_token(END_OF_BYTES + 1), None);
        assert_eq!(tokenizer.token_to_id("ab"), None);
        assert_eq!(tokenizer.decode_with_special_tokens(&[97, 256, 300]).unwrap(), "a<|endoftext|>\u{FFFD}");
    }

    #[test]
    fn every_text_survives_a_round_trip() {
        quickcheck::quickcheck(
            (|text: String| {
                let tokenizer = Tokenizer::bytes();
                tokenizer.decode(&tokenizer.encode(&text).unwrap()).unwrap() == text
            }) as fn(_) -> bool,
        );
    }
}

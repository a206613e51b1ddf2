//! Tokens as a text in which an added token cannot be mistaken for a text that looks like it.

use std::collections::HashMap;

use crate::chat::template::ChatTemplate;
use crate::tokenizer::{TextDecoder, Tokenizer};

/// Begins the code of an added token: two characters, of which the second is its number. A noncharacter; one that a text really
/// has gets [`NO_CODE`] after it.
const CODE: char = '\u{FDD1}';

const NO_CODE: char = '.';

/// The code of the first added token is U+F0000.
const FIRST: u32 = 0xF_0000;

/// After so many tokens that complete no character, they are no text.
const LONGEST_CHARACTER: usize = 32;

/// The added tokens of a tokenizer, and their codes.
#[derive(Debug)]
pub(super) struct Codes {
    tokenizer: Tokenizer,
    /// The number of each added token, by its id.
    numbers: HashMap<u32, u32>,
    /// The text of each, by its number.
    texts: Vec<String>,
    /// Whether each is part of the format: it is special, and the template writes it.
    structural: Vec<bool>,
}

impl Codes {
    pub(super) fn new(tokenizer: &Tokenizer, template: &ChatTemplate) -> Self {
        let special = tokenizer.special_tokens();
        let (numbers, texts, structural) = (HashMap::new(), Vec::new(), Vec::new());
        let mut codes = Codes { tokenizer: tokenizer.clone(), numbers, texts, structural };
        // As many as there are characters in the plane.
        for ((text, id), number) in tokenizer.added_tokens().into_iter().zip(0..0xFFFF) {
            codes.numbers.insert(id, number);
            codes.structural.push(special.contains_key(&text) && template.source().contains(&text));
            codes.texts.push(text);
        }
        codes
    }

    /// A text as this tokenizer would write it, where all added tokens are meant as tokens.
    pub(super) fn code(&self, text: &str) -> String {
        let mut coded = String::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let found =
                self.texts.iter().enumerate().filter(|(_, token)| !token.is_empty() && rest.starts_with(*token));
            match found.max_by_key(|(_, token)| token.len()) {
                Some((number, token)) => {
                    self.push_code(number, &mut coded);
                    rest = rest.strip_prefix(token.as_str()).unwrap_or_default();
                }
                None => {
                    push_text(rest.get(..character.len_utf8()).unwrap_or_default(), &mut coded);
                    rest = rest.get(character.len_utf8()..).unwrap_or_default();
                }
            }
        }
        coded
    }

    fn push_code(&self, number: usize, coded: &mut String) {
        if let Some(character) = u32::try_from(number).ok().and_then(|number| char::from_u32(FIRST + number)) {
            coded.extend([CODE, character]);
        }
    }

    /// The text that a coded text stands for, with all tokens as text.
    pub(super) fn plain(&self, coded: &str) -> String {
        let mut plain = String::with_capacity(coded.len());
        let mut characters = coded.chars();
        while let Some(character) = characters.next() {
            if character != CODE {
                plain.push(character);
                continue;
            }
            match characters.next().and_then(|number| self.token(number)) {
                Some((text, _)) => plain.push_str(text),
                None => plain.push(CODE),
            }
        }
        plain
    }

    /// The first token in a coded text that is part of the format, or one of these.
    pub(super) fn token_of_format(&self, coded: &str, is_one: impl Fn(&str) -> bool) -> Option<&str> {
        let mut characters = coded.chars();
        while let Some(character) = characters.next() {
            if character != CODE {
                continue;
            }
            let token = characters.next().and_then(|number| self.token(number));
            if let Some((text, _)) = token.filter(|(text, is_structural)| *is_structural || is_one(text)) {
                return Some(text);
            }
        }
        None
    }

    /// The first token in a coded text that is part of the format.
    pub(super) fn structural_token(&self, coded: &str) -> Option<&str> {
        self.token_of_format(coded, |_| false)
    }

    /// The text of a token, and whether it is part of the format, by the second character of its code.
    fn token(&self, number: char) -> Option<(&str, bool)> {
        let number = usize::try_from(u32::from(number).checked_sub(FIRST)?).ok()?;
        Some((self.texts.get(number)?, *self.structural.get(number)?))
    }

    /// Whether a coded text is one token.
    pub(super) fn is_token(coded: &str) -> bool {
        coded.starts_with(CODE) && coded.chars().count() == 2
    }
}

fn push_text(text: &str, coded: &mut String) {
    for character in text.chars() {
        coded.push(character);
        if character == CODE {
            coded.push(NO_CODE);
        }
    }
}

/// Decodes a stream of tokens to a coded text.
#[derive(Debug)]
pub(super) struct CodedDecoder {
    text: TextDecoder,
    /// The tokens whose text is not complete.
    pending: Vec<u32>,
}

impl CodedDecoder {
    /// A decoder of what follows this text, of which some tokenizers take a space from the first token of a text.
    pub(super) fn after(text: &str, codes: &Codes) -> Self {
        let mut decoder = CodedDecoder { text: codes.tokenizer.decoder(), pending: Vec::new() };
        let mut known = String::new();
        for token in codes.tokenizer.encode_continuation(text).unwrap_or_default() {
            decoder.push(token, codes, &mut known);
        }
        // It is held, as it may stand for an incomplete character.
        if text.ends_with('\u{FFFD}') {
            decoder.flush(codes, &mut known);
        }
        decoder
    }

    /// Appends what a token completes. Whether it breaks a character: an added token within one, or one that never ends.
    pub(super) fn push(&mut self, token: u32, codes: &Codes, coded: &mut String) -> bool {
        if let Some(&number) = codes.numbers.get(&token) {
            let is_broken = self.flush(codes, coded);
            codes.push_code(usize::try_from(number).unwrap_or(usize::MAX), coded);
            return is_broken;
        }
        self.pending.push(token);
        let text = self.text.push(&[token]).unwrap_or_default();
        if !text.is_empty() {
            push_text(&text, coded);
            self.pending.clear();
        }
        self.pending.len() > LONGEST_CHARACTER && self.flush(codes, coded)
    }

    /// Appends what is there of an incomplete character, and says whether there is one.
    pub(super) fn flush(&mut self, codes: &Codes, coded: &mut String) -> bool {
        let decoder = std::mem::replace(&mut self.text, codes.tokenizer.decoder());
        let text = decoder.finish().unwrap_or_default();
        // The replacement character may also be what was written.
        let written = codes.tokenizer.encode_text(&text).is_ok_and(|tokens| tokens == self.pending);
        self.pending.clear();
        push_text(&text, coded);
        !text.is_empty() && !written
    }
}

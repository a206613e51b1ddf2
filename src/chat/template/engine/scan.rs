//! The words of a template's expressions.

/// A word, with the white space before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    space: &'a str,
}

impl<'a> Token<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Token { text, space: "" }
    }

    pub(super) fn with_space(&self) -> String {
        [self.space, self.text].concat()
    }

    pub(super) fn is_word(&self) -> bool {
        self.text.starts_with(is_word)
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The words of an expression: names, numbers, texts in quotes, signs. White space at the end is an empty word.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (space, after) = rest.split_at(rest.len() - rest.trim_start().len());
        let (text, after) = after.split_at(token_length(after));
        tokens.push(Token { text, space });
        rest = after;
    }
    tokens
}

fn token_length(text: &str) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    match first {
        '"' | '\'' => quoted_length(text, first),
        '0'..='9' => number_length(text),
        _ if is_word(first) => text.find(|character| !is_word(character)).unwrap_or(text.len()),
        _ if ["==", "!=", "<=", ">=", "//", "**"].iter().any(|sign| text.starts_with(sign)) => 2,
        _ => first.len_utf8(),
    }
}

/// How many bytes the text in quotes has that begins here.
pub(super) fn quoted_length(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (index, character) in text.char_indices().skip(1) {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if character == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let is_word_at = |index: usize| bytes.get(index).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let mut length = 0;
    loop {
        let byte = bytes.get(length).copied().unwrap_or_default();
        let next_is_digit = bytes.get(length + 1).is_some_and(u8::is_ascii_digit);
        let is_sign = !is_hexadecimal && matches!(byte, b'+' | b'-') && next_is_digit;
        let is_exponent = is_sign && length > 0 && matches!(bytes.get(length - 1), Some(b'e' | b'E'));
        if is_word_at(length) || (byte == b'.' && next_is_digit) || is_exponent {
            length += 1;
        } else {
            return length;
        }
    }
}

/// Whether an operand may end with this token.
pub(super) fn ends_operand(token: &str) -> bool {
    let is_word = token.starts_with(|first: char| first.is_alphanumeric() || matches!(first, '_' | '"' | '\''));
    matches!(token, ")" | "]" | "}") || (is_word && !ends_sum(token) && !matches!(token, "is" | "is not"))
}

/// Whether this token binds less than a sum.
pub(super) fn ends_sum(token: &str) -> bool {
    matches!(
        token,
        "," | ":"
            | "="
            | "=="
            | "!="
            | "<"
            | ">"
            | "<="
            | ">="
            | "and"
            | "or"
            | "not"
            | "in"
            | "if"
            | "else"
            | "recursive"
    )
}

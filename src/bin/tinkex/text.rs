//! Text from elsewhere, made safe to print.

use std::fmt::Write;

/// The text on one line: line breaks and tabs become spaces, other control characters are escaped, so that text from a service
/// or a file cannot control the terminal.
pub(crate) fn one_line(text: &str) -> String {
    escape(text, |character| if "\n\r\t".contains(character) { Some(' ') } else { None })
}

/// The text with its line breaks and tabs; other control characters are escaped, so that it cannot control the terminal.
pub(crate) fn multi_line(text: &str) -> String {
    escape(text, |character| if "\n\t".contains(character) { Some(character) } else { None })
}

/// The text as a file name that is valid on every file system.
pub(crate) fn portable(text: &str) -> String {
    let is_portable = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
    text.chars().map(|letter| if is_portable(letter) { letter } else { '_' }).collect()
}

fn escape(text: &str, allowed: impl Fn(char) -> Option<char>) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        match allowed(character) {
            Some(instead) => safe.push(instead),
            // Writing to a string cannot fail.
            None if character.is_control() => write!(safe, "{}", character.escape_unicode()).unwrap_or_default(),
            None => safe.push(character),
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_has_no_control_characters() {
        assert_eq!(one_line("a\nb\tc\rd"), "a b c d");
        assert_eq!(one_line("\u{1b}[2Jü"), "\\u{1b}[2Jü");
    }

    #[test]
    fn multi_line_keeps_only_line_breaks_and_tabs() {
        assert_eq!(multi_line("a\n\tb\u{1b}[2J\r"), "a\n\tb\\u{1b}[2J\\u{d}");
    }
}

//! Text from elsewhere, made safe for one line of an error or of the log.

use std::borrow::Cow;

/// The maximum length of a message, a hint or a cause in bytes.
const MAX_LINE: usize = 4000;

/// The maximum length of an id from the service in bytes.
const MAX_ID: usize = 200;

/// The text on one line, for a message: no server can forge a line of the log with it, or control a terminal.
pub(super) fn line<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    truncated(one_line(text), MAX_LINE)
}

/// An id from the service, as a message shows it. The whole id is for programs.
pub(crate) fn shown_id(id: &str) -> Cow<'_, str> {
    truncated(one_line(id), MAX_ID)
}

/// The text with a space for each character that is not for reading.
pub(crate) fn one_line<'a>(text: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
    let text = text.into();
    if text.chars().any(is_unreadable) {
        text.chars().map(|letter| if is_unreadable(letter) { ' ' } else { letter }).collect()
    } else {
        text
    }
}

/// Control characters, other line ends, and what changes the direction of the text after it.
fn is_unreadable(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text within a length in bytes.
pub(crate) fn truncated(text: Cow<'_, str>, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return text;
    }
    let end = (0..=max - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn a_line_holds_what_can_be_read() {
        for (text, expected) in [
            ("no GPU free", "no GPU free"),
            ("größer – 日本", "größer – 日本"),
            ("a\r\nERROR b\0\u{1b}[2J\u{9b}31m\u{7f}", "a  ERROR b  [2J 31m "),
            ("a\u{2028}b\u{202e}c\u{2066}d", "a b c d"),
        ] {
            assert_eq!(line(text), expected, "{text:?}");
        }
        assert!(matches!(line("as it is"), Cow::Borrowed(_)));
    }

    #[test]
    fn an_id_of_a_megabyte_is_cut() {
        let shown = shown_id(&"ü".repeat(500_000)).into_owned();
        assert!(shown.len() <= MAX_ID && shown.ends_with("ü…"), "{shown}");
    }

    quickcheck! {
        fn any_text_becomes_a_line(text: String, repeat: u8) -> bool {
            let shown = line(text.repeat(usize::from(repeat))).into_owned();
            shown.len() <= MAX_LINE && !shown.chars().any(is_unreadable)
        }
    }
}

//! Text from elsewhere, made safe to print.

/// The maximum length of an id in a message, in characters.
const MAX_ID: usize = 200;

/// An id from a service, as a message shows it.
pub(crate) fn shown_id(id: &str) -> String {
    match id.char_indices().nth(MAX_ID) {
        Some((end, _)) => format!("{}…", &id[..end]),
        None => id.to_owned(),
    }
}

/// JSON with the control characters that it may have unescaped, escaped. All of these are below U+10000.
pub(crate) fn json(text: &str) -> String {
    let escaped = |character| format!("\\u{:04x}", u32::from(character));
    escape(text, |character| (character == '\n').then_some(character), escaped)
}

/// Whether a character controls the terminal, or changes the direction of the text after it.
fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text on one line: line breaks and tabs become spaces, other control characters are escaped, so that text from a service
/// or a file cannot control the terminal.
pub(crate) fn one_line(text: &str) -> String {
    escape(text, |character| "\n\r\t\u{2028}\u{2029}".contains(character).then_some(' '), code)
}

/// The text with its line breaks and tabs; other control characters are escaped, so that it cannot control the terminal.
pub(crate) fn multi_line(text: &str) -> String {
    escape(text, |character| "\n\t".contains(character).then_some(character), code)
}

/// The text as a file name that is valid on every file system.
pub(crate) fn portable(text: &str) -> String {
    let is_portable = |letter: char| letter.is_alphanumeric() || "-_.".contains(letter);
    text.chars().map(|letter| if is_portable(letter) { letter } else { '_' }).collect()
}

/// A character as Rust writes it: `\u{1b}`.
fn code(character: char) -> String {
    character.escape_unicode().to_string()
}

fn escape(text: &str, allowed: impl Fn(char) -> Option<char>, escaped: impl Fn(char) -> String) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, character| {
        match allowed(character) {
            Some(instead) => safe.push(instead),
            None if is_control(character) => safe.push_str(&escaped(character)),
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
        assert_eq!(one_line("\u{1b}[2Jü\u{202e}"), "\\u{1b}[2Jü\\u{202e}");
    }

    #[test]
    fn json_says_the_same_without_control_characters() {
        let value = "ü\u{9b}31m\u{7f}\u{202e}\n";
        let safe = json(&serde_json::to_string_pretty(&[value]).unwrap());
        assert_eq!(safe, "[\n  \"ü\\u009b31m\\u007f\\u202e\\n\"\n]");
        assert_eq!(serde_json::from_str::<[String; 1]>(&safe).unwrap(), [value]);
    }

    #[test]
    fn an_id_is_cut() {
        assert_eq!(shown_id("run-1"), "run-1");
        assert_eq!(shown_id(&"ü".repeat(201)), format!("{}…", "ü".repeat(200)));
    }

    #[test]
    fn multi_line_keeps_only_line_breaks_and_tabs() {
        assert_eq!(multi_line("a\n\tb\u{1b}[2J\r"), "a\n\tb\\u{1b}[2J\\u{d}");
    }
}

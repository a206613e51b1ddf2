//! Whether a text can be an id, a name or metadata: in a header or a log, a line break would begin another one.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Refuses a text with a line break or a NUL. `what` names it in the error.
pub(crate) fn check(what: &str, text: &str) -> Result<()> {
    if text.contains(['\r', '\n', '\0']) {
        let message = format!("{what} has a line break or a NUL character: {text:?}");
        return Err(Error::invalid_input(message).with_hint("leave the character out"));
    }
    Ok(())
}

/// Refuses metadata with such a key or value.
pub(crate) fn check_metadata(metadata: &BTreeMap<String, String>) -> Result<()> {
    metadata.iter().flat_map(|(key, value)| [key, value]).try_for_each(|text| check("the metadata", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_is_refused() {
        for (text, fits) in [("größer b\t", true), ("", true), ("a\n", false), ("\rb", false), ("a\0b", false)] {
            assert_eq!(check("the name", text).is_ok(), fits, "{text:?}");
            for (key, value) in [(text, "x"), ("x", text)] {
                assert_eq!(check_metadata(&[(key.to_owned(), value.to_owned())].into()).is_ok(), fits, "{text:?}");
            }
        }
        let error = check("the name", "a\r\nb").unwrap_err().to_string();
        assert_eq!(error, r#"the name has a line break or a NUL character: "a\r\nb"; leave the character out"#);
    }
}

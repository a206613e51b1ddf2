//! Whether a text can be an id or a name: in a header or a log, a line break would begin another one. Metadata may have some: it is in
//! bodies alone, and the official client takes it.

use crate::error::{Error, Result};

/// Refuses a text with a line break or a NUL. `what` names it in the error.
pub(crate) fn check(what: &str, text: &str) -> Result<()> {
    refuse_breaks(what, text, || format!(": {text:?}"))
}

/// Refuses a secret with a line break or a NUL, without showing it. `what` names it in the error.
pub(crate) fn check_secret(what: &str, secret: &str) -> Result<()> {
    refuse_breaks(what, secret, String::new)
}

fn refuse_breaks(what: &str, text: &str, shown: impl FnOnce() -> String) -> Result<()> {
    if !text.contains(['\r', '\n', '\0']) {
        return Ok(());
    }
    let message = format!("{what} has a line break or a NUL character{}", shown());
    Err(Error::invalid_input(message).with_hint("leave the character out"))
}

/// Refuses a name that is blank, or has a line break or a NUL. `what` names it in the error.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Error::invalid_input(format!("{what} is empty")));
    }
    check(what, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_is_refused() {
        for (text, fits) in [("größer b\t", true), ("", true), ("a\n", false), ("\rb", false), ("a\0b", false)] {
            assert_eq!(check("the name", text).is_ok(), fits, "{text:?}");
        }
        let error = check("the name", "a\r\nb").unwrap_err().to_string();
        assert_eq!(error, r#"the name has a line break or a NUL character: "a\r\nb"; leave the character out"#);
        let error = check_secret("the token", "a\n").unwrap_err().to_string();
        assert_eq!(error, "the token has a line break or a NUL character; leave the character out");
    }
}

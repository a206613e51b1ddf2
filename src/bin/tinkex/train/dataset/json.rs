//! Values of a line, and what is said about those that are not understood.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// Those of the keys that are not known. One that differs from a known key in case or blanks only is an error.
pub(super) fn unknown_keys<'a>(keys: impl Iterator<Item = &'a String>, known: &[&str]) -> Result<Vec<String>, String> {
    let mut unknown = Vec::new();
    for key in keys.filter(|key| !known.contains(&key.as_str())) {
        if let Some(meant) = known.iter().find(|known| key.trim().eq_ignore_ascii_case(known)) {
            return Err(format!("unknown key {key:?}; write {meant:?}"));
        }
        unknown.push(key.clone());
    }
    Ok(unknown)
}

/// A text, or what the value is instead.
pub(super) fn text(value: &RawValue) -> Result<String, String> {
    serde_json::from_str(value.get()).map_err(|error| match value.get().starts_with('"') {
        true => format!("is not valid text: {}", reason(&error)),
        false => format!("is {}, expected a text", described(value)),
    })
}

/// What is wrong. serde_json counts lines within this line, so its number would mislead.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

pub(super) fn read<T: DeserializeOwned>(value: &RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

pub(super) fn described(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a text",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        _ => "a number",
    }
}

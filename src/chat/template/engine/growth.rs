//! How large the result of a method or filter can get, known before it is made.

use minijinja::{Error, Value};

use super::{budget, python};

/// Pays for the pieces of a text.
pub(super) fn check_split(text: &Value, separator: Option<&Value>) -> Result<(), Error> {
    let text = text.as_str().unwrap_or_default();
    let pieces = match separator.and_then(Value::as_str) {
        Some(separator) if !separator.is_empty() => text.matches(separator).count(),
        _ => text.split_whitespace().count().max(text.matches('\n').count()),
    };
    // The engine has them twice for a while.
    budget::charge_items(pieces.saturating_mul(2))
}

/// Pays for what a format makes of its values: at each place the longest of them, and as many spaces as it says.
pub(super) fn check_format(format: &str, values: &[Value]) -> Result<(), Error> {
    let numbers = format.split(|character: char| !character.is_ascii_digit()).filter(|number| !number.is_empty());
    let widths = numbers.map(|number| number.parse().unwrap_or(usize::MAX)).fold(0, usize::saturating_add);
    let places = format.matches(['%', '{']).count();
    let length = |value: &Value| value.as_str().map_or_else(|| python::str(value).len(), str::len);
    let longest = values.iter().map(length).max().unwrap_or_default();
    budget::charge(widths.saturating_add(places.saturating_mul(longest)))
}

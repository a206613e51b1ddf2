//! Values as Python prints them.

use std::fmt::{self, Write};

use minijinja::Value;
use minijinja::value::ValueKind;

use super::budget::{MAX_DEPTH, Paid, charge_items};

/// Python's `str(value)`.
pub(super) fn write_str(out: &mut impl Write, value: &Value) -> fmt::Result {
    match value.as_str() {
        Some(text) => out.write_str(text),
        None if value.is_undefined() => Ok(()),
        None => write_repr(out, value, 0),
    }
}

/// Python's `str(value)`, paid for.
pub(super) fn str(value: &Value) -> String {
    let mut text = String::new();
    // Fails for a value that is too deep, and then what is there says so, or that is too large, and then the rendering fails.
    if write_str(&mut Paid(&mut text), value).is_err() {
        text.push_str("...");
    }
    text
}

/// Python's `repr(value)`.
fn write_repr(out: &mut impl Write, value: &Value, depth: usize) -> fmt::Result {
    if depth > MAX_DEPTH || charge_items(1).is_err() {
        return Err(fmt::Error);
    }
    match value.kind() {
        ValueKind::Undefined => out.write_str("Undefined"),
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => write_text(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            out.write_char('[')?;
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &item, depth + 1)?;
            }
            out.write_char(']')
        }
        ValueKind::Map => {
            out.write_char('{')?;
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                if index > 0 {
                    out.write_str(", ")?;
                }
                write_repr(out, &key, depth + 1)?;
                out.write_str(": ")?;
                write_repr(out, &value.get_item(&key).unwrap_or_default(), depth + 1)?;
            }
            out.write_char('}')
        }
        _ => write!(out, "{value}"),
    }
}

/// Python's `repr` of an int or a float.
pub(super) fn write_number(out: &mut impl Write, value: &Value) -> fmt::Result {
    if value.is_integer() {
        return write!(out, "{value}");
    }
    match f64::try_from(value.clone()) {
        Ok(float) => write_float(out, float),
        Err(_) => write!(out, "{value}"),
    }
}

/// Python's `repr` of a float: the shortest digits that give it back, with an exponent below `1e-4` and from `1e16`.
fn write_float(out: &mut impl Write, float: f64) -> fmt::Result {
    if float.is_nan() {
        return out.write_str("nan");
    }
    if float.is_infinite() {
        return out.write_str(if float > 0.0 { "inf" } else { "-inf" });
    }
    let scientific = format!("{float:e}");
    let exponent =
        scientific.split_once('e').and_then(|(digits, exponent)| Some((digits, exponent.parse::<i32>().ok()?)));
    match exponent {
        Some((digits, exponent)) if float != 0.0 && !(-4..16).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => write!(out, "{float:?}"),
    }
}

/// Python's `repr` of a text.
fn write_text(out: &mut impl Write, text: &str) -> fmt::Result {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for character in text.chars() {
        match character {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            _ if character == quote => write!(out, "\\{character}")?,
            _ if is_printable(character) => out.write_char(character)?,
            _ => match u32::from(character) {
                code @ ..0x100 => write!(out, "\\x{code:02x}")?,
                code @ ..0x1_0000 => write!(out, "\\u{code:04x}")?,
                code => write!(out, "\\U{code:08x}")?,
            },
        }
    }
    out.write_char(quote)
}

/// Python's `str.isprintable` of a character. Rust's `Debug` knows the same categories of Unicode (separators, controls, surrogates,
/// private and unassigned ones), and escapes marks that combine, which Python prints.
fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        crate::chat::literal::MARK => true,
        _ if character.is_control() => false,
        _ => {
            let mut escaped = character.escape_debug();
            escaped.len() == 1
                || !matches!((escaped.next(), escaped.next()), (Some('\\'), Some('u')))
                || is_combining(character)
        }
    }
}

/// Whether a character extends the one before it: `Debug` escapes it when it stands first, and not later.
fn is_combining(character: char) -> bool {
    let text: String = ['a', character].into_iter().collect();
    format!("{text:?}").chars().nth(2) == Some(character)
}

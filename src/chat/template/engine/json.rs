//! The filter `tojson`: Python's `json.dumps`.

use std::fmt::{self, Write};

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::budget::{self, MAX_DEPTH};
use super::operators::check_text;
use super::python::write_number;

/// How `json.dumps` writes.
struct Style {
    ascii: bool,
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sorted: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    let indent = indent.or(options.get::<Option<Value>>("indent")?).filter(|indent| !indent.is_none());
    let indent = match indent {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) if text.len() > 1000 => {
                return Err(Error::new(ErrorKind::InvalidOperation, "tojson wants an indent of at most 1000 bytes"));
            }
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(i64::try_from(indent)?.clamp(0, 1000)).unwrap_or_default()),
        }),
    };
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson wants two separators")),
        None => ((if indent.is_some() { "," } else { ", " }).to_owned(), ": ".to_owned()),
    };
    let style = Style {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        indent,
        item_separator,
        key_separator,
    };
    options.assert_all_used()?;
    let mut json = String::new();
    write_value(&mut json, value, &style, 0)?;
    Ok(Value::from(json))
}

fn write_value(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("a value of more than {MAX_DEPTH} levels has no JSON here"),
        ));
    }
    check_text(out.len())?;
    budget::charge_items(1)?;
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_json_number(out, value)?,
        ValueKind::String => write_text(out, value.as_str().unwrap_or_default(), style.ascii)?,
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            write_items(out, &items, ['[', ']'], style, depth, |out, item| write_value(out, item, style, depth + 1))?;
        }
        ValueKind::Map => {
            let mut keys: Vec<Value> = value.try_iter()?.collect();
            if style.sorted {
                keys.sort();
            }
            write_items(out, &keys, ['{', '}'], style, depth, |out, key| {
                write_key(out, key, style)?;
                out.push_str(&style.key_separator);
                write_value(out, &value.get_item(key)?, style, depth + 1)
            })?;
        }
        kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("a value of type {kind} has no JSON"))),
    }
    Ok(())
}

fn write_items(
    out: &mut String,
    items: &[Value],
    brackets: [char; 2],
    style: &Style,
    depth: usize,
    mut write_item: impl FnMut(&mut String, &Value) -> Result<(), Error>,
) -> Result<(), Error> {
    let [open, close] = brackets;
    out.push(open);
    let line = |out: &mut String, depth| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    };
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(&style.item_separator);
        }
        line(out, depth + 1);
        write_item(out, item)?;
    }
    if !items.is_empty() {
        line(out, depth);
    }
    out.push(close);
    Ok(())
}

/// A key: a text, or what Python makes a text of.
fn write_key(out: &mut String, key: &Value, style: &Style) -> Result<(), Error> {
    match key.kind() {
        ValueKind::String => write_text(out, key.as_str().unwrap_or_default(), style.ascii)?,
        ValueKind::None | ValueKind::Bool | ValueKind::Number => {
            out.push('"');
            write_value(out, key, style, 0)?;
            out.push('"');
        }
        kind => return Err(Error::new(ErrorKind::InvalidOperation, format!("a key of type {kind} has no JSON"))),
    }
    Ok(())
}

fn write_json_number(out: &mut String, value: &Value) -> fmt::Result {
    let start = out.len();
    write_number(out, value)?;
    let name = match out.get(start..) {
        Some("nan") => "NaN",
        Some("inf") => "Infinity",
        Some("-inf") => "-Infinity",
        _ => return Ok(()),
    };
    out.truncate(start);
    out.push_str(name);
    Ok(())
}

fn write_text(out: &mut String, text: &str, ascii: bool) -> fmt::Result {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..' ' => write!(out, "\\u{:04x}", u32::from(character))?,
            crate::chat::literal::MARK => out.push(character),
            _ if ascii && !matches!(character, ' '..='~') => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    Ok(())
}

//! Methods of Python's strings that differ from the engine's compatibility layer, which has the others.

use minijinja::value::from_args;
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::budget::{self, Paid};
use super::growth::{check_format, check_split};
use super::operators::check_text;
use super::python;
use super::slices;
use crate::chat::literal::MARK;

/// Where [`strip`] removes characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Both,
    Start,
    End,
}

/// Calls a method of a value that has no method of its own with this name.
pub(super) fn call(state: &State<'_, '_>, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if method == slices::METHOD {
        budget::touch(value)?;
        return budget::made(slices::slice(value, args)?);
    }
    let Some(text) = value.as_str() else { return pycompat::unknown_method_callback(state, value, method, args) };
    budget::touch(value)?;
    match method {
        "split" | "splitlines" => check_split(value, args.first().filter(|_| method == "split"))?,
        "format" => check_format(text, args)?,
        _ => {}
    }
    budget::made(call_of_text(state, value, text, method, args)?)
}

fn call_of_text(
    state: &State<'_, '_>,
    value: &Value,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let others = |value: &Value| pycompat::unknown_method_callback(state, value, method, args);
    match method {
        "strip" => stripped(text, args, Side::Both),
        "lstrip" => stripped(text, args, Side::Start),
        "rstrip" => stripped(text, args, Side::End),
        // What a template decides must not change when a string is marked as literal.
        "startswith" | "endswith" if text.contains(MARK) => others(&Value::from(text.replace(MARK, ""))),
        "join" => {
            let (values,): (&Value,) = from_args(args)?;
            Ok(Value::from(joined(values, value, None)?))
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        "partition" | "rpartition" => parted(text, args, method == "partition"),
        "rsplit" => split_from_end(text, args),
        "find" | "index" | "rfind" | "rindex" => found(text, args, method),
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
            Ok(Value::from(replaced(text, old, new, count)?))
        }
        // True only for texts that have such characters.
        "isspace" => Ok(Value::from(!text.is_empty() && text.chars().all(is_space))),
        "isdigit" | "isnumeric" | "isalnum" | "isalpha" if text.is_empty() => Ok(Value::from(false)),
        "islower" => Ok(Value::from(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))),
        "isupper" => Ok(Value::from(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))),
        "zfill" | "ljust" | "rjust" => justified(text, args, method),
        _ => others(value),
    }
}

fn stripped(text: &str, args: &[Value], side: Side) -> Result<Value, Error> {
    let (characters,): (Option<&str>,) = from_args(args)?;
    Ok(Value::from(strip(text, characters, side)))
}

/// Python's `strip`: without these characters, or white space, at its sides.
pub(super) fn strip<'a>(text: &'a str, characters: Option<&str>, side: Side) -> &'a str {
    let is_stripped = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    let text = if side == Side::End { text } else { text.trim_start_matches(is_stripped) };
    if side == Side::Start { text } else { text.trim_end_matches(is_stripped) }
}

/// Python's `str.isspace` of a character: Unicode's white space and four separators of ASCII.
fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\u{1c}'..='\u{1f}')
}

/// Python's `replace`, with a limit to the result.
pub(super) fn replaced(text: &str, old: &str, new: &str, count: usize) -> Result<String, Error> {
    let found = text.matches(old).take(count).count();
    check_text(text.len().saturating_add(found.saturating_mul(new.len())))?;
    Ok(text.replacen(old, new, count))
}

fn parted(text: &str, args: &[Value], from_start: bool) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(Error::new(ErrorKind::InvalidOperation, "empty separator"));
    }
    let parts = if from_start { text.split_once(separator) } else { text.rsplit_once(separator) };
    let parts = match parts {
        Some((before, after)) => [before, separator, after],
        None if from_start => [text, "", ""],
        None => ["", "", text],
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn split_from_end(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, count): (Option<&str>, Option<i64>) = from_args(args)?;
    let pieces =
        count.and_then(|count| usize::try_from(count).ok()).map_or(usize::MAX, |count| count.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
        Some(separator) => text.rsplitn(pieces, separator).collect(),
        None if pieces == usize::MAX => text.split(is_space).filter(|part| !part.is_empty()).rev().collect(),
        None => return Err(Error::new(ErrorKind::InvalidOperation, "rsplit with a count wants a separator")),
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

/// The place of a text in characters: -1 if it is not there, or an error for `index`.
fn found(text: &str, args: &[Value], method: &str) -> Result<Value, Error> {
    let (what,): (&str,) = from_args(args)?;
    match if method.starts_with('r') { text.rfind(what) } else { text.find(what) } {
        Some(place) => Ok(Value::from(text.get(..place).unwrap_or_default().chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(Error::new(ErrorKind::InvalidOperation, "substring not found")),
    }
}

fn justified(text: &str, args: &[Value], method: &str) -> Result<Value, Error> {
    let (width, fill): (usize, Option<&str>) = from_args(args)?;
    check_text(width)?;
    let missing = width.saturating_sub(text.chars().count());
    let fill = if method == "zfill" { "0" } else { fill.unwrap_or(" ") }.repeat(missing);
    if method == "zfill" && text.starts_with(['-', '+']) {
        let (sign, digits) = text.split_at(1);
        return Ok(Value::from([sign, &fill, digits].concat()));
    }
    Ok(Value::from(if method == "ljust" { [text, &fill].concat() } else { [&fill, text].concat() }))
}

/// The items as a text, with a separator between them.
pub(super) fn joined(values: &Value, separator: &Value, attribute: Option<&str>) -> Result<String, Error> {
    let mut text = String::new();
    for (index, value) in values.try_iter()?.enumerate() {
        let mut out = Paid(&mut text);
        if index > 0 {
            python::write_str(&mut out, separator)?;
        }
        match attribute {
            Some(attribute) => python::write_str(&mut out, &value.get_attr(attribute)?)?,
            None => python::write_str(&mut out, &value)?,
        }
        check_text(text.len())?;
    }
    Ok(text)
}

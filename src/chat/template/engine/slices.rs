//! Slices as Python has them. The engine's own ones panic on an empty list from its end (`messages[::-1]`), and leave out no first item.
//!
//! `a[b:c:d]` becomes `a.slice(b, c, d)`, a method that no value has.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, ErrorKind, Value};

use super::scan::{Token, ends_operand};

/// The name of the method. A template cannot hold it by accident.
pub(super) const METHOD: &str = "__tinkex_slice";

/// The words of an expression, with calls in place of slices.
pub(super) fn with_methods(tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    let is_slice = slices(&tokens);
    if !is_slice.contains(&true) {
        return tokens;
    }
    let mut result = Vec::with_capacity(tokens.len() * 2);
    // For each open bracket whether it is a slice's, and whether a part of it is to come.
    let mut open: Vec<bool> = Vec::new();
    let mut is_part_due = false;
    for (token, is_slice) in tokens.into_iter().zip(is_slice) {
        let is_inside = open.last() == Some(&true);
        match token.text {
            "[" if is_slice => {
                result.extend([".", METHOD, "("].map(Token::new));
                open.push(true);
                is_part_due = true;
                continue;
            }
            ":" | "]" if is_inside => {
                if is_part_due {
                    result.push(Token::new("none"));
                }
                result.push(Token::new(if token.text == ":" { "," } else { ")" }));
                is_part_due = token.text == ":";
                if token.text == "]" {
                    open.pop();
                }
                continue;
            }
            "(" | "[" | "{" => open.push(false),
            ")" | "]" | "}" => drop(open.pop()),
            _ => {}
        }
        is_part_due = false;
        result.push(token);
    }
    result
}

/// For each word whether it is the bracket that opens a slice.
fn slices(tokens: &[Token<'_>]) -> Vec<bool> {
    let mut is_slice = vec![false; tokens.len()];
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut previous = "(";
    for (index, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => open.push((index, token.text == "[" && ends_operand(previous))),
            ")" | "]" | "}" => drop(open.pop()),
            ":" => {
                if let Some(&(start, true)) = open.last() {
                    if let Some(start) = is_slice.get_mut(start) {
                        *start = true;
                    }
                }
            }
            _ => {}
        }
        previous = token.text;
    }
    is_slice
}

/// Python's `value[start:stop:step]`; undefined for a value that has no slices, as jinja2 has it.
pub(super) fn slice(value: &Value, args: &[Value]) -> Result<Value, Error> {
    let (start, stop, step): (Option<i64>, Option<i64>, Option<i64>) = from_args(args)?;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Error::new(ErrorKind::InvalidOperation, "slice step cannot be zero"));
    }
    if let Some(text) = value.as_str() {
        let characters: Vec<char> = text.chars().collect();
        let places = places(characters.len(), start, stop, step);
        return Ok(Value::from(places.filter_map(|place| characters.get(place)).collect::<String>()));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(Value::UNDEFINED);
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    Ok(places(items.len(), start, stop, step).filter_map(|place| items.get(place).cloned()).collect())
}

/// The places that a slice of so many items has.
fn places(length: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let (lowest, highest) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |place: i64| (if place < 0 { place.saturating_add(length) } else { place }).clamp(lowest, highest);
    let (first, last) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let (start, stop) = (start.map_or(first, place), stop.map_or(last, place));
    let is_before = move |place: &i64| if step > 0 { *place < stop } else { *place > stop };
    std::iter::successors(Some(start), move |place| place.checked_add(step))
        .take_while(is_before)
        .filter_map(|place| usize::try_from(place).ok())
}

//! What one rendering may make and read: texts and lists in total, whether they are kept or not. So its memory and its time stay bounded
//! where the count of instructions says nothing of them.

use std::cell::Cell;
use std::fmt::{self, Write};

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// How deep lists and dicts may lie in each other. The parser of JSON goes no deeper, either.
pub(super) const MAX_DEPTH: usize = 200;

/// How many bytes of texts and lists a rendering may make.
pub(super) const MAX_MADE: usize = 256 << 20;

/// How many bytes of texts and lists the filters, methods and operators of a rendering may read: seconds of work.
pub(super) const MAX_READ: usize = 2 << 30;

/// How many bytes an item of a list takes.
const ITEM: usize = 24;

#[derive(Clone, Copy)]
struct Left {
    made: usize,
    read: usize,
}

const FULL: Left = Left { made: MAX_MADE, read: MAX_READ };

thread_local! {
    /// What is left for the rendering on this thread; `None` once something did not fit.
    static LEFT: Cell<Option<Left>> = const { Cell::new(Some(FULL)) };
}

/// A rendering on this thread, with a budget of its own.
pub(super) struct Spending {
    outer: Option<Left>,
}

impl Spending {
    pub(super) fn new() -> Self {
        Spending { outer: LEFT.replace(Some(FULL)) }
    }

    pub(super) fn is_over(&self) -> bool {
        LEFT.get().is_none()
    }
}

impl Drop for Spending {
    fn drop(&mut self) {
        LEFT.set(self.outer);
    }
}

fn spend(made: usize, read: usize) -> Result<(), Error> {
    let left = LEFT
        .get()
        .and_then(|left| Some(Left { made: left.made.checked_sub(made)?, read: left.read.checked_sub(read)? }));
    LEFT.set(left);
    left.map(drop).ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the texts and lists are too large"))
}

/// Takes this many bytes of what may be made, before or after they are.
pub(super) fn charge(bytes: usize) -> Result<(), Error> {
    spend(bytes, 0)
}

/// Takes the size of a value of what may be read.
pub(super) fn touch(value: &Value) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => spend(0, text.len()),
        None => spend(0, value.len().unwrap_or_default().saturating_mul(ITEM)),
    }
}

pub(super) fn charge_items(items: usize) -> Result<(), Error> {
    charge(items.saturating_mul(ITEM))
}

/// A value that was made, paid for. What is not there yet, such as `[1] * 9`, becomes a list: the engine would nest such values without
/// end.
pub(super) fn made(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => charge(value.as_str().map_or(0, str::len))?,
        ValueKind::Iterable => return listed(&value),
        ValueKind::Seq | ValueKind::Map => charge_items(value.len().unwrap_or_default())?,
        _ => {}
    }
    Ok(value)
}

fn listed(value: &Value) -> Result<Value, Error> {
    if let Some(length) = value.len() {
        charge_items(length)?;
        return Ok(value.try_iter()?.collect());
    }
    let mut items = Vec::new();
    for item in value.try_iter()? {
        charge_items(1)?;
        items.push(item);
    }
    Ok(Value::from(items))
}

/// A list or dict that was written in the template, paid for and not too deep: to drop it must not fill the stack.
pub(super) fn kept(value: Value) -> Result<Value, Error> {
    let value = made(value)?;
    check_depth(&value, 0)?;
    Ok(value)
}

pub(super) fn check_depth(value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("a value of more than {MAX_DEPTH} levels")));
    }
    let is_map = value.kind() == ValueKind::Map;
    if !is_map && !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(());
    }
    for item in value.try_iter()? {
        // A value that holds another many times is looked at as often.
        charge_items(1)?;
        check_depth(&if is_map { value.get_item(&item)? } else { item }, depth + 1)?;
    }
    Ok(())
}

/// A writer that pays for what is written.
pub(super) struct Paid<'a, W>(pub(super) &'a mut W);

impl<W: Write> Write for Paid<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        charge(text.len()).map_err(|_| fmt::Error)?;
        self.0.write_str(text)
    }
}

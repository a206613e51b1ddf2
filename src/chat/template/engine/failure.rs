//! What the engine's errors mean to a caller.

use std::error::Error as StdError;
use std::fmt;

use minijinja::ErrorKind;

use super::budget::{MAX_MADE, MAX_READ};
use crate::error::Error;
use crate::rules::error_message::one_line;

/// What `raise_exception` was called with: the template refuses the conversation.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Raised {}

/// The error for a source that is not valid.
pub(super) fn syntax(error: minijinja::Error) -> Error {
    Error::invalid_input(format!("the chat template is not valid Jinja: {}", described(&error)))
}

/// The error for a source that is valid, but not when its expressions have limits.
pub(super) fn unlimited(error: minijinja::Error) -> Error {
    let what = described(&error);
    Error::invalid_input(format!("the chat template has an expression that cannot be given limits: {what}"))
        .with_hint("write the expression with parentheses, or in parts")
}

/// The error of a rendering that failed.
pub(super) fn rendering(error: &minijinja::Error, fuel: u64) -> Error {
    let chain = std::iter::successors(Some(error as &(dyn StdError + 'static)), |&error| error.source());
    for cause in chain {
        if let Some(Raised(message)) = cause.downcast_ref::<Raised>() {
            let message = one_line(message).unwrap_or_default();
            return Error::invalid_input(format!("the chat template refuses the conversation: {message}"));
        }
        let engine = cause.downcast_ref::<minijinja::Error>();
        if engine.is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            let message = format!("the chat template was stopped after {fuel} instructions; it may loop without end");
            return Error::invalid_input(message);
        }
    }
    Error::invalid_input(format!("the chat template fails on the conversation: {}", described(error)))
}

/// The error for a text of more than `limit` bytes.
pub(super) fn too_long(limit: usize) -> Error {
    Error::invalid_input(format!("the chat template was stopped: its text has more than {limit} bytes"))
}

/// The error for a rendering that makes or reads more than it may.
pub(super) fn too_much() -> Error {
    Error::invalid_input(format!(
        "the chat template was stopped: it makes more than {MAX_MADE} bytes of texts and lists, or reads more than {MAX_READ}"
    ))
}

fn described(error: &minijinja::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source().and_then(|cause| cause.downcast_ref::<minijinja::Error>()) {
        innermost = cause;
    }
    let kind = innermost.kind();
    // It may quote the template, with any characters.
    let detail = innermost.detail().and_then(one_line);
    let what = detail.map_or_else(|| kind.to_string(), |detail| format!("{kind}: {detail}"));
    innermost.line().map_or_else(|| what.clone(), |line| format!("{what} (line {line} of the template)"))
}

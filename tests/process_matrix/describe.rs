//! What came of a cell, in words.

use std::error::Error as _;

use tinkex::{Error, ErrorKind, Limit, Result};

use crate::faults::{Fault, Kind};
use crate::operations::Operation;
use crate::secrets::has_secret;
use crate::support::double::Execution;

/// Whether a pass was refused in the one format, and the other one made the server fail, until the client gave it up. Nobody knows
/// whether its number will ever be run.
pub fn is_number_open(result: &Result<()>, fault: &Fault) -> bool {
    let status = result.as_ref().err().and_then(|error| last(error).status());
    status == Some(500) && matches!(fault.kind.status(), Some(404 | 405 | 415))
}

/// What came of a call, of its request at the server, and of a later call, in a few words.
pub fn describe(
    operation: &Operation,
    fault: &Fault,
    result: Result<()>,
    was_run: &[Execution],
    later: Result<()>,
) -> String {
    let (path, expected) = operation.effect;
    let count = was_run.iter().filter(|run| run.path == path).count();
    let effect = match &result {
        _ if expected == 0 => String::new(),
        Ok(()) if count < expected => format!(", WRONG: run {count} of {expected} times"),
        Ok(()) if count == expected => String::new(),
        // A sample whose promise is gone is sent again, with a new number.
        Ok(()) if path != "asample" || fault.kind.status() != Some(410) => {
            format!(", WRONG: run {count} of {expected} times")
        }
        Err(error) if count > 0 && !error.may_have_taken_effect() => ", WRONG: was run".to_owned(),
        // How far a call of several requests came before one failed is a matter of time.
        _ if count > 0 && expected > 1 => ", run in part".to_owned(),
        _ => format!(", run {count} of {expected} times"),
    };
    let shown = [result.as_ref().err(), later.as_ref().err()].into_iter().flatten().any(shows_secret);
    let shown = if shown { ", WRONG: a secret is shown" } else { "" };
    let later = later.err().map(|error| format!(", WRONG: later {}", named(&error, fault))).unwrap_or_default();
    let result = result.err().map_or("ok".to_owned(), |error| named(&error, fault));
    format!("{result}{effect}{later}{shown}")
}

/// Whether an error shows a secret anywhere, also in its sources.
fn shows_secret(error: &Error) -> bool {
    let headers: Vec<_> = ["location", "content-type"].into_iter().filter_map(|name| error.header(name)).collect();
    has_secret(&format!("{error} {error:?} {error:#?} {:?} {:?} {headers:?}", error.hint(), error.body()))
}

/// The kind of an error, and what else a program sees of it. Its status is named if it is not the fault's.
fn named(error: &Error, fault: &Fault) -> String {
    let last = last(error);
    let mut name = format!("{:?}", last.kind());
    if let Some(status) = last.status().filter(|status| fault.kind.status() != Some(*status)) {
        name.push_str(&format!(" {status}"));
    }
    // Whether something was written before a connection is reset at once is a matter of chance, too.
    let may_have_run = error.may_have_taken_effect() && !matches!(fault.kind, Kind::ResetAtOnce);
    if may_have_run { format!("{name}, may have been run") } else { name }
}

/// The failure of the last attempt: whether that is cut off by the end of its time, or fails just before, is a matter of chance.
fn last(error: &Error) -> &Error {
    let last = match error.kind() {
        ErrorKind::Timeout(Limit::Submit | Limit::Operation) => error.source().and_then(|last| last.downcast_ref()),
        _ => None,
    };
    last.unwrap_or(error)
}

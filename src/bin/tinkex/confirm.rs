//! Questions to the person at the terminal.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::Failure;
use crate::text::one_line;

/// Asks on stderr, after these lines, whether to go on. `refused` says what then was not done.
pub(crate) fn confirm(lines: &[String], question: &str, refused: &str) -> Result<(), Failure> {
    require_terminal(refused)?;
    let mut err = io::stderr().lock();
    let mut answer = String::new();
    lines
        .iter()
        .try_for_each(|line| writeln!(err, "{}", one_line(line)))
        .and_then(|()| write!(err, "{} [y/N]: ", one_line(question)))
        .and_then(|()| err.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Failure::failed(format!("cannot ask for confirmation: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed(refused)),
    }
}

/// Fails if there is nobody to ask.
pub(crate) fn require_terminal(refused: &str) -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Failure::usage(format!("cannot ask for confirmation: stdin is not a terminal; {refused}"))
        .hint("pass --yes to go on without confirmation"))
}

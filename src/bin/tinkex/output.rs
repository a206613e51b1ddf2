//! What goes to stdout: a table or one JSON document; and notes to stderr, for a person who watches.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};

use clap::ValueEnum;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;

use crate::errors::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
}

impl Output {
    pub(crate) fn new(format: Format) -> Self {
        Output { format }
    }

    /// Prints what a command reports: the text for a person, such as a [`Table`], or the document.
    pub(crate) fn report(&self, text: &impl fmt::Display, document: &impl Serialize) -> Result<(), Failure> {
        self.line(text)?;
        self.document(document)
    }

    /// Prints text and a line's end; nothing with `--format json`.
    pub(crate) fn line(&self, text: &impl fmt::Display) -> Result<(), Failure> {
        if self.format == Format::Table { self.raw(text) } else { Ok(()) }
    }

    /// Prints the one document; nothing without `--format json`.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        if self.format == Format::Table {
            return Ok(());
        }
        let json = serde_json::to_string_pretty(document);
        self.raw(&json.map_err(|error| Failure::failed(format!("the result cannot be written as JSON: {error}")))?)
    }

    /// Prints text and a line's end, whatever the format.
    pub(crate) fn raw(&self, text: &impl fmt::Display) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Failure::output)
    }

    /// Tells a person who watches what goes on; nobody when stderr is no terminal.
    pub(crate) fn note(&self, note: impl fmt::Display) {
        let mut err = io::stderr().lock();
        if err.is_terminal() {
            writeln!(err, "{}", one_line(&note.to_string())).ok();
        }
    }
}

/// A title and rows below names of columns. Rows are never wrapped, so that ids and paths can be copied.
pub(crate) struct Table {
    title: String,
    table: comfy_table::Table,
}

impl Table {
    pub(crate) fn new<const N: usize>(title: impl Into<String>, columns: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(columns);
        Table { title: title.into(), table }
    }

    /// The columns `Property` and `Value`.
    pub(crate) fn properties(title: impl Into<String>) -> Self {
        Table::new(title, ["Property", "Value"])
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.table.add_row(cells.map(one_line));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&one_line(&self.title))?;
        if self.table.row_iter().next().is_none() {
            return Ok(());
        }
        self.table.lines().try_for_each(|line| write!(f, "\n{line}"))
    }
}

/// The text with its line ends as spaces and other control characters escaped: what a service sends must not steer the
/// terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, character| {
        match character {
            '\n' | '\r' | '\t' => line.push(' '),
            control if control.is_control() => write!(line, "{}", control.escape_unicode()).unwrap_or_default(),
            other => line.push(other),
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_sends_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\nb\tc"), "a b c");
        assert_eq!(one_line("\u{1b}[2Jü"), "\\u{1b}[2Jü");
    }

    #[test]
    fn a_table_without_rows_is_its_title() {
        assert_eq!(Table::new("0 sessions", ["Session ID"]).to_string(), "0 sessions");
    }
}

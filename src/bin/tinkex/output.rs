//! Output: a table or one JSON document on stdout, and notes on stderr for a person at a terminal.

use std::fmt;
use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;

use crate::failure::Failure;
use crate::screen;
use crate::text::one_line;

/// The format of results on stdout.
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

    /// Prints the result of a command: the text for a person, such as a [`Table`], or the document.
    pub(crate) fn report(&self, text: &impl fmt::Display, document: &impl Serialize) -> Result<(), Failure> {
        self.line(text)?;
        self.document(document)
    }

    /// Prints text and a line break; nothing with `--format json`.
    pub(crate) fn line(&self, text: &impl fmt::Display) -> Result<(), Failure> {
        if self.format == Format::Table { self.raw(text) } else { Ok(()) }
    }

    /// Prints the JSON document; nothing without `--format json`.
    pub(crate) fn document(&self, document: &impl Serialize) -> Result<(), Failure> {
        if self.format == Format::Table {
            return Ok(());
        }
        let json = serde_json::to_string_pretty(document);
        self.raw(&json.map_err(|error| Failure::failed(format!("the result cannot be written as JSON: {error}")))?)
    }

    /// Prints text and a line break in both formats.
    pub(crate) fn raw(&self, text: &impl fmt::Display) -> Result<(), Failure> {
        let write = || {
            let mut out = io::stdout().lock();
            writeln!(out, "{text}").and_then(|()| out.flush())
        };
        screen::suspended(write).map_err(Failure::stdout)
    }

    /// Prints a note on stderr if that is a terminal.
    pub(crate) fn note(&self, note: impl fmt::Display) {
        if screen::is_terminal() {
            screen::line(note);
        }
    }
}

/// A titled table. Rows are never wrapped, so that ids and paths can be copied.
pub(crate) struct Table {
    title: String,
    table: comfy_table::Table,
}

impl Table {
    pub(crate) fn new<const N: usize>(title: impl Into<String>, columns: [&str; N]) -> Self {
        Table::with_columns(title, columns.to_vec())
    }

    /// A table with columns that the user may have chosen.
    pub(crate) fn with_columns(title: impl Into<String>, columns: Vec<&str>) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(columns);
        Table { title: title.into(), table }
    }

    /// A table with the columns `Property` and `Value`.
    pub(crate) fn properties(title: impl Into<String>) -> Self {
        Table::new(title, ["Property", "Value"])
    }

    /// A row of a table that was made with [`with_columns`](Table::with_columns).
    pub(crate) fn cells(&mut self, cells: impl IntoIterator<Item = String>) {
        self.table.add_row(cells.into_iter().map(|cell| one_line(&cell)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_prints_only_its_title() {
        assert_eq!(Table::new("0 sessions", ["Session ID"]).to_string(), "0 sessions");
    }
}

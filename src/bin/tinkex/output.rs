//! Output: a table or one JSON document on stdout, and notes on stderr for a person at a terminal.

use std::fmt;
use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use console::{Term, measure_text_width};
use serde::Serialize;

use crate::failure::Failure;
use crate::screen;
use crate::text::{json, one_line};

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

    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
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
        let text = serde_json::to_string_pretty(document);
        let text = text.map_err(|error| Failure::failed(format!("the result cannot be written as JSON: {error}")))?;
        self.raw(&json(&text))
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

/// A titled table. Cells are never wrapped or cut, so that ids and paths can be copied: at a terminal that is too narrow for the
/// table, each row becomes a few lines.
pub(crate) struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// The columns of a table that shows one thing.
const PROPERTIES: [&str; 2] = ["Property", "Value"];

impl Table {
    pub(crate) fn new<const N: usize>(title: impl Into<String>, columns: [&str; N]) -> Self {
        Table::with_columns(title, columns.to_vec())
    }

    /// A table with columns that the user may have chosen.
    pub(crate) fn with_columns(title: impl Into<String>, columns: Vec<&str>) -> Self {
        Table { title: title.into(), columns: columns.into_iter().map(str::to_owned).collect(), rows: Vec::new() }
    }

    /// A table with the columns `Property` and `Value`.
    pub(crate) fn properties(title: impl Into<String>) -> Self {
        Table::new(title, PROPERTIES)
    }

    /// A row of a table that was made with [`with_columns`](Table::with_columns).
    pub(crate) fn cells(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell)).collect());
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.cells(cells.map(str::to_owned));
    }

    /// The lines, for a terminal of this many columns; `None` for a file, whose lines may have any length.
    fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut lines = vec![one_line(&self.title)];
        if self.rows.is_empty() {
            return lines;
        }
        let mut table = comfy_table::Table::new();
        table.load_preset(UTF8_FULL_CONDENSED).set_header(&self.columns).add_rows(&self.rows);
        let drawn: Vec<String> = table.lines().collect();
        let is_too_wide = |width| drawn.iter().any(|line| measure_text_width(line) > width);
        match width.filter(|width| is_too_wide(*width)) {
            None => lines.extend(drawn),
            Some(_) if self.columns == PROPERTIES => lines.extend(self.property_lines()),
            Some(width) => self.rows.iter().for_each(|row| lines.extend(self.row_lines(row, width))),
        }
        lines
    }

    /// Each property in a line, aligned.
    fn property_lines(&self) -> impl Iterator<Item = String> + '_ {
        let names = self.rows.iter().filter_map(|row| row.first());
        let longest = names.map(|name| measure_text_width(name)).max().unwrap_or_default();
        self.rows.iter().map(move |row| {
            let (name, value) = (&row[0], &row[1]);
            let padding = " ".repeat(longest.saturating_sub(measure_text_width(name)));
            format!("{name}{padding}  {value}").trim_end().to_owned()
        })
    }

    /// A row as a line with its first cell and, below it, as many of the others in a line as fit. A cell that is longer than a line
    /// is left to the terminal.
    fn row_lines(&self, row: &[String], width: usize) -> Vec<String> {
        let Some((first, cells)) = row.split_first() else { return Vec::new() };
        let mut lines = vec![first.clone()];
        let mut line = String::new();
        for (column, cell) in self.columns.iter().skip(1).zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            let cell = format!("  {column}: {cell}");
            if !line.is_empty() && measure_text_width(&line) + measure_text_width(&cell) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push_str(&cell);
        }
        lines.extend(Some(line).filter(|line| !line.is_empty()));
        lines
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        f.write_str(&self.lines(width).join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_prints_only_its_title() {
        assert_eq!(Table::new("0 sessions", ["Session ID"]).lines(Some(1)), ["0 sessions"]);
    }

    #[test]
    fn rows_of_a_wide_table_become_lines() {
        let mut table = Table::new("2 checkpoints", ["Checkpoint ID", "Type", "Size", "Expires", "Path"]);
        table.row(["weights/1", "training", "82.0 KB", "Never", "tinker://session-1:train:0/weights/1"]);
        table.row(["weights/2", "training", "", "in 3 days", "tinker://session-1:train:0/weights/2"]);
        let wide = table.lines(None);
        assert_eq!((wide.len(), measure_text_width(&wide[1])), (7, 89));
        assert_eq!(table.lines(Some(89)), wide);
        assert_eq!(
            table.lines(Some(80)),
            [
                "2 checkpoints",
                "weights/1",
                "  Type: training  Size: 82.0 KB  Expires: Never",
                "  Path: tinker://session-1:train:0/weights/1",
                "weights/2",
                "  Type: training  Expires: in 3 days  Path: tinker://session-1:train:0/weights/2",
            ]
        );
        for width in 1..89 {
            let fits = |line: &String| measure_text_width(line) <= width || !line.trim().contains("  ");
            assert!(table.lines(Some(width)).iter().all(fits), "{width}");
        }
    }

    #[test]
    fn properties_of_a_wide_table_become_lines() {
        let mut table = Table::properties("Checkpoint: weights/1");
        table.row(["Tinker Path", "tinker://run/weights/1"]);
        table.row(["Größe", "2.0 KB"]);
        table.row(["Metadata", ""]);
        assert_eq!(
            table.lines(Some(20)),
            ["Checkpoint: weights/1", "Tinker Path  tinker://run/weights/1", "Größe        2.0 KB", "Metadata"]
        );
        assert_eq!(table.lines(Some(80)).len(), 8);
    }
}

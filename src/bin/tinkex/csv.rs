//! Tables as CSV files (RFC 4180), for spreadsheets.

use std::path::Path;

use tinkex::fs::write_atomically;

use crate::failure::Failure;

/// Writes a file with this header and these rows.
pub(crate) fn write(file: &Path, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<(), Failure> {
    let text: String = std::iter::once(line(header.iter().copied()))
        .chain(rows.into_iter().map(|row| line(row.iter().map(|cell| &**cell))))
        .collect();
    write_atomically(file, text.as_bytes()).map_err(|error| Failure::unwritable(file.display(), &error))
}

fn line<'a>(cells: impl Iterator<Item = &'a str>) -> String {
    cells.map(quoted).collect::<Vec<_>>().join(",") + "\r\n"
}

/// A cell that a spreadsheet reads as this text. One that begins like a formula gets an apostrophe, since names come from others.
fn quoted(cell: &str) -> String {
    let is_formula =
        cell.starts_with(['=', '+', '@', '\t', '\r']) || (cell.starts_with('-') && cell.parse::<f64>().is_err());
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains([',', '"', '\r', '\n']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_needed() {
        for (cell, expected) in [
            ("", ""),
            ("a b", "a b"),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\nb", "\"a\nb\""),
            ("-1.5", "-1.5"),
            ("=1+1", "'=1+1"),
            ("@x", "'@x"),
            ("-x", "'-x"),
        ] {
            assert_eq!(quoted(cell), expected);
        }
        assert_eq!(line(["a", "b,c"].into_iter()), "a,\"b,c\"\r\n");
    }
}

//! Writes the small files of an export.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};

/// Writes a new file, and has it stored on the disk.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|error| unwritable(path, error))
}

/// Writes a new file of JSON, for people to read.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, format!("{value:#}\n").as_bytes())
}

/// The error for a file that cannot be written.
pub(super) fn unwritable(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be written", path.display())).with_source(error)
}

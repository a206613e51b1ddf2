//! Writes the small files of an export.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::Value;

use crate::error::Result;
use crate::rest::io_error;

/// Writes a new file, and has it stored on the disk.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<()> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|error| io_error("written", path, error))
}

/// Writes a new file of JSON, for people to read.
pub(super) fn write_json(path: &Path, value: &Value) -> Result<()> {
    write(path, format!("{value:#}\n").as_bytes())
}

//! Atomic file writes: a file appears whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The suffix of a file that is still being written, or was when its process crashed.
pub(crate) const UNFINISHED: &str = ".part";

/// Writes a file so that a reader finds the old content or the new, never a part of it: under a temporary name in the same
/// directory, flushed to the disk and then renamed. Creates missing directories. After an error the old file is unchanged.
pub fn write_atomically(file: &Path, content: &[u8]) -> io::Result<()> {
    // A relative name has the empty path as its parent.
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let unfinished = unfinished_name(directory);
    let written = File::create_new(&unfinished)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, file));
    if written.is_err() {
        fs::remove_file(&unfinished).ok();
    }
    written
}

/// A name that no other writer uses: several threads or processes may write the same file at once.
fn unfinished_name(directory: &Path) -> PathBuf {
    directory.join(format!(".{:016x}{UNFINISHED}", fastrand::u64(..)))
}

//! Atomic file writes: a file appears whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::system;
use crate::process::unique_bits;

/// The suffix of a file that is still being written, or was when its process crashed.
pub const UNFINISHED: &str = ".part";

/// Writes a file so that a reader finds the old content or the new, never a part of it: under a temporary name in the same
/// directory, flushed to the disk and then renamed. Creates missing directories. After an error the old file is unchanged.
pub fn write_atomically(file: &Path, content: &[u8]) -> io::Result<()> {
    write(file, content, &mut DirBuilder::new(), &mut OpenOptions::new())
}

/// The same for a file with a secret: only its owner may read it. Missing directories are created for the owner alone, too.
pub fn write_private(file: &Path, content: &[u8]) -> io::Result<()> {
    let (mut directories, mut options) = (DirBuilder::new(), OpenOptions::new());
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        directories.mode(0o700);
        options.mode(0o600);
    }
    write(file, content, &mut directories, &mut options)
}

/// What to do about an error of the system, if that is clear.
pub fn hint(error: &io::Error) -> Option<&'static str> {
    system::hint(error)
}

fn write(file: &Path, content: &[u8], directories: &mut DirBuilder, options: &mut OpenOptions) -> io::Result<()> {
    let directory = parent_of(file);
    directories.recursive(true).create(directory)?;
    let unfinished = unfinished_name(directory);
    let written = options
        .write(true)
        .create_new(true)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, file));
    if written.is_err() {
        fs::remove_file(&unfinished).ok();
    }
    written
}

/// The directory that a file is in: `.` for a name alone, which has the empty path as its parent.
pub(crate) fn parent_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name that no other writer uses: several threads or processes may write the same file at once.
fn unfinished_name(directory: &Path) -> PathBuf {
    directory.join(format!(".{:032x}{UNFINISHED}", unique_bits()))
}

//! Folders on disk that a crash leaves complete: old, new or absent.
//!
//! A folder is written under a temporary name and then renamed. The folder in whose place it comes is kept under another name
//! until then.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::fs::UNFINISHED;

/// The end of the name of a folder while another takes its place.
const REPLACED: &str = ".replaced";

/// Puts the path before an error's message: that of the system does not have it.
pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The paths of the entries of a folder.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(at(folder))?;
    entries.map(|entry| Ok(entry.map_err(at(folder))?.path())).collect()
}

/// Creates the parent folder of a path, and flushes its name to disk.
pub(super) fn create_parent(path: &Path) -> io::Result<()> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    if !folder.is_dir() {
        fs::create_dir_all(folder).map_err(at(folder))?;
        // At most three folders are new: the paths of the store have up to four segments, and its root exists.
        folder.ancestors().skip(1).take(3).filter(|above| !above.as_os_str().is_empty()).try_for_each(sync_folder)?;
    }
    Ok(())
}

/// Creates the folder in which a folder is written, for a function that fills it and renames it. If that fails, the folder is
/// removed: on a full disk it would take what is left of the room.
pub(super) fn write_folder(folder: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    create_parent(folder)?;
    let temporary = temporary_name(folder);
    remove(&temporary)?;
    fs::create_dir(&temporary).map_err(at(&temporary))?;
    let written = write(&temporary);
    if written.is_err() {
        if let Err(error) = remove(&temporary) {
            log::warn!("{error}");
        }
    }
    written
}

/// The name of a folder while it is written. No encoded name begins with a dot.
fn temporary_name(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}{UNFINISHED}"))
}

/// The name of a folder while it is removed.
pub(super) fn removed_name(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.removed{UNFINISHED}"))
}

/// The name of a folder while another takes its place.
pub(super) fn replaced_name(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}{REPLACED}"))
}

/// Whether a name is that of a folder or file that was not completed.
fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

/// Flushes the names in a folder to disk. Only Unix can open a folder, and only Unix needs this.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder)) } else { Ok(()) }
}

/// Flushes the name of a file or folder to disk.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(at(path)(error)) })
}

/// Renames a temporary folder to its name, in place of the one that has it.
pub(super) fn replace(folder: &Path, temporary: &Path) -> io::Result<()> {
    let replaced = replaced_name(folder);
    let exists = folder.is_dir();
    if exists {
        remove(&replaced)?;
        fs::rename(folder, &replaced).map_err(at(folder))?;
    }
    if let Err(error) = fs::rename(temporary, folder) {
        if exists {
            fs::rename(&replaced, folder).map_err(at(folder))?;
        }
        return Err(at(folder)(error));
    }
    sync_parent(folder)?;
    if exists {
        // The new folder is in place: what is left of the old one is removed with the next, or after a restart.
        if let Err(error) = remove(&replaced) {
            log::warn!("{error}");
        }
    }
    Ok(())
}

/// Completes or undoes what a crash interrupted below a folder: removes everything with a temporary name, and a replaced
/// folder if the new one is in place.
pub(super) fn recover(folder: &Path) -> io::Result<()> {
    for path in entries(folder)? {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if is_temporary(name) {
            remove(&path)?;
        } else if let Some(name) = name.strip_prefix('.').and_then(|name| name.strip_suffix(REPLACED)) {
            let current = folder.join(name);
            if current.is_dir() {
                remove(&path)?;
            } else {
                fs::rename(&path, &current).map_err(at(&current))?;
                sync_folder(folder)?;
            }
        } else if path.is_dir() {
            recover(&path)?;
        }
    }
    Ok(())
}

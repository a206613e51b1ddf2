//! The place where a download comes into being, beside its destination.

use std::fs;
use std::path::{Path, PathBuf};

use log::warn;

use super::io_error;
use crate::error::{Error, Result};

/// How often another name is tried for the directory.
const NAMES: usize = 8;

/// A directory beside the destination, and so on the same file system. It is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Workspace {
    directory: PathBuf,
    destination: PathBuf,
    overwrite: bool,
    /// It holds the only copy of what was at the destination.
    keep: bool,
}

impl Workspace {
    pub(super) fn create(destination: &Path, overwrite: bool) -> Result<Self> {
        let Some(name) = destination.file_name() else {
            return Err(Error::invalid_input(format!("{} is no name for a new file", destination.display())));
        };
        if !overwrite && exists(destination) {
            return Err(taken(destination));
        }
        let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|error| io_error("made", parent, error))?;
        let mut tries = 0;
        loop {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".tinkex-{:08x}", fastrand::u32(..)));
            let directory = parent.join(hidden);
            match fs::create_dir(&directory) {
                Ok(()) => return Ok(Workspace { directory, destination: destination.into(), overwrite, keep: false }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && tries < NAMES => tries += 1,
                Err(error) => return Err(io_error("made", &directory, error)),
            }
        }
    }

    /// For the archive.
    pub(super) fn archive(&self) -> PathBuf {
        self.directory.join("archive")
    }

    /// For what is in it.
    pub(super) fn content(&self) -> PathBuf {
        self.directory.join("content")
    }

    /// Puts what has come into being at the destination. What was there is moved aside, and removed last.
    pub(super) fn install(mut self, what: &Path) -> Result<()> {
        let moved = |error| io_error("moved to its destination", what, error);
        if !exists(&self.destination) {
            return fs::rename(what, &self.destination).map_err(moved);
        }
        if !self.overwrite {
            return Err(taken(&self.destination));
        }
        let old = self.directory.join("old");
        fs::rename(&self.destination, &old).map_err(|error| io_error("moved aside", &self.destination, error))?;
        fs::rename(what, &self.destination).map_err(|error| {
            let error = moved(error);
            if fs::rename(&old, &self.destination).is_ok() {
                return error;
            }
            self.keep = true;
            error.with_hint(format!("what was there before is now {}", old.display()))
        })
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            warn!("{} can not be removed: {error}", self.directory.display());
        }
    }
}

/// Whether something is there, be it a link that leads nowhere.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn taken(destination: &Path) -> Error {
    Error::invalid_input(format!("{} exists", destination.display()))
        .with_hint("choose another destination, or ask for it to be overwritten")
}

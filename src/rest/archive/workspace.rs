//! The place where a download comes into being, beside its destination.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use log::{debug, warn};

use super::io_error;
use crate::error::{Error, Result};

/// How often another name is tried for the directory.
const NAMES: usize = 8;

/// A directory beside the destination, and so on the same file system. It is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Workspace {
    directory: PathBuf,
    /// Without a slash at its end, which would mean what a link leads to.
    destination: PathBuf,
    /// The uppermost of the directories that were made for it above the destination.
    made: Option<PathBuf>,
    overwrite: bool,
    /// It holds the only copy of what was at the destination.
    keep: bool,
}

impl Workspace {
    pub(super) fn create(destination: &Path, overwrite: bool) -> Result<Self> {
        let Some(name) = destination.file_name() else {
            let shown = destination.display();
            return Err(Error::invalid_input(format!("the destination {shown:?} is no name for a new file")));
        };
        let parent = parent_of(destination);
        let destination = parent.join(name);
        if !overwrite && exists(&destination) {
            return Err(taken(&destination));
        }
        let made = parent.ancestors().take_while(|above| !above.as_os_str().is_empty() && !exists(above)).last();
        let mut workspace = Workspace {
            directory: PathBuf::new(),
            made: made.map(Path::to_owned),
            destination: destination.clone(),
            overwrite,
            keep: false,
        };
        let mut tries = 0;
        loop {
            fs::create_dir_all(parent).map_err(|error| io_error("made", parent, error))?;
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".tinkex-{:08x}", fastrand::u32(..)));
            let directory = parent.join(hidden);
            match fs::create_dir(&directory) {
                Ok(()) => {
                    workspace.directory = directory;
                    return Ok(workspace);
                }
                // The name is taken, or another download that failed has just removed the parent that it had made.
                Err(error) if is_passing(&error) && tries < NAMES => tries += 1,
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
            fs::rename(what, &self.destination).map_err(|error| match error.kind() {
                // Another download was quicker.
                ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory => {
                    taken(&self.destination)
                }
                _ => moved(error),
            })?;
            sync(parent_of(&self.destination));
            return Ok(());
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
        })?;
        // Before the old one is removed.
        sync(parent_of(&self.destination));
        Ok(())
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        match fs::remove_dir_all(&self.directory) {
            Err(error) if !self.directory.as_os_str().is_empty() => {
                warn!("{} cannot be removed: {error}", self.directory.display());
            }
            _ => {}
        }
        // Those that hold something stay, be it the download or what somebody else has put there.
        if let Some(made) = &self.made {
            let above = self.destination.ancestors().skip(1).take_while(|above| above.starts_with(made));
            for directory in above {
                if fs::remove_dir(directory).is_err() {
                    return;
                }
            }
        }
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound)
}

/// The directory of a path.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes sure that the names in a directory outlive a loss of power, where the system can do that.
fn sync(directory: &Path) {
    if let Err(error) = fs::File::open(directory).and_then(|directory| directory.sync_all()) {
        debug!("{} cannot be synced: {error}", directory.display());
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

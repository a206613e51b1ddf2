//! The directory in which a download is assembled, beside its destination.
//!
//! [`fs::write_atomically`](crate::fs::write_atomically) does not fit here: the result may be a whole directory, an existing
//! destination is moved aside and must survive a failure, and parent directories are removed again.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use log::{debug, warn};

use super::io_error;
use crate::error::{Error, Result};
use crate::fs::parent_of;
use crate::process::unique_bits;

/// How many other names are tried for the directory.
const MAX_NAMES: usize = 8;

/// A directory beside the destination, and therefore on the same file system. It is removed on drop.
#[derive(Debug)]
pub(crate) struct StagingDir {
    directory: PathBuf,
    /// Without a trailing slash, which would name the target of a symbolic link.
    destination: PathBuf,
    /// The topmost parent directory that was created for the destination.
    created: Option<PathBuf>,
    overwrite: bool,
    /// It holds the only copy of the old content of the destination.
    keep: bool,
}

impl StagingDir {
    pub(crate) fn create(destination: &Path, overwrite: bool) -> Result<Self> {
        let (parent, name, destination) = checked_destination(destination, overwrite)?;
        let created = parent.ancestors().take_while(|above| !above.as_os_str().is_empty() && !exists(above)).last();
        let mut staging = StagingDir {
            directory: PathBuf::new(),
            created: created.map(Path::to_owned),
            destination: destination.clone(),
            overwrite,
            keep: false,
        };
        let mut tries = 0;
        loop {
            fs::create_dir_all(parent).map_err(|error| io_error("created", parent, error))?;
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(format!(".tinkex-{:08x}", unique_bits() as u32));
            let directory = parent.join(hidden);
            match fs::create_dir(&directory) {
                Ok(()) => {
                    staging.directory = directory;
                    return Ok(staging);
                }
                // The name is taken, or a failed download has just removed the parent that it had created.
                Err(error) if is_temporary(&error) && tries < MAX_NAMES => tries += 1,
                Err(error) => return Err(io_error("created", &directory, error)),
            }
        }
    }

    /// Where the archive is stored.
    pub(crate) fn archive(&self) -> PathBuf {
        self.directory.join("archive")
    }

    /// Where the archive is unpacked to.
    pub(crate) fn content(&self) -> PathBuf {
        self.directory.join("content")
    }

    /// Moves the complete result to the destination. Old content is moved aside, and removed last.
    pub(crate) fn install(mut self, what: &Path) -> Result<()> {
        let moved = |error| io_error("moved to its destination", what, error);
        if !exists(&self.destination) {
            fs::rename(what, &self.destination).map_err(|error| match error.kind() {
                // Another download was faster.
                ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory => {
                    destination_exists(&self.destination)
                }
                _ => moved(error),
            })?;
            sync(parent_of(&self.destination));
            return Ok(());
        }
        if !self.overwrite {
            return Err(destination_exists(&self.destination));
        }
        let old = self.directory.join("old");
        fs::rename(&self.destination, &old).map_err(|error| io_error("moved aside", &self.destination, error))?;
        fs::rename(what, &self.destination).map_err(|error| {
            let error = moved(error);
            if fs::rename(&old, &self.destination).is_ok() {
                return error;
            }
            self.keep = true;
            error.with_hint(format!("the old content is now at {}", old.display()))
        })?;
        // Before the old content is removed.
        sync(parent_of(&self.destination));
        Ok(())
    }
}

impl Drop for StagingDir {
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
        // Directories that are not empty stay, whether they hold the download or something else.
        if let Some(created) = &self.created {
            let above = self.destination.ancestors().skip(1).take_while(|above| above.starts_with(created));
            for directory in above {
                if fs::remove_dir(directory).is_err() {
                    return;
                }
            }
        }
    }
}

/// The parent directory, the name and the path of a destination, without a trailing slash.
pub(super) fn checked_destination(destination: &Path, overwrite: bool) -> Result<(&Path, &OsStr, PathBuf)> {
    let Some(name) = destination.file_name() else {
        let shown = destination.display();
        return Err(Error::invalid_input(format!("the destination {shown:?} is not a valid name for a new file")));
    };
    let parent = parent_of(destination);
    let destination = parent.join(name);
    if !overwrite && exists(&destination) {
        return Err(destination_exists(&destination));
    }
    Ok((parent, name, destination))
}

fn is_temporary(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound)
}

/// Makes the names in a directory survive a power loss, if the system supports that.
fn sync(directory: &Path) {
    if let Err(error) = fs::File::open(directory).and_then(|directory| directory.sync_all()) {
        debug!("{} cannot be synced: {error}", directory.display());
    }
}

/// Whether something exists at the path, even a broken symbolic link.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn destination_exists(destination: &Path) -> Error {
    Error::invalid_input(format!("{} already exists", destination.display()))
        .with_hint("choose another destination, or allow overwriting")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_installed_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("weights");
        fs::write(&destination, "old").unwrap();
        let staging = StagingDir::create(&destination, true).unwrap();
        // It is gone: the second of the two renames fails.
        let content = staging.content();
        let error = staging.install(&content).unwrap_err();
        assert!(error.message().contains("cannot be moved to its destination"), "{error}");
        assert_eq!(fs::read_to_string(&destination).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something stays beside it");
    }
}

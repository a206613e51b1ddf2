//! A lock that reserves a directory for one process.

use std::fs::File;
use std::io;
use std::path::Path;

use fs4::{FileExt, TryLockError};

/// Holds a lock on a file of the directory, which the system releases however the process ends.
#[derive(Debug)]
pub(in crate::local) struct DirectoryLock(File);

impl DirectoryLock {
    /// Takes the lock; `None` if another process has it.
    pub(in crate::local) fn try_acquire(path: &Path) -> io::Result<Option<Self>> {
        let file = File::options().create(true).append(true).open(path)?;
        match FileExt::try_lock(&file) {
            Ok(()) => Ok(Some(DirectoryLock(file))),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => Ok(None),
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that another thread is just starting shares it for a moment.
        if let Err(error) = FileExt::unlock(&self.0) {
            log::warn!("a directory stays locked until this process ends: {error}");
        }
    }
}

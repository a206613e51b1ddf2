//! Storage for weights and records: in memory, or in a directory that outlives the server.
//!
//! ```text
//! server.json                                number of starts, and the secret that signs links and tokens
//! revoked_keys.json                          hashes of the API keys that their users revoked
//! sessions/SESSION/session.json
//! sessions/SESSION/removed_samplers.json     numbers of its sampling sessions that were removed
//! samplers/SAMPLER/sampler.json              a sampling session, next to its weights if it has its own
//! samplers/SAMPLER/clients.json              how many clients have joined it
//! runs/RUN/run.json                          a training run
//! runs/RUN/weights/NAME/checkpoint.json      a training checkpoint, next to its PEFT and optimizer files
//! runs/RUN/sampler_weights/NAME/…            a sampler checkpoint, next to its PEFT files
//! runs/RUN/external_weights/NAME/…           an adapter for use elsewhere, in PEFT files
//! runs/RUN/inflight/inflight.json            the configuration of the weights that inflight samplers share, next to them
//! runs/RUN/resting/resting.json              a model that made room for others, next to its weights; removed at the next start
//! usage/HOUR/usage.json                      what was used in an hour
//! audit/DAY/audit.jsonl                      the audit log of a day, a line for each event
//! ```
//!
//! Every file and every checkpoint folder is written under a temporary name, flushed to disk and renamed: after a crash it
//! is complete or absent. A folder that is replaced is kept under another name until the new one is in place: after a crash
//! it is complete, old or new. One server uses a directory at a time. It holds a lock on `server.lock`, which the system
//! releases however the process ends.

mod folders;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use serde::{Serialize, de::DeserializeOwned};

use self::folders::{
    at, create_parent, entries, recover, remove, removed_name, replace, sync_folder, sync_parent, write_folder,
};
use crate::fs::{write_atomically, write_private};
use crate::local::checkpoint_files::CheckpointFiles;
use crate::local::directory_lock::DirectoryLock;
use crate::local::server::path_segment::{decode, encode};
use crate::types::CheckpointPath;

/// The path of a folder in the store, as segments of arbitrary text.
pub(crate) type FolderPath<'a> = &'a [&'a str];

/// The folder of a checkpoint.
pub(crate) fn checkpoint_folder(path: &CheckpointPath) -> [&str; 4] {
    let kind = path.checkpoint_id().split('/').next().unwrap_or_default();
    ["runs", path.training_run_id(), kind, path.name()]
}

/// The folder of the weights that the inflight sampling sessions of a run share.
pub(crate) fn inflight_folder(run: &str) -> [&str; 3] {
    ["runs", run, "inflight"]
}

/// Weights and records, by folder.
#[derive(Debug)]
pub(crate) enum Store {
    /// Weights only: records are read only after a restart.
    Memory(Mutex<HashMap<PathBuf, CheckpointFiles>>),
    Directory {
        root: PathBuf,
        /// Locked for reading while the files of a folder are read, for writing while a folder is replaced or removed.
        folders: RwLock<()>,
        /// Whether the server has stopped, and so another one may have the directory. Locked for reading while something is written.
        is_closed: RwLock<bool>,
    },
}

impl Store {
    pub(crate) fn in_memory() -> Self {
        Store::Memory(Mutex::default())
    }

    /// Opens a directory, creating it if needed, and removes the temporary files that a crash left behind. No other server
    /// can open it until the lock is dropped.
    pub(crate) fn open(root: &Path) -> io::Result<(Self, DirectoryLock)> {
        fs::create_dir_all(root).map_err(at(root))?;
        let path = root.join("server.lock");
        let lock = DirectoryLock::try_acquire(&path).map_err(at(&path))?.ok_or_else(|| {
            io::Error::new(ErrorKind::ResourceBusy, format!("another server is using {}", root.display()))
        })?;
        recover(root)?;
        Ok((Store::Directory { root: root.to_owned(), folders: RwLock::default(), is_closed: RwLock::default() }, lock))
    }

    /// Whether it outlives the server.
    pub(crate) fn is_directory(&self) -> bool {
        matches!(self, Store::Directory { .. })
    }

    /// Refuses to write from now on, and waits for what is being written: workers may go on after their server has stopped.
    pub(crate) fn close(&self) {
        if let Store::Directory { is_closed, .. } = self {
            *is_closed.write() = true;
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self, Store::Directory { is_closed, .. } if *is_closed.read())
    }

    /// Writes the files of a folder and a record next to them, all or none. Replaces an existing folder.
    pub(crate) fn save_files(
        &self,
        path: FolderPath<'_>,
        mut files: CheckpointFiles,
        name: &str,
        record: &impl Serialize,
    ) -> io::Result<()> {
        let folder = relative(path);
        let (root, folders, _writing) = match self {
            Store::Memory(saved) => {
                saved.lock().insert(folder, files);
                return Ok(());
            }
            Store::Directory { root, folders, is_closed } => (root, folders, writing(is_closed)?),
        };
        files.insert(name.to_owned(), json(record)?);
        let folder = root.join(folder);
        write_folder(&folder, |temporary| {
            for (name, bytes) in files {
                let file = temporary.join(name);
                write_atomically(&file, &bytes).map_err(at(&file))?;
            }
            sync_folder(temporary)?;
            let _replacing = folders.write();
            replace(&folder, temporary)
        })
    }

    /// Saves the files of another folder, and a record of their own next to them, all or none. Replaces an existing folder.
    /// Both folders share the bytes, if the file system can.
    pub(crate) fn copy_files(
        &self,
        from: FolderPath<'_>,
        to: FolderPath<'_>,
        name: &str,
        record: &impl Serialize,
    ) -> io::Result<()> {
        let (root, folders, _writing) = match self {
            Store::Memory(saved) => {
                let mut saved = saved.lock();
                let files = saved.get(&relative(from)).cloned().ok_or(ErrorKind::NotFound)?;
                saved.insert(relative(to), files);
                return Ok(());
            }
            Store::Directory { root, folders, is_closed } => (root, folders, writing(is_closed)?),
        };
        let folder = root.join(relative(to));
        let record = json(record)?;
        write_folder(&folder, |temporary| {
            let _replacing = folders.write();
            for path in entries(&root.join(relative(from)))? {
                let Some(file) = path.file_name().filter(|file| *file != OsStr::new(name)) else { continue };
                let copy = temporary.join(file);
                // No file is changed after it was written, so two folders can have one.
                fs::hard_link(&path, &copy)
                    .or_else(|_| write_atomically(&copy, &fs::read(&path)?))
                    .map_err(at(&copy))?;
            }
            let file = temporary.join(name);
            write_atomically(&file, &record).map_err(at(&file))?;
            sync_folder(temporary)?;
            replace(&folder, temporary)
        })
    }

    /// Reads the files of a folder, without its record.
    pub(crate) fn load_files(&self, path: FolderPath<'_>, record: &str) -> io::Result<CheckpointFiles> {
        let folder = relative(path);
        let (root, folders) = match self {
            Store::Memory(saved) => {
                return saved.lock().get(&folder).cloned().ok_or_else(|| ErrorKind::NotFound.into());
            }
            Store::Directory { root, folders, .. } => (root, folders),
        };
        let _reading = folders.read();
        let mut files = CheckpointFiles::new();
        for path in entries(&root.join(folder))? {
            if let Some(name) = path.file_name().and_then(OsStr::to_str).filter(|name| *name != record) {
                files.insert(name.to_owned(), fs::read(&path).map_err(at(&path))?);
            }
        }
        Ok(files)
    }

    /// Removes a folder. Succeeds if the folder does not exist.
    pub(crate) fn remove(&self, path: FolderPath<'_>) -> io::Result<()> {
        let folder = relative(path);
        let (root, folders, _writing) = match self {
            Store::Memory(saved) => {
                saved.lock().remove(&folder);
                return Ok(());
            }
            Store::Directory { root, folders, is_closed } => (root, folders, writing(is_closed)?),
        };
        // Renamed first: after a crash, a folder with half of its files must not look complete.
        let folder = root.join(folder);
        let temporary = removed_name(&folder);
        remove(&temporary)?;
        let renamed = {
            let _removing = folders.write();
            fs::rename(&folder, &temporary)
        };
        match renamed {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed.map_err(at(&folder))?,
        }
        sync_parent(&folder)?;
        remove(&temporary)
    }

    /// The number of files in memory, with the bytes in them.
    #[cfg(test)]
    pub(crate) fn in_memory_usage(&self) -> (usize, usize) {
        let Store::Memory(saved) = self else { return (0, 0) };
        let saved = saved.lock();
        let files: Vec<_> = saved.values().flat_map(|files| files.values()).collect();
        (files.len(), files.iter().map(|file| file.len()).sum())
    }

    /// Writes a record with a secret, replacing an existing one: only the user of this process may read it.
    pub(crate) fn write_private_record(
        &self,
        path: FolderPath<'_>,
        name: &str,
        record: &impl Serialize,
    ) -> io::Result<()> {
        let Store::Directory { root, is_closed, .. } = self else { return Ok(()) };
        let _writing = writing(is_closed)?;
        let file = root.join(relative(path)).join(name);
        write_private(&file, &json(record)?).map_err(at(&file))?;
        sync_parent(&file)
    }

    /// Writes a record, replacing an existing one.
    pub(crate) fn write_record(&self, path: FolderPath<'_>, name: &str, record: &impl Serialize) -> io::Result<()> {
        let Store::Directory { root, is_closed, .. } = self else { return Ok(()) };
        let _writing = writing(is_closed)?;
        let file = root.join(relative(path)).join(name);
        create_parent(&file)?;
        write_atomically(&file, &json(record)?).map_err(at(&file))?;
        sync_parent(&file)
    }

    /// Reads a record that [`write_record`](Store::write_record) or [`save_files`](Store::save_files) wrote; `None` if it does
    /// not exist.
    pub(crate) fn read_record<T: DeserializeOwned>(&self, path: FolderPath<'_>, name: &str) -> io::Result<Option<T>> {
        let Store::Directory { root, .. } = self else { return Ok(None) };
        let file = root.join(relative(path)).join(name);
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                io::Error::new(ErrorKind::InvalidData, format!("{} is not a valid record: {error}", file.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&file)(error)),
        }
    }

    /// Appends a line to a file of a folder, and flushes it to disk.
    pub(crate) fn append_line(&self, path: FolderPath<'_>, name: &str, line: &str) -> io::Result<()> {
        let Store::Directory { root, is_closed, .. } = self else { return Ok(()) };
        let _writing = writing(is_closed)?;
        let file = root.join(relative(path)).join(name);
        create_parent(&file)?;
        let appended = File::options().create(true).append(true).open(&file).and_then(|mut file| {
            // In one write, so that a crash leaves at most the last line incomplete; and with the line break first, so that such a
            // line does not take the next one with it.
            file.write_all(format!("\n{line}").as_bytes())?;
            file.sync_data()
        });
        appended.map_err(at(&file))
    }

    /// The lines that [`append_line`](Store::append_line) wrote, and an empty one before; none if the file does not exist.
    pub(crate) fn read_lines(&self, path: FolderPath<'_>, name: &str) -> io::Result<Vec<String>> {
        let Store::Directory { root, .. } = self else { return Ok(Vec::new()) };
        let file = root.join(relative(path)).join(name);
        match fs::read(&file) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(at(&file)(error)),
        }
    }

    /// The names of the folders in a folder.
    pub(crate) fn list(&self, path: FolderPath<'_>) -> io::Result<Vec<String>> {
        let Store::Directory { root, .. } = self else { return Ok(Vec::new()) };
        match entries(&root.join(relative(path))) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            paths => Ok(paths?.iter().filter_map(|path| decode(path.file_name()?.to_str()?)).collect()),
        }
    }
}

/// Held while something is written.
fn writing(is_closed: &RwLock<bool>) -> io::Result<RwLockReadGuard<'_, bool>> {
    let guard = is_closed.read();
    if *guard { Err(io::Error::other("the server has stopped")) } else { Ok(guard) }
}

fn relative(path: FolderPath<'_>) -> PathBuf {
    path.iter().map(|segment| encode(segment)).collect()
}

fn json(record: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(record)?)
}

#[cfg(test)]
mod tests {
    use super::folders::replaced_name;
    use super::*;
    use crate::fs::UNFINISHED;

    fn files(text: &str) -> CheckpointFiles {
        CheckpointFiles::from([("a.bin".to_owned(), text.as_bytes().to_vec())])
    }

    #[test]
    fn files_are_saved_loaded_removed_in_either_store() {
        let scratch = tempfile::tempdir().unwrap();
        let (directory, _lock) = Store::open(scratch.path()).unwrap();
        for store in [Store::in_memory(), directory] {
            let path: FolderPath<'_> = &["runs", "a:b/../c", "weights", "."];
            assert_eq!(store.load_files(path, "r.json").unwrap_err().kind(), ErrorKind::NotFound);
            store.save_files(path, files("one"), "r.json", &1).unwrap();
            assert_eq!(store.load_files(path, "r.json").unwrap(), files("one"));
            let copy: FolderPath<'_> = &["runs", "copy", "weights", "n"];
            store.copy_files(path, copy, "r.json", &2).unwrap();
            store.save_files(path, files("two"), "r.json", &3).unwrap();
            assert_eq!(store.load_files(path, "r.json").unwrap(), files("two"));
            assert_eq!(store.load_files(copy, "r.json").unwrap(), files("one"));
            store.remove(path).unwrap();
            store.remove(path).unwrap();
            assert_eq!(store.load_files(copy, "r.json").unwrap(), files("one"));
            assert!(store.copy_files(path, copy, "r.json", &4).is_err());
            assert_eq!(store.load_files(path, "r.json").unwrap_err().kind(), ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_closed_store_changes_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(scratch.path()).unwrap();
        let path: FolderPath<'_> = &["samplers", "a"];
        store.save_files(path, files("old"), "r.json", &1).unwrap();
        store.close();
        for result in [
            store.save_files(path, files("new"), "r.json", &2),
            store.copy_files(path, &["samplers", "b"], "r.json", &2),
            store.write_record(path, "r.json", &2),
            store.write_private_record(path, "r.json", &2),
            store.append_line(path, "log", "line"),
            store.remove(path),
        ] {
            assert_eq!(result.unwrap_err().to_string(), "the server has stopped");
        }
        assert_eq!(store.load_files(path, "r.json").unwrap(), files("old"));
        assert_eq!(store.read_record(path, "r.json").unwrap(), Some(1));
        assert_eq!(store.list(&["samplers"]).unwrap(), ["a"]);
    }

    #[test]
    fn a_failed_write_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, _lock) = Store::open(scratch.path()).unwrap();
        let (path, other): (FolderPath<'_>, FolderPath<'_>) = (&["samplers", "a"], &["samplers", "b"]);
        store.save_files(path, files("old"), "r.json", &1).unwrap();
        // No file has this name.
        let broken = || CheckpointFiles::from([("a.bin".to_owned(), vec![0; 1000]), ("b\0".to_owned(), Vec::new())]);
        assert!(store.save_files(path, broken(), "r.json", &2).is_err());
        assert!(store.save_files(other, broken(), "r.json", &2).is_err());
        assert!(store.copy_files(&["samplers", "c"], other, "r.json", &2).is_err());
        assert_eq!(store.load_files(path, "r.json").unwrap(), files("old"));
        let names: Vec<_> = entries(&scratch.path().join("samplers")).unwrap();
        assert_eq!(names, [scratch.path().join("samplers/a")]);
    }

    #[test]
    fn a_crash_leaves_old_or_new_files() {
        let folder: FolderPath<'_> = &["runs", "x", "weights", "n"];
        let both = |replaced: bool, current: bool| {
            let scratch = tempfile::tempdir().unwrap();
            let (store, lock) = Store::open(scratch.path()).unwrap();
            store.save_files(folder, files("old"), "r.json", &1).unwrap();
            let path = scratch.path().join("runs/x/weights/n");
            if replaced {
                fs::rename(&path, replaced_name(&path)).unwrap();
            }
            if current {
                store.save_files(folder, files("new"), "r.json", &2).unwrap();
            }
            drop(lock);
            let (store, _lock) = Store::open(scratch.path()).unwrap();
            let names = entries(path.parent().unwrap()).unwrap().len();
            (store.load_files(folder, "r.json").unwrap(), store.read_record(folder, "r.json").unwrap(), names)
        };
        assert_eq!(both(true, false), (files("old"), Some(1), 1));
        assert_eq!(both(false, true), (files("new"), Some(2), 1));
    }

    #[test]
    fn a_reopened_directory_has_only_complete_entries() {
        let scratch = tempfile::tempdir().unwrap();
        let (store, lock) = Store::open(scratch.path()).unwrap();
        store.write_record(&["runs", "x:1"], "run.json", &"first").unwrap();
        store.write_record(&["runs", "x:1"], "run.json", &"second").unwrap();
        store.save_files(&["runs", "x:1", "weights", "n"], files("one"), "checkpoint.json", &3).unwrap();
        let half = scratch.path().join("runs/x%3A1/weights").join(format!(".m{UNFINISHED}"));
        fs::create_dir(&half).unwrap();
        fs::write(half.join("checkpoint.json"), "3").unwrap();

        drop(lock);
        let (store, _lock) = Store::open(scratch.path()).unwrap();
        assert_eq!(store.list(&["runs"]).unwrap(), ["x:1"]);
        assert_eq!(store.list(&["runs", "x:1", "weights"]).unwrap(), ["n"]);
        assert_eq!(store.read_record(&["runs", "x:1"], "run.json").unwrap(), Some("second".to_owned()));
        assert_eq!(store.read_record(&["runs", "x:1", "weights", "n"], "checkpoint.json").unwrap(), Some(3));
        assert_eq!(store.read_record::<u8>(&["nothing"], "x.json").unwrap(), None);
        fs::write(scratch.path().join("runs/x%3A1/run.json"), "{").unwrap();
        assert!(
            store.read_record::<String>(&["runs", "x:1"], "run.json").unwrap_err().to_string().contains("run.json")
        );
    }
}

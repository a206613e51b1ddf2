//! Where weights and records are kept: in memory, or in a directory that outlives the server.
//!
//! ```text
//! server.json                                how often the server started here, and what it signs links with
//! sessions/SESSION/session.json
//! samplers/SAMPLER/sampler.json              a sampling session; its own weights next to it, where it has some
//! runs/RUN/run.json                          a training run
//! runs/RUN/weights/NAME/checkpoint.json      a checkpoint to train from, with the files of PEFT and the optimizer's
//! runs/RUN/sampler_weights/NAME/…            a checkpoint to sample from
//! ```
//!
//! Every file and every checkpoint is written under another name, brought to the disk, and renamed: after a crash it is
//! there whole, or not at all. One server uses a directory at a time: it holds a lock on `server.lock`, which the system
//! takes back when the process ends, however it ends.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use fs4::{FileExt, TryLockError};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};

use super::percent::{decode, encode};
use crate::local::checkpoint::Files;

/// What is being written begins with this. No encoded name does.
const UNFINISHED: &str = ".unfinished-";

/// Something that is kept: the segments of its folder's path, which may be any text.
pub(super) type Place<'a> = &'a [&'a str];

/// What keeps a directory to one server.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock is held by holding the open file")] File);

impl Lock {
    fn take(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        match FileExt::try_lock(&file) {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let words = "another server is using this directory; stop it, or give this one a directory of its own";
                Err(io::Error::new(ErrorKind::ResourceBusy, words))
            }
        }
    }
}

/// Weights and records by their places.
#[derive(Debug)]
pub(super) enum Store {
    /// Weights only: records are needed after a restart alone.
    Memory(Mutex<HashMap<PathBuf, Files>>),
    Directory(PathBuf),
}

impl Store {
    pub(super) fn in_memory() -> Self {
        Store::Memory(Mutex::default())
    }

    /// Opens a directory, making it where needed, and clears away what a crash left unfinished. No other server can open
    /// it until the lock is dropped.
    pub(super) fn open(root: &Path) -> io::Result<(Self, Lock)> {
        fs::create_dir_all(root)?;
        let lock = Lock::take(&root.join("server.lock"))?;
        clear(root)?;
        Ok((Store::Directory(root.to_owned()), lock))
    }

    /// Keeps the files of a folder, all or none, with a record next to them.
    pub(super) fn save(
        &self,
        place: Place<'_>,
        mut files: Files,
        name: &str,
        record: &impl Serialize,
    ) -> io::Result<()> {
        let folder = relative(place);
        let root = match self {
            Store::Memory(saved) => {
                saved.lock().insert(folder, files);
                return Ok(());
            }
            Store::Directory(root) => root,
        };
        files.insert(name.to_owned(), json(record)?);
        let (folder, unfinished) = prepare(&root.join(folder))?;
        remove(&unfinished)?;
        fs::create_dir(&unfinished)?;
        for (name, bytes) in files {
            write(&unfinished.join(name), &bytes)?;
        }
        sync_folder(&unfinished)?;
        fs::rename(&unfinished, &folder)?;
        folder.parent().map_or(Ok(()), sync_folder)
    }

    /// The files of a folder, without its record.
    pub(super) fn load(&self, place: Place<'_>, record: &str) -> io::Result<Files> {
        let folder = relative(place);
        let root = match self {
            Store::Memory(saved) => {
                return saved.lock().get(&folder).cloned().ok_or_else(|| ErrorKind::NotFound.into());
            }
            Store::Directory(root) => root,
        };
        let mut files = Files::new();
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str().filter(|name| *name != record) {
                files.insert(name.to_owned(), fs::read(entry.path())?);
            }
        }
        Ok(files)
    }

    /// Removes a folder. One that is not there is gone already.
    pub(super) fn remove(&self, place: Place<'_>) -> io::Result<()> {
        let folder = relative(place);
        let root = match self {
            Store::Memory(saved) => {
                saved.lock().remove(&folder);
                return Ok(());
            }
            Store::Directory(root) => root,
        };
        // A folder with half of its files gone must not be taken for a whole one.
        let (folder, unfinished) = prepare(&root.join(folder))?;
        remove(&unfinished)?;
        match fs::rename(&folder, &unfinished) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        folder.parent().map_or(Ok(()), sync_folder)?;
        remove(&unfinished)
    }

    /// Writes a record, in place of the one before.
    pub(super) fn record(&self, place: Place<'_>, name: &str, record: &impl Serialize) -> io::Result<()> {
        let Store::Directory(root) = self else { return Ok(()) };
        let (file, unfinished) = prepare(&root.join(relative(place)).join(name))?;
        write(&unfinished, &json(record)?)?;
        fs::rename(&unfinished, &file)?;
        file.parent().map_or(Ok(()), sync_folder)
    }

    /// Reads a record that [`record`](Store::record) or [`save`](Store::save) wrote; none if there is none.
    pub(super) fn recorded<T: DeserializeOwned>(&self, place: Place<'_>, name: &str) -> io::Result<Option<T>> {
        let Store::Directory(root) = self else { return Ok(None) };
        let file = root.join(relative(place)).join(name);
        match fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                io::Error::new(ErrorKind::InvalidData, format!("{} cannot be read: {error}", file.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The names of the folders in a folder.
    pub(super) fn names(&self, place: Place<'_>) -> io::Result<Vec<String>> {
        let Store::Directory(root) = self else { return Ok(Vec::new()) };
        let entries = match fs::read_dir(root.join(relative(place))) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_str().and_then(decode));
        entries.filter_map(|entry| name(entry).transpose()).collect()
    }
}

fn relative(place: Place<'_>) -> PathBuf {
    place.iter().map(|segment| encode(segment)).collect()
}

/// A path whose folder is there, and the name next to it under which it is written first.
fn prepare(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        folder.ancestors().skip(1).take(3).filter(|above| !above.as_os_str().is_empty()).try_for_each(sync_folder)?;
    }
    let mut name = OsStr::new(UNFINISHED).to_owned();
    name.push(path.file_name().ok_or(ErrorKind::InvalidInput)?);
    Ok((path.to_owned(), folder.join(name)))
}

fn json(record: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(record)?)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Brings the names in a folder to the disk. Only Unix can, and only Unix needs to.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Removes everything unfinished below a folder.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(UNFINISHED)) {
            remove(&path)?;
        } else if path.is_dir() {
            clear(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of one test's own, removed with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tinkex-store-{name}-{}", std::process::id()));
            remove(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            remove(&self.0).unwrap();
        }
    }

    fn files(text: &str) -> Files {
        Files::from([("a.bin".to_owned(), text.as_bytes().to_vec())])
    }

    #[test]
    fn weights_are_kept_replaced_by_nothing_and_removed_in_memory_and_on_disk() {
        let scratch = Scratch::new("weights");
        let (directory, _lock) = Store::open(&scratch.0).unwrap();
        for store in [Store::in_memory(), directory] {
            let place: Place<'_> = &["runs", "a:b/../c", "weights", "."];
            assert_eq!(store.load(place, "r.json").unwrap_err().kind(), ErrorKind::NotFound);
            store.save(place, files("one"), "r.json", &1).unwrap();
            assert_eq!(store.load(place, "r.json").unwrap(), files("one"));
            store.remove(place).unwrap();
            store.remove(place).unwrap();
            assert_eq!(store.load(place, "r.json").unwrap_err().kind(), ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_directory_is_found_again_without_what_was_unfinished() {
        let scratch = Scratch::new("again");
        let (store, lock) = Store::open(&scratch.0).unwrap();
        store.record(&["runs", "x:1"], "run.json", &"first").unwrap();
        store.record(&["runs", "x:1"], "run.json", &"second").unwrap();
        store.save(&["runs", "x:1", "weights", "n"], files("one"), "checkpoint.json", &3).unwrap();
        let half = scratch.0.join("runs/x%3A1/weights").join(format!("{UNFINISHED}m"));
        fs::create_dir(&half).unwrap();
        fs::write(half.join("checkpoint.json"), "3").unwrap();

        drop(lock);
        let (store, _lock) = Store::open(&scratch.0).unwrap();
        assert_eq!(store.names(&["runs"]).unwrap(), ["x:1"]);
        assert_eq!(store.names(&["runs", "x:1", "weights"]).unwrap(), ["n"]);
        assert_eq!(store.recorded(&["runs", "x:1"], "run.json").unwrap(), Some("second".to_owned()));
        assert_eq!(store.recorded(&["runs", "x:1", "weights", "n"], "checkpoint.json").unwrap(), Some(3));
        assert_eq!(store.recorded::<u8>(&["nothing"], "x.json").unwrap(), None);
        fs::write(scratch.0.join("runs/x%3A1/run.json"), "{").unwrap();
        assert!(store.recorded::<String>(&["runs", "x:1"], "run.json").unwrap_err().to_string().contains("run.json"));
    }
}

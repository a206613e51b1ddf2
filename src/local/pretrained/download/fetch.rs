//! Fetches a model from the hub into this crate's cache.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::LISTING;
use super::cache;
use super::listing::{Choice, Listed, Listing, shards};
use super::model_id::ModelId;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{UNFINISHED, write_atomically};
use crate::http::RequestHandle;
use crate::local::directory_lock::DirectoryLock;
use crate::local::model::Cancellation;
use crate::local::pretrained::LoadProgress;
use crate::local::pretrained::hugging_face::WEIGHTS_INDEX;
use crate::rules::resume::StoredProgress;
use crate::rules::tokenizer_id::HubId;
use crate::tokenizer::hub::Hub;

/// The bytes that are hashed between two looks at the cancellation.
const HASHED: usize = 1 << 20;

/// A repository of the hub, with the directory that its files go to.
pub(super) struct Repository<'a> {
    hub: Hub,
    id: HubId<'a>,
    directory: PathBuf,
    listing: Listing,
    choice: Choice,
    /// What else to do, for errors.
    hint: String,
    cancellation: &'a Cancellation,
    progress: &'a dyn Fn(LoadProgress),
    /// Two processes must not write one file.
    _lock: DirectoryLock,
}

impl<'a> Repository<'a> {
    /// Asks the hub what a repository has, unless an earlier try has learned of what is wanted, and decides what is needed of it.
    pub(super) fn open(
        hub: Hub,
        id: &ModelId<'a>,
        directory: PathBuf,
        hint: String,
        cancellation: &'a Cancellation,
        progress: &'a dyn Fn(LoadProgress),
    ) -> Result<Self> {
        let handle = Arc::new(RequestHandle::default());
        let hub = hub.with_handle(Arc::clone(&handle));
        cancellation.on_cancel(move || handle.cancel());
        // Nothing is left of an id with a mistake.
        let (listing, json) = match cache::listing(&directory).filter(|listing| listing.choose(id).is_ok()) {
            Some(listing) => (listing, None),
            None => {
                let json = hub.listing(&id.hub, &hint)?;
                (Listing::parse(&json).map_err(|error| error.with_hint(hint.clone()))?, Some(json))
            }
        };
        let choice = listing.choose(id)?;
        let path = directory.join(".lock");
        let lock = fs::create_dir_all(&directory).and_then(|()| DirectoryLock::try_acquire(&path));
        let lock = lock.map_err(|error| unusable(&path, &error))?.ok_or_else(|| {
            let message = format!("another program is downloading \"{}\" into {}", id.hub, directory.display());
            Error::new(ErrorKind::Io, message).with_hint("wait until it has finished, and try again")
        })?;
        let path = directory.join(LISTING);
        json.map_or(Ok(()), |json| write_atomically(&path, &json)).map_err(|error| unusable(&path, &error))?;
        Ok(Repository { hub, id: id.hub, directory, listing, choice, hint, cancellation, progress, _lock: lock })
    }

    /// Fetches what is missing. Returns the path of the model.
    pub(super) fn fetch(self) -> Result<PathBuf> {
        self.choice.files().iter().try_for_each(|name| self.fetch_file(name))?;
        if matches!(self.choice, Choice::Sharded(_)) {
            let path = self.directory.join(WEIGHTS_INDEX);
            let index = fs::read(&path).map_err(|error| unusable(&path, &error))?;
            let shards = shards(&index)?;
            if let Some(name) = shards.iter().find(|name| self.listing.get(name).is_none()) {
                let message =
                    format!("{WEIGHTS_INDEX} of \"{}\" names {name}, which the repository does not have", self.id);
                return Err(Error::new(ErrorKind::Decode, message).with_hint(self.hint));
            }
            shards.iter().try_for_each(|name| self.fetch_file(name))?;
        }
        Ok(self.choice.path(&self.directory))
    }

    /// Fetches a file that is not there, from where an earlier try ended.
    fn fetch_file(&self, name: &str) -> Result<()> {
        let unknown = Listed::default();
        let listed = self.listing.get(name).unwrap_or(&unknown);
        if cache::has(&self.directory, name, Some(listed)) {
            return Ok(());
        }
        let path = self.directory.join(name);
        let part = self.directory.join(format!("{name}{UNFINISHED}"));
        let failed = |error: io::Error| unusable(&part, &error);
        path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&part).map_err(failed)?;
        self.download(name, listed, (&file, &part), file.metadata().map_err(failed)?.len())?;
        if let Err(error) = self.check(name, listed, &file) {
            if error.kind() == ErrorKind::Decode {
                fs::remove_file(&part).ok();
            }
            return Err(error);
        }
        fs::rename(&part, &path).map_err(failed)
    }

    /// Downloads what follows the bytes that are stored. They count only if the hash of the whole tells whether they belong to it.
    fn download(&self, name: &str, listed: &Listed, (file, path): (&File, &Path), stored: u64) -> Result<()> {
        let is_fixed = listed.sha256.is_some();
        let stored = if is_fixed && listed.size.is_some_and(|size| stored <= size) { stored } else { 0 };
        if stored > 0 && Some(stored) == listed.size {
            return Ok(());
        }
        let mut watch = |stored: &StoredProgress| {
            let total = stored.total.or(listed.size);
            match listed.size {
                Some(size) if total != Some(size) || stored.bytes > size => Err(self.of_another_size(name, size)),
                _ => {
                    (self.progress)(LoadProgress::Downloading { file: name.to_owned(), bytes: stored.bytes, total });
                    Ok(())
                }
            }
        };
        let stored = StoredProgress { bytes: stored, total: listed.size, validator: None, is_fixed };
        let file = file.try_clone().map_err(|error| unusable(path, &error))?;
        let hint = format!("try again, which continues the download, or {}", self.hint);
        let commit = self.listing.commit.as_deref();
        self.hub.store(&self.id, commit, name, &hint, (file, path, stored), &mut watch).inspect_err(|error| {
            // The commit may be gone: the next try asks for the newest.
            if error.status() == Some(404) {
                fs::remove_file(self.directory.join(LISTING)).ok();
            }
        })
    }

    /// Compares a file with its size and hash.
    fn check(&self, name: &str, listed: &Listed, mut file: &File) -> Result<()> {
        let failed = |error: io::Error| unusable(&self.directory.join(name), &error);
        let bytes = file.metadata().map_err(failed)?.len();
        if let Some(size) = listed.size.filter(|size| *size != bytes) {
            return Err(self.of_another_size(name, size));
        }
        let Some(expected) = &listed.sha256 else { return Ok(()) };
        let (mut hash, mut chunk) = (Sha256::new(), vec![0; HASHED]);
        file.rewind().map_err(failed)?;
        loop {
            if self.cancellation.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "the download was cancelled"));
            }
            match file.read(&mut chunk).map_err(failed)? {
                0 => break,
                read => hash.update(&chunk[..read]),
            }
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found == *expected {
            return Ok(());
        }
        let message = format!("{name} of \"{}\" has the SHA-256 {found}, and the hub says {expected}", self.id);
        Err(Error::new(ErrorKind::Decode, message).with_hint(format!("try again, or {}", self.hint)))
    }

    fn of_another_size(&self, name: &str, size: u64) -> Error {
        let message = format!("{name} of \"{}\" does not have the {size} bytes that the hub lists", self.id);
        Error::new(ErrorKind::Decode, message).with_hint(self.hint.clone())
    }
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be written: {error}", path.display()))
        .with_hint("make room there, or set TINKEX_CACHE to another directory")
}

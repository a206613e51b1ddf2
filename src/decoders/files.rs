//! Files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::taken;
use crate::credential_store::CredentialStore;
use crate::rest::{DownloadOptions, unpack};
use crate::toolkit::JsonLines;
use crate::types::ImageChunk;

/// The most files and bytes that an archive may have here.
const MAX_FILES: u64 = 20;
const MAX_BYTES: u64 = 1 << 20;

/// A new folder, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("tinkex-decoders-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a new folder among the temporary files");
        Scratch(folder)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, content).expect("a new file in a new folder");
        file
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// An archive. Whatever it contains, it is unpacked below its folder, and within the limits.
pub(super) fn tar(bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    let archive = scratch.file("archive", bytes);
    let into = scratch.0.join("content");
    let limits = DownloadOptions::new("").max_files(MAX_FILES).max_bytes(MAX_BYTES).unpack_limits();
    let unpacked = unpack(&archive, &into, limits, &|| Ok(()));
    let (mut files, mut size) = (0, 0);
    measure(&into, &mut files, &mut size);
    assert!(files <= MAX_FILES && size <= MAX_BYTES, "{files} files of {size} bytes");
    if let Ok(unpacked) = &unpacked {
        assert_eq!(*unpacked, files);
    }
    let beside = fs::read_dir(&scratch.0).map_or(0, Iterator::count);
    assert!(beside <= 2, "{beside} entries beside the folder");
    taken(unpacked)
}

/// Counts the files in a folder and their bytes. A link would be neither.
fn measure(folder: &Path, files: &mut u64, size: &mut u64) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let metadata = entry.path().symlink_metadata().expect("the metadata of an unpacked file");
        if metadata.is_dir() {
            measure(&entry.path(), files, size);
        } else {
            assert!(metadata.is_file(), "{:?}", entry.path());
            *files += 1;
            *size += metadata.len();
        }
    }
}

/// The file of the keys that logins stored.
pub(super) fn credentials_file(bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    let store = CredentialStore::at(scratch.file("credentials.json", bytes));
    let key = store.default_key();
    let has_key = matches!(key, Ok(Some(_)));
    taken(key);
    has_key
}

/// Lines of JSON, of a program or written by hand.
pub(super) fn json_lines(bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    let lines = JsonLines::<Value>::open(scratch.file("lines.jsonl", bytes));
    taken(lines.and_then(|lines| {
        let last = lines.last()?;
        let all = lines.read()?;
        assert_eq!(all.last(), last.as_ref());
        Ok(all)
    }))
}

/// The header of an image.
pub(super) fn image(bytes: &[u8]) -> bool {
    taken(ImageChunk::new(bytes, 1))
}

#[cfg(feature = "tokenizers")]
fn tokenizer(name: &str, bytes: &[u8]) -> bool {
    let scratch = Scratch::new();
    taken(crate::tokenizer::package::from_path(&scratch.file(name, bytes), None).and_then(|tokenizer| {
        let tokens = tokenizer.encode("Hi, 2 + 2?")?;
        tokenizer.decode(&tokens)
    }))
}

/// A vocabulary of Hugging Face.
#[cfg(feature = "tokenizers")]
pub(super) fn tokenizer_json(bytes: &[u8]) -> bool {
    tokenizer("tokenizer.json", bytes)
}

/// A vocabulary of words and ranks.
#[cfg(feature = "tokenizers")]
pub(super) fn tiktoken(bytes: &[u8]) -> bool {
    tokenizer("tiktoken.model", bytes)
}

/// The vocabulary of a model file.
#[cfg(feature = "tokenizers")]
pub(super) fn gguf(bytes: &[u8]) -> bool {
    tokenizer("vocabulary.gguf", bytes)
}

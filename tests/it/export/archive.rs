//! Adapters in archives, also of strangers.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};
use tinkex::ErrorKind;
use tinkex::local::export::AdapterExport;
use tinkex::local::model::AdapterOptions;

use super::adapter_folder::{AdapterFolder, adapter, golden, load, names};

fn folder() -> AdapterFolder {
    AdapterFolder::new(&adapter(&load(&golden("llama-gqa-tied-f32")), AdapterOptions::new()))
}

/// A tar file with the files of a folder under these names.
fn archive(folder: &Path, name: impl Fn(&str) -> String) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in names(folder) {
        let content = fs::read(folder.join(&file)).unwrap();
        let mut header = tar::Header::new_gnu();
        // Not `set_path`, which refuses names that lead out.
        header.as_gnu_mut().unwrap().name[..name(&file).len()].copy_from_slice(name(&file).as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append(&header, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn stored(bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempdir().unwrap();
    let path = directory.path().join("checkpoint.tar");
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

#[test]
fn archives_are_exported_like_folders() {
    let folder = folder();
    let plain = archive(folder.path(), str::to_owned);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let nested = archive(folder.path(), |name| format!("./step-3/{name}"));
    let target = tempdir().unwrap();
    let expected = target.path().join("expected");
    AdapterExport::new(folder.path()).write(&expected).unwrap();
    for (number, bytes) in [plain, gzip.finish().unwrap(), nested].iter().enumerate() {
        let (_directory, path) = stored(bytes);
        let to = target.path().join(number.to_string());
        AdapterExport::new(&path).write(&to).unwrap();
        for name in names(&expected) {
            assert!(fs::read(expected.join(&name)).unwrap() == fs::read(to.join(&name)).unwrap(), "{number}: {name}");
        }
        assert_eq!(names(&to), names(&expected));
    }
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let folder = folder();
    let outside = |prefix: &'static str| archive(folder.path(), move |name| format!("{prefix}{name}"));
    let whole = archive(folder.path(), str::to_owned);
    for (bytes, why) in [
        (outside("../"), "leads out of the directory"),
        (outside("/tmp/"), "has an absolute path"),
        (outside("a/../../"), "leads out of the directory"),
        (whole[..whole.len() / 2].to_vec(), "the archive is damaged"),
        (b"no archive".to_vec(), "the archive is damaged"),
        (archive(folder.path(), |name| format!("other-{name}")), "it has no adapter_config.json"),
    ] {
        let (directory, path) = stored(&bytes);
        let to = directory.path().join("new/adapter");
        let error = AdapterExport::new(&path).write(&to).unwrap_err();
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert!([ErrorKind::Decode, ErrorKind::InvalidInput].contains(&error.kind()), "{error}");
        assert_eq!(names(directory.path()), ["checkpoint.tar"]);
    }
}

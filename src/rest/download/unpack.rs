//! Unpacks an untrusted archive.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::io_error;
use crate::error::{Error, ErrorKind, Result};

/// The first bytes of a gzip file (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The maximum number of bytes before a member's content: headers with a name of any sensible length.
const MAX_HEADER: u64 = 64 * 1024;

/// The maximum number of bytes after the last member: zeros that fill up a block.
const MAX_END: u64 = 1024 * 1024;

/// The maximum depth of a member below the directory.
const MAX_DEPTH: usize = 32;

/// The size of a chunk in bytes.
const CHUNK: usize = 64 * 1024;

/// The maximum content of an archive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnpackLimits {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Unpacks a tar file, with or without gzip, into a new directory. Returns the number of files. `check` is called before
/// each member and each chunk; its error ends the work.
pub(crate) fn unpack(archive: &Path, into: &Path, limits: UnpackLimits, check: &dyn Fn() -> Result<()>) -> Result<u64> {
    let unreadable = |error| io_error("read", archive, error);
    let mut file = File::open(archive).map_err(unreadable)?;
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(GZIP.len() as u64).read_to_end(&mut magic).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let reader: Box<dyn Read> = if magic == GZIP {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(CHUNK, file)))
    } else {
        Box::new(BufReader::with_capacity(CHUNK, file))
    };
    fs::create_dir(into).map_err(|error| io_error("created", into, error))?;
    unpack_from(reader, into, limits, check)
}

fn unpack_from(reader: impl Read, into: &Path, limits: UnpackLimits, check: &dyn Fn() -> Result<()>) -> Result<u64> {
    let allowance = Rc::new(Allowance { left: Cell::new(MAX_HEADER), ended: Cell::new(false) });
    let mut archive = Archive::new(Limited { reader, state: Rc::clone(&allowance) });
    let (mut members, mut files, mut bytes) = (0_u64, 0, 0_u64);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        check()?;
        members += 1;
        if members > limits.files {
            let message = format!("the archive has more than {} members", limits.files);
            return Err(refuse(message).with_hint("raise max_files if this number is expected"));
        }
        if let Some((path, kind)) = checked(&mut entry)? {
            let path = into.join(path);
            match kind {
                Kind::Directory => create_dirs(&path)?,
                Kind::File => {
                    bytes = bytes.saturating_add(entry.size());
                    if bytes > limits.bytes {
                        let message = format!("the files of the archive have more than {} bytes", limits.bytes);
                        return Err(refuse(message).with_hint("raise max_bytes if this size is expected"));
                    }
                    allowance.left.set(allowance.left.get().saturating_add(entry.size()));
                    write(&mut entry, &path, check)?;
                    files += 1;
                }
            }
        }
        allowance.left.set(MAX_HEADER);
    }
    if members == 0 {
        return Err(refuse("the archive is empty, or not a tar file".to_owned()));
    }
    // A block of zeros ends the members. Without it, members may be missing.
    if allowance.ended.get() {
        return Err(refuse("the archive is truncated between two of its members".to_owned()));
    }
    // Reading to the end also verifies the checksum of a gzip file.
    allowance.left.set(MAX_END);
    let (mut reader, mut chunk) = (archive.into_inner(), vec![0; CHUNK]);
    loop {
        match reader.read(&mut chunk).map_err(damaged)? {
            0 => return Ok(files),
            read if chunk[..read].iter().all(|byte| *byte == 0) => {}
            _ => return Err(refuse("the archive is followed by other data".to_owned())),
        }
    }
}

fn write(entry: &mut Entry<'_, impl Read>, path: &Path, check: &dyn Fn() -> Result<()>) -> Result<()> {
    let unwritable = |error| io_error("written", path, error);
    path.parent().map_or(Ok(()), create_dirs)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => duplicate(path),
        _ => unwritable(error),
    })?;
    let (mut chunk, mut left) = (vec![0; CHUNK], entry.size());
    while left > 0 {
        check()?;
        match entry.read(&mut chunk).map_err(damaged)? {
            0 => return Err(damaged(io::ErrorKind::UnexpectedEof.into())),
            read => {
                file.write_all(&chunk[..read]).map_err(unwritable)?;
                left = left.saturating_sub(read as u64);
            }
        }
    }
    file.sync_all().map_err(unwritable)
}

/// Creates a directory and its missing parents.
pub(super) fn create_dirs(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        // A file of the archive has that name.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => duplicate(path),
        _ => io_error("created", path, error),
    })
}

fn duplicate(path: &Path) -> Error {
    let name = path.file_name().unwrap_or_default();
    refuse(format!("the archive contains {name:?} twice, or as a file and as a directory"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// The path of a member below the directory, and its kind; `None` for one that needs no unpacking: metadata, or the directory
/// itself.
fn checked(entry: &mut Entry<'_, impl Read>) -> Result<Option<(PathBuf, Kind)>> {
    for extension in entry.pax_extensions().map_err(damaged)?.into_iter().flatten() {
        if extension.map_err(damaged)?.key_bytes().starts_with(b"GNU.sparse") {
            return Err(refuse("the archive contains a sparse file, which only GNU tar can unpack".to_owned()));
        }
    }
    let name = entry.path_bytes();
    let kind = match entry.header().entry_type() {
        // Metadata for all that follows.
        EntryType::XGlobalHeader => return Ok(None),
        EntryType::Regular if !name.ends_with(b"/") => Kind::File,
        EntryType::Directory | EntryType::Regular => Kind::Directory,
        other => {
            let shown = String::from_utf8_lossy(&name).into_owned();
            return Err(refuse(format!(
                "the member {shown:?} of the archive is neither a file nor a directory but {other:?}"
            )));
        }
    };
    let path = below(&name).map_err(|why| {
        let shown = String::from_utf8_lossy(&name).into_owned();
        refuse(format!("the member {shown:?} of the archive {why}"))
    })?;
    match (path.as_os_str().is_empty(), kind) {
        (true, Kind::Directory) => Ok(None),
        (true, Kind::File) => Err(refuse("a file of the archive has no name".to_owned())),
        (false, kind) => Ok(Some((path, kind))),
    }
}

/// The path of a member with this name, which stays below the directory that it is joined to, on any system; or what is
/// wrong with the name.
pub(super) fn below(name: &[u8]) -> Result<PathBuf, &'static str> {
    let name = std::str::from_utf8(name).map_err(|_| "has a name that is not UTF-8")?;
    if name.starts_with('/') {
        return Err("has an absolute path");
    }
    if name.contains(|c: char| c == '\\' || c.is_control()) {
        return Err("has a backslash or a control character in its name");
    }
    let mut path = PathBuf::new();
    for (depth, part) in name.split('/').filter(|part| !matches!(*part, "" | ".")).enumerate() {
        let mut letters = part.bytes();
        match (part, letters.next(), letters.next()) {
            ("..", ..) => return Err("leads out of the directory"),
            // Windows strips those from the end of a name.
            _ if part.trim_end_matches(['.', ' ']).is_empty() => return Err("has a name of only dots and spaces"),
            (_, Some(letter), Some(b':')) if letter.is_ascii_alphabetic() => return Err("contains a drive"),
            _ if depth >= MAX_DEPTH => return Err("is nested too deeply"),
            _ => path.push(part),
        }
    }
    Ok(path)
}

/// A reader with an allowance. The tar reader keeps what lies between two files in memory, so this bounds its memory too.
struct Limited<R> {
    reader: R,
    state: Rc<Allowance>,
}

/// The state of a [`Limited`] reader, which the tar reader owns.
struct Allowance {
    /// The number of bytes that it may still return.
    left: Cell<u64>,
    /// The reader is at its end.
    ended: Cell<bool>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.state.ended.set(read == 0 && !buffer.is_empty());
        let left = self.state.left.get().checked_sub(read as u64);
        self.state.left.set(left.ok_or_else(|| io::Error::other("too many bytes between two files"))?);
        Ok(read)
    }
}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::Decode, message)
}

fn damaged(error: io::Error) -> Error {
    Error::new(ErrorKind::Decode, "the archive is damaged, or not a tar file (with or without gzip)").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn a_member_stays_below_the_directory() {
        for (name, expected) in [
            ("a", "a"),
            ("a/b.safetensors", "a/b.safetensors"),
            ("./a//b/.", "a/b"),
            ("...a", "...a"),
            ("a..b", "a..b"),
            (".", ""),
            ("model:0", "model:0"),
            ("ü", "ü"),
        ] {
            assert_eq!(below(name.as_bytes()), Ok(PathBuf::from(expected)), "{name}");
        }
        let deep = "a/".repeat(MAX_DEPTH + 1);
        for name in [
            "/a",
            "//a",
            "..",
            "../a",
            "a/../b",
            "a/..",
            "a\\b",
            "..\\a",
            "\\\\server\\a",
            "C:",
            "C:a",
            "c:/a",
            "a/C:/b",
            "a\0b",
            "a\nb",
            "\x1b[2J",
            "\u{9b}2J",
            "...",
            "a/.. /b",
            "a/ ",
            &deep,
        ] {
            assert!(below(name.as_bytes()).is_err(), "{name}");
        }
        assert!(below(b"a\xff").is_err());
    }

    quickcheck! {
        fn no_name_leads_out(parts: Vec<(u8, String)>) -> bool {
            let part = |(choice, text): (u8, String)| match choice % 8 {
                0 => "..".to_owned(),
                1 => ".".to_owned(),
                2 => String::new(),
                3 => "\\".to_owned(),
                4 => "C:".to_owned(),
                _ => text,
            };
            let name = parts.into_iter().map(part).collect::<Vec<_>>().join("/");
            below(name.as_bytes()).map_or(true, |path| {
                path.components().all(|component| matches!(component, Component::Normal(_)))
                    && Path::new("/base").join(&path).starts_with("/base")
            })
        }

        fn any_bytes_are_a_name_or_refused(name: Vec<u8>) -> bool {
            below(&name).map_or(true, |path| path.is_relative())
        }

        fn any_bytes_are_an_archive_or_refused(bytes: Vec<u8>) -> bool {
            let limits = UnpackLimits { files: 10, bytes: 100 };
            unpack_from(bytes.as_slice(), Path::new("no such directory"), limits, &|| Ok(())).is_err()
        }
    }
}

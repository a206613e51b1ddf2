//! Unpacks an archive that nobody vouches for.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::io_error;
use crate::error::{Error, ErrorKind, Result};

/// How a gzip file begins (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How much of an archive may lie before a member's content: a name of any sensible length, and what else is said of it.
const MAX_HEADER: u64 = 64 * 1024;

/// How much may follow the last member: zeros that fill up a block.
const MAX_END: u64 = 1024 * 1024;

/// How deep a member may lie.
const MAX_DEPTH: usize = 32;

/// How much is written at once.
const PIECE: usize = 64 * 1024;

/// The most that an archive may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// Unpacks a tar file, with gzip or without, as its first bytes tell, into a new directory. Returns the number of files.
/// `go_on` is asked now and then whether to.
pub(super) fn unpack(archive: &Path, into: &Path, limits: Limits, go_on: &dyn Fn() -> Result<()>) -> Result<u64> {
    let unreadable = |error| io_error("read", archive, error);
    let mut file = File::open(archive).map_err(unreadable)?;
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(GZIP.len() as u64).read_to_end(&mut magic).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let reader: Box<dyn Read> = if magic == GZIP {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(PIECE, file)))
    } else {
        Box::new(BufReader::with_capacity(PIECE, file))
    };
    fs::create_dir(into).map_err(|error| io_error("made", into, error))?;
    unpack_from(reader, into, limits, go_on)
}

fn unpack_from(reader: impl Read, into: &Path, limits: Limits, go_on: &dyn Fn() -> Result<()>) -> Result<u64> {
    let watch = Rc::new(Watch { allowance: Cell::new(MAX_HEADER), ended: Cell::new(false) });
    let mut archive = Archive::new(Watched { reader, watch: Rc::clone(&watch) });
    let (mut members, mut files, mut bytes) = (0_u64, 0, 0_u64);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        go_on()?;
        members += 1;
        if members > limits.files {
            let message = format!("the archive has more than {} members", limits.files);
            return Err(refused(message).with_hint("raise max_files if that is right"));
        }
        if let Some((path, kind)) = checked(&mut entry)? {
            let path = into.join(path);
            match kind {
                Kind::Directory => make(&path)?,
                Kind::File => {
                    bytes = bytes.saturating_add(entry.size());
                    if bytes > limits.bytes {
                        let message = format!("the files of the archive have more than {} bytes", limits.bytes);
                        return Err(refused(message).with_hint("raise max_bytes if that is right"));
                    }
                    watch.allowance.set(watch.allowance.get().saturating_add(entry.size()));
                    write(&mut entry, &path, go_on)?;
                    files += 1;
                }
            }
        }
        watch.allowance.set(MAX_HEADER);
    }
    if members == 0 {
        return Err(refused("the archive is empty, or not a tar file".to_owned()));
    }
    // A block of zeros ends the members. Without it, nobody knows whether there were more.
    if watch.ended.get() {
        return Err(refused("the archive breaks off between two of its members".to_owned()));
    }
    // The checksum of a gzip file is behind its content, too.
    watch.allowance.set(MAX_END);
    let (mut reader, mut piece) = (archive.into_inner(), vec![0; PIECE]);
    loop {
        match reader.read(&mut piece).map_err(damaged)? {
            0 => return Ok(files),
            read if piece[..read].iter().all(|byte| *byte == 0) => {}
            _ => return Err(refused("something follows the end of the archive".to_owned())),
        }
    }
}

fn write(entry: &mut Entry<'_, impl Read>, path: &Path, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
    let unwritable = |error| io_error("written", path, error);
    path.parent().map_or(Ok(()), make)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => twice(path),
        _ => unwritable(error),
    })?;
    let (mut piece, mut left) = (vec![0; PIECE], entry.size());
    while left > 0 {
        go_on()?;
        match entry.read(&mut piece).map_err(damaged)? {
            0 => return Err(damaged(io::ErrorKind::UnexpectedEof.into())),
            read => {
                file.write_all(&piece[..read]).map_err(unwritable)?;
                left = left.saturating_sub(read as u64);
            }
        }
    }
    file.sync_all().map_err(unwritable)
}

/// Makes a directory and those above it, where they are not there yet.
fn make(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| match error.kind() {
        // A file of the archive is in the way.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => twice(path),
        _ => io_error("made", path, error),
    })
}

fn twice(path: &Path) -> Error {
    let name = path.file_name().unwrap_or_default();
    refused(format!("the archive has {name:?} twice, or as a file and as a directory"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// Where a member goes below the directory, and what it is; none for one that is no file.
fn checked(entry: &mut Entry<'_, impl Read>) -> Result<Option<(PathBuf, Kind)>> {
    for word in entry.pax_extensions().map_err(damaged)?.into_iter().flatten() {
        if word.map_err(damaged)?.key_bytes().starts_with(b"GNU.sparse") {
            return Err(refused("the archive has a file with holes, which only GNU tar can unpack".to_owned()));
        }
    }
    let name = entry.path_bytes();
    let kind = match entry.header().entry_type() {
        // Words about all that follows.
        EntryType::XGlobalHeader => return Ok(None),
        EntryType::Regular if !name.ends_with(b"/") => Kind::File,
        EntryType::Directory | EntryType::Regular => Kind::Directory,
        other => {
            let shown = String::from_utf8_lossy(&name).into_owned();
            return Err(refused(format!(
                "the member {shown:?} of the archive is neither file nor directory but {other:?}"
            )));
        }
    };
    let path = below(&name).map_err(|why| {
        let shown = String::from_utf8_lossy(&name).into_owned();
        refused(format!("the member {shown:?} of the archive {why}"))
    })?;
    match (path.as_os_str().is_empty(), kind) {
        (true, Kind::Directory) => Ok(None),
        (true, Kind::File) => Err(refused("a file of the archive has no name".to_owned())),
        (false, kind) => Ok(Some((path, kind))),
    }
}

/// The path of a member of this name, which stays below the directory that it is joined to, on any system; or what is wrong
/// with the name.
fn below(name: &[u8]) -> Result<PathBuf, &'static str> {
    let name = std::str::from_utf8(name).map_err(|_| "has a name that is not UTF-8")?;
    if name.starts_with('/') {
        return Err("has an absolute path");
    }
    if name.contains(|letter: char| letter == '\\' || letter.is_control()) {
        return Err("has a backslash or a control character in its name");
    }
    let mut path = PathBuf::new();
    for (depth, part) in name.split('/').filter(|part| !matches!(*part, "" | ".")).enumerate() {
        let mut letters = part.bytes();
        match (part, letters.next(), letters.next()) {
            ("..", ..) => return Err("leads out of the directory"),
            // Windows cuts those off at the end of a name.
            _ if part.trim_end_matches(['.', ' ']).is_empty() => return Err("has a name of dots and spaces alone"),
            (_, Some(letter), Some(b':')) if letter.is_ascii_alphabetic() => return Err("names a drive"),
            _ if depth >= MAX_DEPTH => return Err("lies too deep"),
            _ => path.push(part),
        }
    }
    Ok(path)
}

/// A reader that gives no more than it is allowed to. What the tar reader keeps in memory lies between the files, so this
/// bounds that, too.
struct Watched<R> {
    reader: R,
    watch: Rc<Watch>,
}

/// What is seen of a reader while the tar reader has it.
struct Watch {
    /// How much it may still give.
    allowance: Cell<u64>,
    /// It has no more.
    ended: Cell<bool>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.watch.ended.set(read == 0 && !buffer.is_empty());
        let left = self.watch.allowance.get().checked_sub(read as u64);
        self.watch.allowance.set(left.ok_or_else(|| io::Error::other("there is too much between two files"))?);
        Ok(read)
    }
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::Decode, message)
}

fn damaged(error: io::Error) -> Error {
    Error::new(ErrorKind::Decode, "the archive is damaged, or no tar file with or without gzip").with_source(error)
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
            // What is refused so early leaves nothing behind but an empty directory.
            let limits = Limits { files: 10, bytes: 100 };
            unpack_from(bytes.as_slice(), Path::new("no such directory"), limits, &|| Ok(())).is_err()
        }
    }
}

//! The data file: read once from its beginning to its end, for its lines and its digest, and then one line at a time. In memory is
//! only where each line is. Lines are counted from 0, without those that are empty, except in messages.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::bad_lines::BadLines;
use crate::failure::Failure;
use crate::screen::Progress;

const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();
const UTF_16: [&[u8]; 2] = [b"\xFF\xFE", b"\xFE\xFF"];

/// Where a line is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// In bytes, from the beginning of the file.
    start: u64,
    length: u32,
    /// Line number, from 1.
    number: u32,
}

#[derive(Debug)]
enum Source {
    File {
        file: File,
        size: u64,
        modified: Option<SystemTime>,
    },
    /// What cannot be read twice, such as a pipe.
    Memory(Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct DataFile {
    name: String,
    source: Source,
    spans: Vec<Span>,
    sha256: String,
}

impl DataFile {
    /// Reads a file, and passes each line that is not empty to `visit`. Some editors write a byte order mark, and some end lines
    /// with CR LF: both are left out.
    ///
    /// The error names the invalid lines: `NAME:LINE: what is wrong`.
    pub(crate) fn read(
        path: &Path,
        bar: &Progress,
        mut visit: impl FnMut(usize, &str) -> Result<(), String>,
    ) -> Result<DataFile, Failure> {
        let name = path.display().to_string();
        let unreadable = |error: io::Error| Failure::usage(format!("cannot read {name}: {error}"));
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let (source, scan) = if metadata.is_file() {
            bar.set_total(metadata.len());
            let scan = scan(BufReader::with_capacity(1 << 16, &file), &name, bar, &mut visit)?;
            (Source::File { size: metadata.len(), modified: metadata.modified().ok(), file }, scan)
        } else {
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(unreadable)?;
            let scan = scan(content.as_slice(), &name, bar, &mut visit)?;
            (Source::Memory(content), scan)
        };
        let (spans, sha256) = scan;
        Ok(DataFile { name, source, spans, sha256 })
    }

    /// SHA-256 of the whole file, in hexadecimal.
    pub(crate) fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Number of lines.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The length of a line in bytes.
    pub(crate) fn line_bytes(&self, line: u32) -> usize {
        self.span(line).map_or(0, |span| span.length as usize)
    }

    /// `NAME:LINE` of a line.
    pub(crate) fn place(&self, line: u32) -> String {
        format!("{}:{}", self.name, self.span(line).map_or(0, |span| span.number))
    }

    /// The text of a line.
    pub(crate) fn line(&self, line: u32) -> Result<String, Failure> {
        let span = self.span(line).ok_or_else(|| self.changed())?;
        let length = span.length as usize;
        let text = match &self.source {
            Source::Memory(content) => {
                let start = usize::try_from(span.start).unwrap_or(usize::MAX);
                content.get(start..start.saturating_add(length)).map(<[u8]>::to_vec).ok_or_else(|| self.changed())?
            }
            Source::File { file, .. } => {
                let read = |mut file: &File| -> io::Result<(Metadata, Vec<u8>)> {
                    let mut text = vec![0; length];
                    file.seek(SeekFrom::Start(span.start))?;
                    file.read_exact(&mut text)?;
                    Ok((file.metadata()?, text))
                };
                let (metadata, text) = read(file).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => self.changed(),
                    _ => Failure::failed(format!("cannot read {}: {error}", self.name)),
                })?;
                if !self.is_unchanged(&metadata) {
                    return Err(self.changed());
                }
                text
            }
        };
        String::from_utf8(text).map_err(|_| self.changed())
    }

    fn span(&self, line: u32) -> Option<Span> {
        self.spans.get(line as usize).copied()
    }

    fn is_unchanged(&self, now: &Metadata) -> bool {
        match &self.source {
            Source::File { size, modified, .. } => (*size, *modified) == (now.len(), now.modified().ok()),
            Source::Memory(_) => true,
        }
    }

    /// The error for a file that is no longer the one that was read.
    pub(crate) fn changed(&self) -> Failure {
        Failure::failed(format!("{} was changed while it was in use", self.name))
            .hint("restore it, and train on a copy that nothing writes to")
    }
}

/// Finds the lines that are not empty, and the digest of the whole.
fn scan(
    mut reader: impl BufRead,
    name: &str,
    bar: &Progress,
    visit: &mut impl FnMut(usize, &str) -> Result<(), String>,
) -> Result<(Vec<Span>, String), Failure> {
    let (mut digest, mut spans, mut line, mut bad) = (Sha256::new(), Vec::new(), Vec::new(), BadLines::default());
    let (mut next, mut number) = (0_u64, 0_u32);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line);
        let read = read.map_err(|error| Failure::usage(format!("cannot read {name}: {error}")))?;
        if read == 0 {
            break;
        }
        digest.update(&line);
        bar.add(read as u64);
        let start = next;
        next += read as u64;
        number = number.saturating_add(1);
        if start == 0 && UTF_16.iter().any(|mark| line.starts_with(mark)) {
            return Err(Failure::usage(format!("{name} is in UTF-16")).hint("save it as UTF-8"));
        }
        let has_mark = start == 0 && line.starts_with(BYTE_ORDER_MARK);
        let text = if has_mark { &line[BYTE_ORDER_MARK.len()..] } else { &line };
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let skipped = text.as_ptr() as usize - line.as_ptr() as usize;
        let length = u32::try_from(text.len()).map_err(|_| "the line has more than 4 GiB".to_owned());
        let read = length.and_then(|length| {
            let text = std::str::from_utf8(text)
                .map_err(|error| format!("not UTF-8 text (byte {} of the line)", skipped + error.valid_up_to() + 1))?;
            visit(number as usize, text).map(|()| length)
        });
        match read {
            Ok(length) => spans.push(Span { start: start + skipped as u64, length, number }),
            Err(why) => bad.add(|| format!("{name}:{number}: {why}")),
        }
    }
    bad.check()?;
    spans.shrink_to_fit();
    Ok((spans, digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn written(content: &[u8]) -> (TempDir, std::path::PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("data.jsonl");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    fn read(path: &Path) -> Result<(DataFile, Vec<(usize, String)>), Failure> {
        let mut lines = Vec::new();
        let file = DataFile::read(path, &Progress::hidden(), |number, line| {
            lines.push((number, line.to_owned()));
            if line == "bad" { Err("is bad".to_owned()) } else { Ok(()) }
        })?;
        Ok((file, lines))
    }

    #[test]
    fn lines_are_found_again() {
        let (_folder, path) = written("\u{FEFF}é\r\n\n \t\r\n b \n\u{FEFF}x\nlast".as_bytes());
        let (file, lines) = read(&path).unwrap();
        let numbered: Vec<(usize, &str)> = lines.iter().map(|(number, line)| (*number, line.as_str())).collect();
        assert_eq!(numbered, [(1, "é"), (4, "b"), (5, "\u{FEFF}x"), (6, "last")]);
        for (example, (number, line)) in (0..).zip(&lines) {
            assert_eq!(&file.line(example).unwrap(), line);
            assert!(file.place(example).ends_with(&format!("data.jsonl:{number}")));
            assert_eq!(file.line_bytes(example), line.len());
        }
        assert_eq!(file.len(), 4);
        let digest = Sha256::digest(fs::read(&path).unwrap());
        assert_eq!(file.sha256(), digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    }

    #[test]
    fn an_invalid_line_is_named() {
        for (content, why) in [
            (b"ok\nbad\n".as_slice(), "data.jsonl:2: is bad"),
            (b"ok\n a\xFFb\n", "data.jsonl:2: not UTF-8 text (byte 3 of the line)"),
            (b"\xFF\xFEx\0", "data.jsonl is in UTF-16"),
        ] {
            let (_folder, path) = written(content);
            let failure = read(&path).unwrap_err();
            assert!(failure.message().ends_with(why), "{failure:?}");
        }
    }

    #[test]
    fn a_file_that_changes_is_an_error() {
        let (_folder, path) = written(b"one\ntwo\n");
        let (file, _) = read(&path).unwrap();
        fs::write(&path, b"one\n").unwrap();
        for example in [0, 1] {
            assert!(file.line(example).unwrap_err().message().ends_with("was changed while it was in use"));
        }
    }
}

//! A file of lines of JSON.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::write_atomically;
use crate::rules::json_numbers;

/// A file to which entries are added as lines of JSON: the metrics of each step, or the checkpoints of a run.
///
/// A program that was killed may have left a part of a line at the end, and a full disk a part of one as well. Such a part is never
/// read, and the next entry takes its place. One writer at a time. Numbers that JSON does not have, NaN and infinities, are written
/// as null; where an entry has a float, null is read as NaN, and so is the word that Python writes.
///
/// ```
/// use tinkex::serde::{Deserialize, Serialize};
/// use tinkex::toolkit::JsonLines;
///
/// #[derive(Serialize, Deserialize)]
/// struct Metrics {
///     step: u64,
///     loss: f64,
/// }
///
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("run-1/metrics.jsonl");
/// let mut metrics = JsonLines::open(&file)?;
/// for (step, loss) in [(1, 2.5), (2, 1.5), (3, 1.25)] {
///     metrics.push(&Metrics { step, loss })?;
/// }
/// assert_eq!(std::fs::read_to_string(&file)?.lines().next(), Some(r#"{"step":1,"loss":2.5}"#));
///
/// // Resumed from step 2: what came after it is dropped.
/// metrics.retain(|line| line.step <= 2)?;
/// assert_eq!(metrics.last()?.map(|line| line.loss), Some(1.5));
/// assert_eq!(metrics.read()?.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct JsonLines<T> {
    path: PathBuf,
    /// The length of the whole lines.
    end: u64,
    /// Whether the last of them lacks its line break.
    is_open_ended: bool,
    entry: PhantomData<fn(&T) -> T>,
}

impl<T> JsonLines<T> {
    /// The file at this path, with the entries that it has. It need not exist: the first entry creates it, and its directory.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the file exists and cannot be read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let (end, is_open_ended) = match File::open(&path).and_then(|file| whole_lines(BufReader::new(file))) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, false),
            Err(error) => return Err(failed("read", &path, error)),
        };
        Ok(JsonLines { path, end, is_open_ended, entry: PhantomData })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl<T: Serialize> JsonLines<T> {
    /// Adds an entry at the end of the file. If that fails, the file keeps the entries that it had.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the file cannot be written, [`InvalidInput`](ErrorKind::InvalidInput) for an entry that has no form in
    /// JSON, such as a map whose keys are not texts.
    pub fn push(&mut self, entry: &T) -> Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(|error| {
            Error::invalid_input(format!("the entry for {} has no form in JSON: {error}", self.path.display()))
        })?;
        line.push(b'\n');
        self.append(line).map_err(|error| failed("write", &self.path, error))
    }

    /// Opens the file each time, since it may be gone, or have got other entries meanwhile.
    fn append(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&self.path)?;
        if file.metadata()?.len() != self.end {
            (self.end, self.is_open_ended) = whole_lines(BufReader::new(&file))?;
            file.set_len(self.end)?;
        }
        if self.is_open_ended {
            line.insert(0, b'\n');
        }
        file.seek(SeekFrom::Start(self.end))?;
        if let Err(error) = file.write_all(&line) {
            // Should that fail as well, the next entry or the next reader drops the part.
            file.set_len(self.end).ok();
            return Err(error);
        }
        self.end += line.len() as u64;
        self.is_open_ended = false;
        Ok(())
    }
}

impl<T: DeserializeOwned> JsonLines<T> {
    /// All entries. They are read from the file each time.
    ///
    /// # Errors
    ///
    /// [`Io`](ErrorKind::Io) if the file cannot be read, [`InvalidInput`](ErrorKind::InvalidInput) for a line that is not such an entry:
    /// the error names the file and the line.
    pub fn read(&self) -> Result<Vec<T>> {
        Ok(self.lines()?.into_iter().map(|(_, entry)| entry).collect())
    }

    /// The last entry, if there is one.
    ///
    /// # Errors
    ///
    /// As [`read`](JsonLines::read).
    pub fn last(&self) -> Result<Option<T>> {
        Ok(self.lines()?.pop().map(|(_, entry)| entry))
    }

    /// Drops the entries for which `keep` returns false. The others stay as they are written; the file changes at once or not at
    /// all.
    ///
    /// # Errors
    ///
    /// As [`read`](JsonLines::read), and [`Io`](ErrorKind::Io) if the file cannot be written.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) -> Result<()> {
        let mut kept = Vec::new();
        for (line, _) in self.lines()?.into_iter().filter(|(_, entry)| keep(entry)) {
            kept.extend(line);
            kept.push(b'\n');
        }
        write_atomically(&self.path, &kept).map_err(|error| failed("write", &self.path, error))?;
        (self.end, self.is_open_ended) = (kept.len() as u64, false);
        Ok(())
    }

    fn lines(&self) -> Result<Vec<(Vec<u8>, T)>> {
        let mut text = Vec::new();
        let read =
            File::open(&self.path).and_then(|mut file| file.read_to_end(&mut text)).and_then(|_| whole_lines(&*text));
        match read {
            Ok((end, _)) => text.truncate(usize::try_from(end).unwrap_or(text.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", &self.path, error)),
        }
        let lines = text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
        let parse = |(index, line): (usize, &[u8])| {
            let entry = json_numbers::read_with_null(line).map_err(|error| {
                Error::invalid_input(format!("{}:{}: {}", self.path.display(), index + 1, without_line(&error)))
                    .with_hint("mend or remove this line")
            })?;
            Ok((line.to_vec(), entry))
        };
        lines.map(parse).collect()
    }
}

/// The length of the whole lines, and whether the last of them is whole but for its line break.
fn whole_lines(mut reader: impl BufRead) -> io::Result<(u64, bool)> {
    let (mut end, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        if line.ends_with(b"\n") {
            end += length;
            continue;
        }
        let is_whole = json_numbers::read_with_null::<serde::de::IgnoredAny>(&line).is_ok();
        return Ok(if is_whole { (end + length, true) } else { (end, false) });
    }
}

/// What is wrong with a line, without the number that serde_json counts within it.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot {what} {}: {error}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    fn written(text: &str) -> (TempDir, JsonLines<Value>) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("lines.jsonl");
        fs::write(&path, text).unwrap();
        (directory, JsonLines::open(path).unwrap())
    }

    fn text(lines: &JsonLines<Value>) -> String {
        fs::read_to_string(lines.path()).unwrap()
    }

    #[test]
    fn an_entry_replaces_a_part_of_one() {
        for (before, after) in [
            ("", "7\n"),
            ("1\n2\n", "1\n2\n7\n"),
            ("1\n2", "1\n2\n7\n"),
            ("1\n{\"step\":", "1\n7\n"),
            ("{\"step\":", "7\n"),
            ("1\n\n", "1\n\n7\n"),
        ] {
            let (_directory, mut lines) = written(before);
            let entries = lines.read().unwrap().len();
            lines.push(&json!(7)).unwrap();
            assert_eq!(text(&lines), after, "{before:?}");
            assert_eq!((lines.read().unwrap().len(), lines.last().unwrap()), (entries + 1, Some(json!(7))));
        }
    }

    #[test]
    fn a_file_that_is_removed_begins_anew() {
        let (_directory, mut lines) = written("1\n2\n");
        lines.push(&json!(3)).unwrap();
        fs::remove_file(lines.path()).unwrap();
        lines.push(&json!(4)).unwrap();
        assert_eq!(text(&lines), "4\n");
    }

    #[test]
    fn entries_of_others_are_read_and_kept() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("lines.jsonl");
        let reader = JsonLines::<Value>::open(&path).unwrap();
        let (mut one, mut two) = (JsonLines::open(&path).unwrap(), JsonLines::open(&path).unwrap());
        one.push(&json!(1)).unwrap();
        assert_eq!(reader.last().unwrap(), Some(json!(1)));
        two.push(&json!(2)).unwrap();
        one.push(&json!(3)).unwrap();
        fs::write(&path, text(&one) + "4\n{\"st").unwrap();
        assert_eq!(reader.last().unwrap(), Some(json!(4)));
        two.push(&json!(5)).unwrap();
        assert_eq!(text(&two), "1\n2\n3\n4\n5\n");
        assert_eq!(reader.read().unwrap().len(), 5);
    }

    #[test]
    fn a_missing_file_is_empty_until_an_entry() {
        let directory = TempDir::new().unwrap();
        let mut lines = JsonLines::open(directory.path().join("new/lines.jsonl")).unwrap();
        assert_eq!((lines.read().unwrap().len(), lines.last().unwrap()), (0, None));
        assert!(!lines.path().exists());
        lines.push(&json!({"loss": f64::NAN})).unwrap();
        assert_eq!(text(&lines), "{\"loss\":null}\n");
    }

    #[test]
    fn a_number_that_is_not_finite_comes_back() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Metrics {
            step: u64,
            loss: f64,
            reward: Option<f32>,
        }
        let directory = TempDir::new().unwrap();
        let mut lines = JsonLines::open(directory.path().join("metrics.jsonl")).unwrap();
        lines.push(&Metrics { step: 1, loss: f64::NAN, reward: None }).unwrap();
        lines.push(&Metrics { step: 2, loss: 0.5, reward: Some(1.0) }).unwrap();
        lines.push(&Metrics { step: 3, loss: f64::INFINITY, reward: None }).unwrap();
        lines.retain(|line| line.step != 2).unwrap();
        let read = lines.read().unwrap();
        assert!(read.len() == 2 && read.iter().all(|line| line.loss.is_nan() && line.reward.is_none()));
        let (_directory, python) = written("{\"loss\": NaN}\n");
        let python = JsonLines::<std::collections::BTreeMap<String, f64>>::open(python.path()).unwrap();
        assert!(python.last().unwrap().unwrap()["loss"].is_nan());
    }

    #[test]
    fn kept_entries_stay_as_they_are() {
        let (_directory, mut lines) = written("{\"step\": 1, \"more\": 0}\n{\"step\":2}\n{\"st");
        lines.retain(|line| line["step"] != 2).unwrap();
        assert_eq!(text(&lines), "{\"step\": 1, \"more\": 0}\n");
        lines.push(&json!({"step": 3})).unwrap();
        assert_eq!(text(&lines), "{\"step\": 1, \"more\": 0}\n{\"step\":3}\n");
    }

    #[test]
    fn a_broken_line_is_named() {
        let (_directory, lines) = written("1\n{\"step\":\n3\n");
        let error = lines.read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("lines.jsonl:2: EOF while parsing a value; mend"), "{error}");
        let directory = TempDir::new().unwrap();
        let error = JsonLines::<Value>::open(directory.path()).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.to_string().starts_with("cannot read /"), "{error}");
        let blocked = directory.path().join("blocked.jsonl");
        let mut lines = JsonLines::open(&blocked).unwrap();
        fs::create_dir(&blocked).unwrap();
        let error = lines.push(&json!(1)).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /") && error.contains("blocked.jsonl: "), "{error}");
    }
}

//! The data file, as it is read before anything else: its lines, which of them it holds out, and keys that need a word.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use log::warn;

use super::data_file::DataFile;
use super::dataset::{self, ChatOptions, Content};
use crate::failure::Failure;
use crate::human;
use crate::screen::{self, Status, Unit};

/// Reading a file of this size takes a while, which is said if there is no progress bar to show it.
const LARGE_FILE: u64 = 100_000_000;
/// How many unknown keys of the data file are named.
const MAX_NAMED_KEYS: usize = 20;

/// What the data file has.
#[derive(Debug)]
pub(super) struct TrainingData {
    pub(super) file: DataFile,
    /// For each line, whether the file holds it out for evaluation.
    pub(super) held_out: Vec<bool>,
    /// Whether there are conversations.
    pub(super) has_chats: bool,
    /// Keys that mean something only if the template reads them.
    pub(super) template_keys: Keys,
}

/// Keys, each with the number of the first line that has it.
#[derive(Debug, Default)]
pub(super) struct Keys(BTreeMap<String, usize>);

impl Keys {
    fn add(&mut self, keys: Vec<String>, line: usize) {
        for key in keys {
            if self.0.len() < MAX_NAMED_KEYS {
                self.0.entry(key).or_insert(line);
            }
        }
    }

    /// Names those that nothing reads.
    pub(super) fn warn(&self, file: &Path, is_read: impl Fn(&str) -> bool) {
        let unread = self.0.iter().filter(|(key, _)| !is_read(key));
        let keys: Vec<String> = unread.map(|(key, line)| format!("{key:?} (line {line})")).collect();
        if !keys.is_empty() {
            warn!("{}: these keys have no meaning here: {}", file.display(), keys.join(", "));
        }
    }
}

impl TrainingData {
    /// Reads the file.
    pub(super) fn read(path: &Path, options: &ChatOptions) -> Result<TrainingData, Failure> {
        let name = path.display();
        let (mut held_out, mut has_chats, mut template_keys, mut unknown_keys) =
            (Vec::new(), false, Keys::default(), Keys::default());
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        if bytes >= LARGE_FILE && !screen::is_terminal() {
            let size = human::size(Some(bytes));
            screen::line(format_args!("reading {name} ({size}), to check its lines and their lengths"));
        }
        let bar = screen::start(Status { unit: Unit::Bytes, done: Some(0), ..Status::default() });
        let file = DataFile::read(path, &bar, |number, line| {
            let example = dataset::parse(line, options)?;
            held_out.push(example.held_out);
            has_chats |= matches!(example.content, Content::Chat { .. });
            template_keys.add(example.template_keys, number);
            unknown_keys.add(example.unknown_keys, number);
            Ok(())
        });
        drop(bar);
        let file = file?;
        if file.len() == 0 {
            let expected = dataset::EXPECTED;
            return Err(Failure::usage(format!("{name} contains no examples; {expected} on each line")));
        }
        unknown_keys.warn(path, |_| false);
        Ok(TrainingData { file, held_out, has_chats, template_keys })
    }
}

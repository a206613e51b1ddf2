//! What a run leaves in its directory, and how it is taken up again.
//!
//! | file | what it has |
//! |---|---|
//! | `run.json` | what the order of the examples follows from, so that no run goes on with another one's |
//! | `metrics.jsonl` | a line for each step |
//! | `checkpoints.jsonl` | a line for each checkpoint: its step and path |
//! | `loss.svg` | the loss curve |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::chart;
use crate::errors::Failure;

const SETTINGS: &str = "run.json";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints.jsonl";
const CHART: &str = "loss.svg";

/// What must be the same when a run goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The SHA-256 of the examples, in hexadecimal.
    pub(crate) data_sha256: String,
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
    pub(crate) eval_fraction: f64,
    /// The one of `--tokenizer`, which makes other tokens of the same text.
    #[serde(default)]
    pub(crate) tokenizer: Option<String>,
}

impl Settings {
    /// The first thing that differs, and its value then and now.
    fn difference(&self, now: &Settings) -> Option<String> {
        let differs = |name: &str, then: String, now: String| {
            (then != now).then(|| format!("{name} was {then} when the run began, and now is {now}"))
        };
        differs("the content of the data (SHA-256)", self.data_sha256.clone(), now.data_sha256.clone())
            .or_else(|| differs("--batch-size", self.batch_size.to_string(), now.batch_size.to_string()))
            .or_else(|| differs("--seed", self.seed.to_string(), now.seed.to_string()))
            .or_else(|| differs("--eval-fraction", self.eval_fraction.to_string(), now.eval_fraction.to_string()))
            .or_else(|| {
                let shown = |choice: &Option<String>| choice.clone().unwrap_or_else(|| "the model's".to_owned());
                differs("--tokenizer", shown(&self.tokenizer), shown(&now.tokenizer))
            })
    }
}

/// A step, as a line of `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Metrics {
    /// From 1.
    pub(crate) step: u64,
    /// Nats per token that is learned, before the step's update.
    pub(crate) loss: f64,
    /// The same over all that is kept for evaluation, after the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) eval_loss: Option<f64>,
    pub(crate) learning_rate: f64,
    /// Tokens of the batch, learned or only read.
    pub(crate) tokens: u64,
    pub(crate) learned_tokens: u64,
    pub(crate) tokens_per_second: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) step: u64,
    /// `tinker://RUN/weights/NAME`.
    pub(crate) path: String,
}

/// Which checkpoint `--resume` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resume {
    Latest,
    Path(String),
}

impl std::str::FromStr for Resume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(Resume::Latest),
            path if path.starts_with("tinker://") => Ok(Resume::Path(path.to_owned())),
            _ => Err("expected `latest` or the tinker:// path of a checkpoint".to_owned()),
        }
    }
}

/// The directory of a run.
#[derive(Debug)]
pub(crate) struct Record {
    directory: PathBuf,
    settings: Settings,
    metrics: Vec<Metrics>,
    checkpoints: Vec<Checkpoint>,
}

impl Record {
    /// A run that begins, in a directory without a step of another. Nothing is written yet.
    pub(crate) fn new(directory: &Path, settings: Settings) -> Result<Record, Failure> {
        let has = |name: &str| fs::metadata(directory.join(name)).is_ok_and(|file| file.len() > 0);
        if has(METRICS) || has(CHECKPOINTS) {
            let anew = "name another directory with --output, or delete this one";
            let hint = match has(CHECKPOINTS) {
                true => format!("go on with it by --resume latest, {anew}"),
                false => format!("it has no checkpoint to go on from: {anew}"),
            };
            return Err(Failure::usage(format!("{} already has a run", directory.display())).hint(hint));
        }
        Ok(Record { directory: directory.to_owned(), settings, metrics: Vec::new(), checkpoints: Vec::new() })
    }

    /// A run that goes on from a checkpoint, which is returned. Steps after it are forgotten. Nothing is written yet.
    pub(crate) fn resume(
        directory: &Path,
        settings: Settings,
        resume: &Resume,
    ) -> Result<(Record, Checkpoint), Failure> {
        let shown = directory.display();
        let read = |name: &str| fs::read(directory.join(name)).unwrap_or_default();
        let began: Option<Settings> = serde_json::from_slice(&read(SETTINGS)).ok();
        if let Some(difference) = began.as_ref().and_then(|began| began.difference(&settings)) {
            return Err(Failure::usage(difference).hint("use what it was, or begin another run with another --output"));
        }
        let mut metrics: Vec<Metrics> = lines(&read(METRICS));
        let mut checkpoints: Vec<Checkpoint> = lines(&read(CHECKPOINTS));
        let from = match resume {
            Resume::Latest => checkpoints.last().cloned().ok_or_else(|| {
                Failure::usage(format!("{shown} has no checkpoint to go on from"))
                    .hint("name the directory with --output, or the checkpoint with --resume tinker://RUN/weights/NAME")
            })?,
            Resume::Path(path) => {
                let noted = checkpoints.iter().find(|checkpoint| checkpoint.path == *path).cloned();
                let named = || Some(Checkpoint { step: step_in(path)?, path: path.clone() });
                noted.or_else(named).ok_or_else(|| {
                    Failure::usage(format!("the step of {path} is not known")).hint(
                        "its name must end with the number of the step, such as run-000100, or be in checkpoints.jsonl",
                    )
                })?
            }
        };
        metrics.retain(|line| line.step <= from.step);
        checkpoints.retain(|checkpoint| checkpoint.step <= from.step);
        Ok((Record { directory: directory.to_owned(), settings, metrics, checkpoints }, from))
    }

    /// Makes the directory what the run begins with.
    pub(crate) fn open(&self) -> Result<(), Failure> {
        let place = |name: &str| self.directory.join(name);
        let settings =
            || -> io::Result<Vec<u8>> { Ok([serde_json::to_vec_pretty(&self.settings)?, b"\n".to_vec()].concat()) };
        fs::create_dir_all(&self.directory)
            .and_then(|()| replace(&place(SETTINGS), &settings()?))
            .and_then(|()| replace(&place(METRICS), &written(&self.metrics)?))
            .and_then(|()| replace(&place(CHECKPOINTS), &written(&self.checkpoints)?))
            .map_err(|error| not_written(&self.directory, &error))
    }

    pub(crate) fn add_metrics(&mut self, line: Metrics) -> Result<(), Failure> {
        self.append(METRICS, &line)?;
        self.metrics.push(line);
        Ok(())
    }

    pub(crate) fn add_checkpoint(&mut self, checkpoint: Checkpoint) -> Result<(), Failure> {
        self.append(CHECKPOINTS, &checkpoint)?;
        self.checkpoints.push(checkpoint);
        Ok(())
    }

    fn append<T: Serialize>(&self, name: &str, line: &T) -> Result<(), Failure> {
        let file = self.directory.join(name);
        written(std::slice::from_ref(line))
            .and_then(|line| OpenOptions::new().create(true).append(true).open(&file)?.write_all(&line))
            .map_err(|error| not_written(&file, &error))
    }

    /// Draws the loss curve anew.
    pub(crate) fn draw(&self, title: &str) -> Result<(), Failure> {
        let file = self.chart_file();
        replace(&file, chart::svg(title, &self.metrics).as_bytes()).map_err(|error| not_written(&file, &error))
    }

    /// The step that was made last, with what is known of it.
    pub(crate) fn last(&self) -> Option<&Metrics> {
        self.metrics.last()
    }

    /// The newest checkpoint.
    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoints.last()
    }

    pub(crate) fn metrics_file(&self) -> PathBuf {
        self.directory.join(METRICS)
    }

    pub(crate) fn chart_file(&self) -> PathBuf {
        self.directory.join(CHART)
    }
}

/// The step at the end of a checkpoint's name.
fn step_in(path: &str) -> Option<u64> {
    path.rsplit_once('-').and_then(|(_, step)| step.parse().ok())
}

/// The name of a checkpoint, from which [its step](step_in) can be read.
pub(crate) fn checkpoint_name(run: &str, step: u64) -> String {
    format!("{run}-{step:06}")
}

/// The lines up to the first that is damaged: a run that was killed may have left half of one.
fn lines<T: DeserializeOwned>(text: &[u8]) -> Vec<T> {
    text.split(|byte| *byte == b'\n').map_while(|line| serde_json::from_slice(line).ok()).collect()
}

fn written<T: Serialize>(lines: &[T]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text)
}

/// Writes a file under another name first: whoever reads it meanwhile sees the old one or the new one.
fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = file.with_extension("part");
    let replaced = File::create(&unfinished)
        .and_then(|mut part| part.write_all(content))
        .and_then(|()| fs::rename(&unfinished, file));
    if replaced.is_err() {
        fs::remove_file(&unfinished).ok();
    }
    replaced
}

fn not_written(place: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{} cannot be written: {error}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            Folder(std::env::temp_dir().join(format!("tinkex-record-{:016x}", fastrand::u64(..))))
        }

        fn text(&self, name: &str) -> String {
            fs::read_to_string(self.0.join(name)).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn settings() -> Settings {
        Settings { data_sha256: "ab".to_owned(), batch_size: 4, seed: 1, eval_fraction: 0.0, tokenizer: None }
    }

    fn begun(folder: &Folder) -> Record {
        let mut record = Record::new(&folder.0, settings()).unwrap();
        record.open().unwrap();
        for step in 1..=5 {
            record.add_metrics(Metrics { step, loss: 1.0 / step as f64, ..Metrics::default() }).unwrap();
            if step % 2 == 0 {
                let path = format!("tinker://r/weights/{}", checkpoint_name("run", step));
                record.add_checkpoint(Checkpoint { step, path }).unwrap();
            }
        }
        record
    }

    #[test]
    fn a_run_goes_on_from_its_newest_checkpoint_without_the_steps_after_it() {
        let folder = Folder::new();
        begun(&folder);
        // As a killed run leaves it.
        fs::write(folder.0.join(METRICS), folder.text(METRICS) + "{\"step\":6,\"lo").unwrap();
        let (mut record, from) = Record::resume(&folder.0, settings(), &Resume::Latest).unwrap();
        assert_eq!(folder.text(METRICS).lines().count(), 6);
        record.open().unwrap();
        assert_eq!((from.step, from.path.as_str()), (4, "tinker://r/weights/run-000004"));
        assert_eq!(folder.text(METRICS).lines().count(), 4);
        record.add_metrics(Metrics { step: 5, loss: 0.2, ..Metrics::default() }).unwrap();
        let steps: Vec<u64> = lines::<Metrics>(folder.text(METRICS).as_bytes()).iter().map(|line| line.step).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_run_goes_on_from_a_path_by_its_note_or_its_name() {
        let folder = Folder::new();
        begun(&folder);
        let resume = |path: &str| Record::resume(&folder.0, settings(), &path.parse().unwrap());
        assert_eq!(resume("tinker://r/weights/run-000002").unwrap().1.step, 2);
        assert_eq!(resume("tinker://other/weights/x-17").unwrap().1.step, 17);
        assert!(resume("tinker://other/weights/final").unwrap_err().message().contains("not known"));
        assert!("weights/x".parse::<Resume>().is_err());
    }

    #[test]
    fn one_run_never_overwrites_or_goes_on_with_another() {
        let folder = Folder::new();
        begun(&folder);
        assert!(Record::new(&folder.0, settings()).unwrap_err().message().contains("already has a run"));
        for (other, what) in [
            (Settings { seed: 2, ..settings() }, "--seed was 1"),
            (Settings { batch_size: 8, ..settings() }, "--batch-size was 4"),
            (Settings { data_sha256: "cd".to_owned(), ..settings() }, "the content of the data"),
            (Settings { eval_fraction: 0.5, ..settings() }, "--eval-fraction was 0"),
            (Settings { tokenizer: Some("bytes".to_owned()), ..settings() }, "--tokenizer was the model's"),
        ] {
            let failure = Record::resume(&folder.0, other, &Resume::Latest).unwrap_err();
            assert!(failure.message().contains(what), "{failure:?}");
        }
        let empty = Folder::new();
        let failure = Record::resume(&empty.0, settings(), &Resume::Latest).unwrap_err();
        assert!(failure.message().contains("no checkpoint"), "{failure:?}");
    }
}

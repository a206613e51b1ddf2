//! The directory of a run, and how a run is resumed from it.
//!
//! | file | contents |
//! |---|---|
//! | `run.json` | the settings that the order of the examples depends on: a resumed run must have the same |
//! | `metrics.jsonl` | one line per step |
//! | `checkpoints.jsonl` | one line per checkpoint: its step and path |
//! | `loss.svg` | the loss curve |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tinkex::fs::write_atomically;
use tinkex::toolkit::{JsonLines, SavedCheckpoint};

use super::chart;
use super::examples::TooLong;
use super::step_metrics::Metrics;
use crate::failure::Failure;

const SETTINGS: &str = "run.json";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints.jsonl";
const CHART: &str = "loss.svg";

/// The settings that must be the same when a run is resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunSettings {
    /// SHA-256 of the data file, in hexadecimal.
    pub(crate) data_sha256: String,
    pub(crate) batch_size: usize,
    pub(crate) seed: u64,
    pub(crate) eval_fraction: f64,
    /// The value of `--tokenizer`.
    #[serde(default)]
    pub(crate) tokenizer: Option<String>,
    /// The value of `--max-length`.
    #[serde(default)]
    pub(crate) max_length: Option<usize>,
    #[serde(default)]
    pub(crate) too_long: TooLong,
}

impl RunSettings {
    /// Describes the first setting that differs.
    fn difference(&self, now: &RunSettings) -> Option<String> {
        let differs = |name: &str, then: String, now: String| {
            (then != now).then(|| format!("{name} was {then} when the run started, but is {now} now"))
        };
        differs("the SHA-256 of the data file", self.data_sha256.clone(), now.data_sha256.clone())
            .or_else(|| differs("--batch-size", self.batch_size.to_string(), now.batch_size.to_string()))
            .or_else(|| differs("--seed", self.seed.to_string(), now.seed.to_string()))
            .or_else(|| differs("--eval-fraction", self.eval_fraction.to_string(), now.eval_fraction.to_string()))
            .or_else(|| {
                let name = |choice: &Option<String>| choice.clone().unwrap_or_else(|| "the model's own".to_owned());
                differs("--tokenizer", name(&self.tokenizer), name(&now.tokenizer))
            })
            .or_else(|| {
                let name = |length: Option<usize>| length.map_or("the model's context".to_owned(), |n| n.to_string());
                differs("--max-length", name(self.max_length), name(now.max_length))
            })
            .or_else(|| differs("--too-long", self.too_long.to_string(), now.too_long.to_string()))
    }
}

/// The value of `--resume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResumeFrom {
    Latest,
    Path(String),
}

impl std::str::FromStr for ResumeFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(ResumeFrom::Latest),
            path if path.contains("://") => Ok(ResumeFrom::Path(path.to_owned())),
            _ => Err("expected `latest` or the path of a checkpoint, such as tinker://RUN/weights/NAME".to_owned()),
        }
    }
}

/// The directory of a run.
#[derive(Debug)]
pub(crate) struct RunRecord {
    directory: PathBuf,
    settings: RunSettings,
    metrics: Vec<Metrics>,
    checkpoints: Vec<SavedCheckpoint>,
    metrics_log: JsonLines<Metrics>,
    checkpoints_log: JsonLines<SavedCheckpoint>,
    /// Whether all checkpoints are in the file.
    is_complete: bool,
}

impl RunRecord {
    /// The run that the files of the directory record.
    fn read(directory: &Path, settings: RunSettings) -> Result<RunRecord, Failure> {
        let metrics_log = JsonLines::open(directory.join(METRICS))?;
        let checkpoints_log = JsonLines::open(directory.join(CHECKPOINTS))?;
        let (metrics, checkpoints) = (metrics_log.read()?, checkpoints_log.read()?);
        let directory = directory.to_owned();
        Ok(RunRecord { directory, settings, metrics, checkpoints, metrics_log, checkpoints_log, is_complete: true })
    }

    /// A new run. Fails if the directory already has steps of another. Writes nothing yet.
    pub(crate) fn new(directory: &Path, settings: RunSettings) -> Result<RunRecord, Failure> {
        let has = |name: &str| fs::metadata(directory.join(name)).is_ok_and(|file| file.len() > 0);
        if has(METRICS) || has(CHECKPOINTS) {
            let start_over = "choose another directory with --output, or delete this one";
            let hint = match has(CHECKPOINTS) {
                true => format!("resume it with --resume latest, {start_over}"),
                false => format!("it has no checkpoint to resume from: {start_over}"),
            };
            return Err(Failure::usage(format!("{} already contains a run", directory.display())).hint(hint));
        }
        RunRecord::read(directory, settings)
    }

    /// A run that is resumed from a checkpoint, which is returned as well. Drops the steps after it. Writes nothing yet.
    pub(crate) fn resume(
        directory: &Path,
        settings: RunSettings,
        from: &ResumeFrom,
    ) -> Result<(RunRecord, SavedCheckpoint), Failure> {
        let directory_name = directory.display();
        let started = started_with(&directory.join(SETTINGS))?;
        if let Some(difference) = started.as_ref().and_then(|started| started.difference(&settings)) {
            return Err(
                Failure::usage(difference).hint("use the original value, start a new run with another --output, or go on from the checkpoint with the new value: --resume tinker://RUN/weights/NAME and another --output")
            );
        }
        let mut record = RunRecord::read(directory, settings)?;
        let checkpoints = &record.checkpoints;
        let start = match from {
            ResumeFrom::Latest => checkpoints.last().cloned().ok_or_else(|| {
                Failure::usage(format!("{directory_name} has no checkpoint to resume from")).hint(
                    "pass the run's directory with --output, or a checkpoint with --resume tinker://RUN/weights/NAME",
                )
            })?,
            ResumeFrom::Path(path) => {
                let recorded = checkpoints.iter().find(|checkpoint| checkpoint.path == *path).cloned();
                let from_name = || Some(SavedCheckpoint::new(step_in(path)?, path));
                recorded.or_else(from_name).ok_or_else(|| {
                    Failure::usage(format!("cannot tell the step of {path}")).hint(
                        "use a checkpoint that is listed in checkpoints.jsonl, or whose name ends with its step, such as run-000100",
                    )
                })?
            }
        };
        record.metrics.retain(|line| line.step <= start.step);
        record.checkpoints.retain(|checkpoint| checkpoint.step <= start.step);
        Ok((record, start))
    }

    /// Writes all files as the run starts with them.
    pub(crate) fn write(&mut self) -> Result<(), Failure> {
        let settings =
            || -> io::Result<Vec<u8>> { Ok([serde_json::to_vec_pretty(&self.settings)?, b"\n".to_vec()].concat()) };
        let file = self.directory.join(SETTINGS);
        settings()
            .and_then(|settings| write_atomically(&file, &settings))
            .map_err(|error| write_failure(&file, &error))?;
        let (last, checkpoints) = (self.metrics.last().map(|line| line.step), &self.checkpoints);
        self.metrics_log.retain(|line| last.is_some_and(|last| line.step <= last))?;
        Ok(self.checkpoints_log.retain(|checkpoint| checkpoints.contains(checkpoint))?)
    }

    pub(crate) fn add_metrics(&mut self, line: Metrics) -> Result<(), Failure> {
        let written = self.metrics_log.push(&line);
        self.metrics.push(line);
        Ok(written?)
    }

    /// Adds a checkpoint. If it cannot be written to the file, it is known in this process all the same.
    pub(crate) fn add_checkpoint(&mut self, checkpoint: SavedCheckpoint) -> Result<(), Failure> {
        let written = self.checkpoints_log.push(&checkpoint);
        self.is_complete &= written.is_ok();
        self.checkpoints.push(checkpoint);
        Ok(written?)
    }

    /// Redraws the loss curve.
    pub(crate) fn draw(&self, title: &str) -> Result<(), Failure> {
        let file = self.chart_file();
        write_atomically(&file, chart::svg(title, &self.metrics).as_bytes())
            .map_err(|error| write_failure(&file, &error))
    }

    /// The metrics of the last completed step.
    pub(crate) fn last_metrics(&self) -> Option<&Metrics> {
        self.metrics.last()
    }

    /// The latest checkpoint up to this step.
    pub(crate) fn checkpoint_until(&self, step: u64) -> Option<&SavedCheckpoint> {
        self.checkpoints.iter().rfind(|checkpoint| checkpoint.step <= step)
    }

    /// The latest checkpoint.
    pub(crate) fn last_checkpoint(&self) -> Option<&SavedCheckpoint> {
        self.checkpoints.last()
    }

    pub(crate) fn has_checkpoint(&self, step: u64) -> bool {
        self.checkpoints.iter().any(|checkpoint| checkpoint.step == step)
    }

    /// What to resume from to begin at this checkpoint.
    pub(crate) fn resume_from(&self, checkpoint: &SavedCheckpoint) -> String {
        let is_latest = self.is_complete && self.last_checkpoint() == Some(checkpoint);
        if is_latest { "latest".to_owned() } else { checkpoint.path.clone() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn metrics_file(&self) -> PathBuf {
        self.directory.join(METRICS)
    }

    pub(crate) fn chart_file(&self) -> PathBuf {
        self.directory.join(CHART)
    }
}

/// The settings that the run was started with, if they are recorded.
fn started_with(path: &Path) -> Result<Option<RunSettings>, Failure> {
    let read = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.and_then(|text| Ok(serde_json::from_slice(&text)?)),
    };
    read.map(Some).map_err(|error| {
        Failure::usage(format!("cannot read the settings of the run in {}: {error}", path.display()))
            .hint("restore this file, or remove it to resume without a check of the settings")
    })
}

/// The step at the end of a checkpoint's name.
fn step_in(path: &str) -> Option<u64> {
    path.rsplit_once('-').and_then(|(_, step)| step.parse().ok())
}

/// The name of a checkpoint. [`step_in`] reads the step back.
pub(crate) fn checkpoint_name(run: &str, step: u64) -> String {
    format!("{run}-{step:06}")
}

fn write_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn text(folder: &TempDir, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap()
    }

    fn settings() -> RunSettings {
        RunSettings {
            data_sha256: "ab".to_owned(),
            batch_size: 4,
            seed: 1,
            eval_fraction: 0.0,
            tokenizer: None,
            max_length: None,
            too_long: TooLong::Error,
        }
    }

    fn started_run(folder: &TempDir) -> RunRecord {
        let mut record = RunRecord::new(folder.path(), settings()).unwrap();
        record.write().unwrap();
        for step in 1..=5 {
            record.add_metrics(Metrics { step, loss: 1.0 / step as f64, ..Metrics::default() }).unwrap();
            if step % 2 == 0 {
                let path = format!("tinker://r/weights/{}", checkpoint_name("run", step));
                record.add_checkpoint(SavedCheckpoint::new(step, path)).unwrap();
            }
        }
        record
    }

    #[test]
    fn resuming_drops_steps_after_the_latest_checkpoint() {
        let folder = TempDir::new().unwrap();
        started_run(&folder);
        // A killed run may leave an incomplete line.
        fs::write(folder.path().join(METRICS), text(&folder, METRICS) + "{\"step\":6,\"lo").unwrap();
        let (mut record, start) = RunRecord::resume(folder.path(), settings(), &ResumeFrom::Latest).unwrap();
        assert_eq!(text(&folder, METRICS).lines().count(), 6);
        record.write().unwrap();
        assert_eq!((start.step, start.path.as_str()), (4, "tinker://r/weights/run-000004"));
        assert_eq!(text(&folder, METRICS).lines().count(), 4);
        record.add_metrics(Metrics { step: 5, loss: 0.2, ..Metrics::default() }).unwrap();
        let steps: Vec<u64> = record.metrics_log.read().unwrap().iter().map(|line| line.step).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_checkpoint_is_known_without_its_file() {
        let folder = TempDir::new().unwrap();
        let mut record = started_run(&folder);
        let known = |record: &RunRecord| record.resume_from(record.last_checkpoint().unwrap());
        assert_eq!(known(&record), "latest");
        fs::remove_file(folder.path().join(CHECKPOINTS)).unwrap();
        fs::create_dir(folder.path().join(CHECKPOINTS)).unwrap();
        let path = "tinker://r/weights/run-000005".to_owned();
        assert!(record.add_checkpoint(SavedCheckpoint::new(5, &path)).is_err());
        assert_eq!(known(&record), path);
        assert!(record.has_checkpoint(5) && !record.has_checkpoint(3));
        assert_eq!(record.checkpoint_until(4).map(|checkpoint| checkpoint.step), Some(4));
    }

    #[test]
    fn the_step_comes_from_record_or_name() {
        let folder = TempDir::new().unwrap();
        started_run(&folder);
        let resume = |path: &str| RunRecord::resume(folder.path(), settings(), &path.parse().unwrap());
        assert_eq!(resume("tinker://r/weights/run-000002").unwrap().1.step, 2);
        assert_eq!(resume("tinker://other/weights/x-17").unwrap().1.step, 17);
        assert!(resume("tinker://other/weights/final").unwrap_err().message().contains("cannot tell the step"));
        assert!("weights/x".parse::<ResumeFrom>().is_err());
    }

    #[test]
    fn a_run_accepts_only_its_own_settings() {
        let folder = TempDir::new().unwrap();
        started_run(&folder);
        assert!(RunRecord::new(folder.path(), settings()).unwrap_err().message().contains("already contains a run"));
        for (other, what) in [
            (RunSettings { seed: 2, ..settings() }, "--seed was 1"),
            (RunSettings { batch_size: 8, ..settings() }, "--batch-size was 4"),
            (RunSettings { data_sha256: "cd".to_owned(), ..settings() }, "the SHA-256 of the data file"),
            (RunSettings { eval_fraction: 0.5, ..settings() }, "--eval-fraction was 0"),
            (RunSettings { tokenizer: Some("bytes".to_owned()), ..settings() }, "--tokenizer was the model's own"),
            (RunSettings { max_length: Some(9), ..settings() }, "--max-length was the model's context"),
            (RunSettings { too_long: TooLong::Skip, ..settings() }, "--too-long was error"),
        ] {
            let failure = RunRecord::resume(folder.path(), other, &ResumeFrom::Latest).unwrap_err();
            assert!(failure.message().contains(what), "{failure:?}");
        }
        fs::write(folder.path().join(SETTINGS), "{\"seed\": 1").unwrap();
        let failure = RunRecord::resume(folder.path(), settings(), &ResumeFrom::Latest).unwrap_err();
        assert!(failure.message().contains("cannot read the settings of the run in"), "{failure:?}");
        fs::remove_file(folder.path().join(SETTINGS)).unwrap();
        assert!(RunRecord::resume(folder.path(), settings(), &ResumeFrom::Latest).is_ok());
        let empty = TempDir::new().unwrap();
        let failure = RunRecord::resume(empty.path(), settings(), &ResumeFrom::Latest).unwrap_err();
        assert!(failure.message().contains("no checkpoint"), "{failure:?}");
    }
}

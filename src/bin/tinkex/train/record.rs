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

use tinkex::fs::write_atomically;
use tinkex::toolkit::{JsonLines, SavedCheckpoint};

use super::chart;
use super::run_settings::RunSettings;
use super::step_metrics::Metrics;
use crate::chat_format::Identity;
use crate::failure::Failure;

const SETTINGS: &str = "run.json";
const METRICS: &str = "metrics.jsonl";
const CHECKPOINTS: &str = "checkpoints.jsonl";
const CHART: &str = "loss.svg";
/// What to do about a setting that differs.
const OTHER_SETTINGS: &str = "use the original value, start a new run with another --output, or go on from the checkpoint with the new value: --resume tinker://RUN/weights/NAME and another --output";

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
    /// The template of the run that is resumed, if that is recorded.
    template: Option<Identity>,
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
        Ok(RunRecord {
            directory,
            settings,
            template: None,
            metrics,
            checkpoints,
            metrics_log,
            checkpoints_log,
            is_complete: true,
        })
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
            return Err(Failure::usage(difference).hint(OTHER_SETTINGS));
        }
        let mut record = RunRecord::read(directory, settings)?;
        record.template = started.and_then(|started| started.chat).and_then(|chat| chat.template);
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

    /// Records the template, by what tells it from others. Fails if the run was started with another one.
    pub(crate) fn set_template(&mut self, template: Identity, name: &str) -> Result<(), Failure> {
        if let Some(started) = self.template.as_ref().filter(|started| !template.is_recorded_as(started)) {
            let message = match started.name() {
                Some(started) if template.name() == Some(started) => {
                    format!("the run started with {name} of another version of tinkex, which differs")
                }
                Some(started) => format!("--template was {started} when the run started, but is {name} now"),
                None => format!("the run started with another chat template than {name}"),
            };
            return Err(
                Failure::usage(message).hint(format!("pass that of the run with --template; or {OTHER_SETTINGS}"))
            );
        }
        if let Some(chat) = &mut self.settings.chat {
            chat.template = Some(template);
        }
        Ok(())
    }

    /// Writes all files as the run starts with them.
    pub(crate) fn write(&mut self) -> Result<(), Failure> {
        let settings =
            || -> io::Result<Vec<u8>> { Ok([serde_json::to_vec_pretty(&self.settings)?, b"\n".to_vec()].concat()) };
        let file = self.directory.join(SETTINGS);
        settings()
            .and_then(|settings| write_atomically(&file, &settings))
            .map_err(|error| Failure::unwritable(file.display(), &error))?;
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
            .map_err(|error| Failure::unwritable(file.display(), &error))
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

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;
    use crate::train::run_settings::tests::settings;

    fn text(folder: &TempDir, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap()
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
        let other = RunSettings { seed: 2, ..settings() };
        let failure = RunRecord::resume(folder.path(), other, &ResumeFrom::Latest).unwrap_err();
        assert!(failure.message().contains("--seed was 1"), "{failure:?}");
        fs::write(folder.path().join(SETTINGS), "{\"seed\": 1").unwrap();
        let failure = RunRecord::resume(folder.path(), settings(), &ResumeFrom::Latest).unwrap_err();
        assert!(failure.message().contains("cannot read the settings of the run in"), "{failure:?}");
        fs::remove_file(folder.path().join(SETTINGS)).unwrap();
        assert!(RunRecord::resume(folder.path(), settings(), &ResumeFrom::Latest).is_ok());
        let empty = TempDir::new().unwrap();
        let failure = RunRecord::resume(empty.path(), settings(), &ResumeFrom::Latest).unwrap_err();
        assert!(failure.message().contains("no checkpoint"), "{failure:?}");
    }

    quickcheck::quickcheck! {
        fn damaged_records_never_panic(which: u8, changes: Vec<(usize, u8)>, cut: usize) -> bool {
            static RUN: LazyLock<(TempDir, [Vec<u8>; 3])> = LazyLock::new(|| {
                let folder = TempDir::new().unwrap();
                started_run(&folder);
                let files = [SETTINGS, METRICS, CHECKPOINTS].map(|name| text(&folder, name).into_bytes());
                (folder, files)
            });
            let (folder, files) = &*RUN;
            let name = [SETTINGS, METRICS, CHECKPOINTS][usize::from(which) % 3];
            let mut bytes = files[usize::from(which) % 3].clone();
            let whole = bytes.clone();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            bytes.truncate(bytes.len() - cut % 4);
            let is_whole = bytes == whole;
            fs::write(folder.path().join(name), bytes).unwrap();
            let resumed = RunRecord::resume(folder.path(), settings(), &ResumeFrom::Latest);
            fs::write(folder.path().join(name), whole).unwrap();
            is_whole <= resumed.is_ok() && resumed.err().is_none_or(|failure| !failure.message().is_empty())
        }
    }

    #[test]
    fn a_run_accepts_only_its_own_template() {
        let folder = TempDir::new().unwrap();
        let mut record = started_run(&folder);
        let identity = |text: &str| serde_json::from_value::<Identity>(text.into()).unwrap();
        record.set_template(identity("sha256:ab"), "x").unwrap();
        record.write().unwrap();
        let resume = || RunRecord::resume(folder.path(), settings(), &ResumeFrom::Latest).unwrap().0;
        assert!(resume().set_template(identity("sha256:ab"), "x").is_ok());
        let failure = resume().set_template(identity("plain sha256:cd"), "the plain format").unwrap_err();
        assert_eq!(failure.message(), "the run started with another chat template than the plain format");

        let recorded = text(&folder, SETTINGS).replace("\"sha256:ab\"", "\"plain sha256:ef\"");
        fs::write(folder.path().join(SETTINGS), recorded).unwrap();
        assert!(resume().set_template(identity("plain sha256:ef"), "the plain format").is_ok());
        let failure = resume().set_template(identity("plain sha256:cd"), "the plain format").unwrap_err();
        assert_eq!(
            failure.message(),
            "the run started with the plain format of another version of tinkex, which differs"
        );
        assert!(resume().set_template(identity("chatml sha256:ef"), "y").is_err());

        // A run of an earlier version, which had no other format.
        let mut recorded: Value = serde_json::from_str(&text(&folder, SETTINGS)).unwrap();
        recorded.as_object_mut().unwrap().remove("chat");
        fs::write(folder.path().join(SETTINGS), recorded.to_string()).unwrap();
        assert!(resume().set_template(identity("plain sha256:cd"), "the plain format").is_ok());
        assert!(resume().set_template(identity("sha256:ab"), "x").is_err());
    }
}

//! `tinkex train`: fine-tuning on a file of examples.
//!
//! | file | what it decides |
//! |---|---|
//! | `train_options.rs` | the options and their help |
//! | `data_file.rs`, `dataset.rs` | where the lines of the data file are, and what a line means |
//! | `examples.rs` | the datums of a batch, and what is too long |
//! | `base_model.rs` | the model to train, and its context |
//! | `plan.rs` | which examples are in which step, and the learning rate of the step |
//! | `training_loop.rs`, `submitted_step.rs`, `evaluation.rs` | in which order steps, evaluations and checkpoints are submitted and awaited |
//! | `rescue.rs` | what is saved when a step fails |
//! | `step_metrics.rs`, `record.rs` | what the run leaves in its directory, and how it is resumed |
//! | `resume_command.rs` | the command line that resumes the run |
//! | `progress.rs`, `chart` | what a person sees |

mod base_model;
mod chart;
mod data_file;
mod dataset;
mod evaluation;
mod examples;
mod plan;
mod progress;
mod record;
mod rescue;
mod resume_command;
mod step_metrics;
mod submitted_step;
mod train_options;
mod training_loop;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::warn;
use serde::Serialize;
use tinkex::toolkit::{SavedCheckpoint, Schedule};
use tinkex::types::AdamParams;
use tinkex::{ServiceClient, TrainingClient};

use self::data_file::DataFile;
use self::examples::Examples;
use self::plan::BatchOrder;
use self::progress::Progress;
use self::record::{RunRecord, RunSettings, checkpoint_name};
use self::rescue::Outcome;
use self::resume_command::resume_command;
use self::submitted_step::within;
pub(crate) use self::train_options::Options;
use self::training_loop::TrainingLoop;
use crate::app::App;
use crate::failure::Failure;
use crate::output::Table;
use crate::screen::{self, Status, Unit};
use crate::{human, tokenizer_choice};

/// Reading a file of this size takes a while, which is said if there is no progress bar to show it.
const LARGE_FILE: u64 = 100_000_000;
/// How many unknown keys of the data file are named.
const MAX_NAMED_KEYS: usize = 20;
/// How long the end of a run waits for its model to be unloaded.
const UNLOAD_LIMIT: Duration = Duration::from_secs(10);

/// The result of a completed run.
#[derive(Serialize)]
struct TrainingReport {
    name: String,
    steps: u64,
    /// Of the last step.
    loss: Option<f64>,
    eval_loss: Option<f64>,
    /// To resume from.
    checkpoint: Option<String>,
    /// To sample from.
    sampler: String,
    metrics: PathBuf,
    chart: PathBuf,
}

impl TrainingReport {
    fn table(&self) -> Table {
        let number = |loss: Option<f64>| loss.map(|loss| format!("{loss:.4}"));
        let mut table = Table::properties(format!("Trained {}", self.name));
        for (name, value) in [
            ("Steps", Some(self.steps.to_string())),
            ("Loss per token", number(self.loss)),
            ("Eval loss per token", number(self.eval_loss)),
            ("Checkpoint", self.checkpoint.clone()),
            ("Sampler weights", Some(self.sampler.clone())),
            ("Metrics", Some(self.metrics.display().to_string())),
            ("Loss curve", Some(self.chart.display().to_string())),
        ] {
            if let Some(value) = value {
                table.row([name, &value]);
            }
        }
        table
    }
}

/// A run that is about to begin.
struct Run<'a> {
    options: &'a Options,
    trained: Vec<u32>,
    held_out: Vec<u32>,
    name: String,
    record: RunRecord,
    /// Where it is resumed.
    start: Option<SavedCheckpoint>,
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let (file, held_out) = read_data(&options.data)?;
    let (trained, held_out) = plan::split(&held_out, options.eval_fraction, options.seed);
    let name = options.name.clone().unwrap_or_else(|| default_name(&options.data));
    let directory = options.output.clone().unwrap_or_else(|| Path::new("runs").join(&name));
    let settings = RunSettings {
        data_sha256: file.sha256().to_owned(),
        batch_size: options.batch_size,
        seed: options.seed,
        eval_fraction: options.eval_fraction,
        tokenizer: options.tokenizer.clone(),
        max_length: options.max_length,
        too_long: options.too_long,
    };
    let config = app.config()?;
    let (record, start) = match &options.resume {
        None => (RunRecord::new(&directory, settings)?, None),
        Some(from) => {
            let (record, start) = RunRecord::resume(&directory, settings, from)?;
            (record, Some(start))
        }
    };
    let run = Run { options, trained, held_out, name, record, start };
    run.plan("all examples")?;

    app.require_service(&config)?;
    let report = App::in_session(config, |service| {
        let trainer = base_model::training_client(service, options, &run.name, run.start.as_ref())?;
        let (report, is_saved) = run.train(app, service, &trainer, file);
        if is_saved {
            unload(&trainer);
        }
        report
    })?;
    app.output.report(&report.table(), &report)
}

/// The examples of the data file, and which of them it holds out.
fn read_data(path: &Path) -> Result<(DataFile, Vec<bool>), Failure> {
    let name = path.display();
    let (mut held_out, mut unknown) = (Vec::new(), BTreeMap::new());
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if bytes >= LARGE_FILE && !screen::is_terminal() {
        let size = human::size(Some(bytes));
        screen::line(format_args!("reading {name} ({size}), to check its lines and their lengths"));
    }
    let bar = screen::start(Status { unit: Unit::Bytes, done: Some(0), ..Status::default() });
    let file = DataFile::read(path, &bar, |number, line| {
        let example = dataset::parse(line)?;
        held_out.push(example.held_out);
        for key in example.unknown_keys {
            if unknown.len() < MAX_NAMED_KEYS {
                unknown.entry(key).or_insert(number);
            }
        }
        Ok(())
    });
    drop(bar);
    let file = file?;
    if file.len() == 0 {
        return Err(Failure::usage(format!("{name} contains no examples; {} on each line", dataset::EXPECTED)));
    }
    if !unknown.is_empty() {
        let keys: Vec<String> = unknown.iter().map(|(key, line)| format!("{key:?} (line {line})")).collect();
        warn!("{name}: these keys have no meaning here: {}", keys.join(", "));
    }
    Ok((file, held_out))
}

impl Run<'_> {
    /// The order of the examples to train on, and the number of steps. Fails if there is nothing to do; `all` then says which
    /// examples are held out.
    fn plan(&self, all: &str) -> Result<(BatchOrder, u64), Failure> {
        let options = self.options;
        if self.trained.is_empty() {
            let name = options.data.display();
            return Err(Failure::usage(format!(
                "{name} holds out {all} for evaluation, so there is nothing to train on"
            )));
        }
        let examples =
            u32::try_from(self.trained.len()).map_err(|_| Failure::usage("the file has more than 2³² examples"))?;
        let order = BatchOrder { examples, batch_size: options.batch_size, seed: options.seed };
        let steps = options.steps.unwrap_or_else(|| order.steps(options.epochs));
        let completed = self.completed();
        if completed >= steps {
            let message = format!("the run is already complete: its checkpoint is from step {completed} of {steps}");
            return Err(Failure::usage(message).hint("raise --steps or --epochs"));
        }
        Ok((order, steps))
    }

    fn completed(&self) -> u64 {
        self.start.as_ref().map_or(0, |checkpoint| checkpoint.step)
    }

    /// Trains. Also returns whether the model can be unloaded: not if its weights could not be saved.
    fn train(
        mut self,
        app: &App,
        service: &ServiceClient,
        trainer: &TrainingClient,
        file: DataFile,
    ) -> (Result<TrainingReport, Failure>, bool) {
        let begun = self.begin(service, trainer, file);
        let (examples, order, steps) = match begun {
            Ok(begun) => begun,
            Err(failure) => return (Err(failure), true),
        };
        let options = self.options;
        let optimizer = AdamParams::default()
            .learning_rate(options.learning_rate)
            .weight_decay(options.weight_decay)
            .grad_clip_norm(options.grad_clip_norm);
        let training_loop = TrainingLoop {
            trainer,
            examples: &examples,
            trained: std::mem::take(&mut self.trained),
            order,
            held_out: std::mem::take(&mut self.held_out),
            name: &self.name,
            steps,
            optimizer,
            schedule: Schedule::new(options.schedule.into(), options.learning_rate, steps).warmup(options.warmup_steps),
            eval_every: options.eval_every,
            save_every: options.save_every,
        };
        let completed = self.completed();
        let mut progress = Progress::new(completed, steps, options.log_every);
        app.interrupt.catch_with_note(
            "finishing the current steps and saving a checkpoint; press Ctrl-C again to stop immediately",
        );
        let outcome = training_loop.run(completed, &mut self.record, &mut progress, &app.interrupt);
        drop(progress);
        drop(training_loop);
        let is_saved = !outcome.unsaved;
        (self.end(outcome, steps, trainer), is_saved)
    }

    /// What comes before the first step: tokenizer, lengths, and the directory.
    fn begin(
        &mut self,
        service: &ServiceClient,
        trainer: &TrainingClient,
        file: DataFile,
    ) -> Result<(Examples, BatchOrder, u64), Failure> {
        let options = self.options;
        base_model::check(options, self.start.as_ref(), trainer)?;
        let max_length = base_model::max_length(service, options, trainer)?;
        let tokenizer = tokenizer_choice::load(options.tokenizer.as_deref(), service.config(), || trainer.tokenizer())?;
        let examples = Examples::new(file, tokenizer, max_length);
        let bar = screen::start(Status { done: Some(0), ..Status::default() });
        let checked = examples.check_lengths(options.too_long, &bar);
        drop(bar);
        let (left_out, note) = checked?;
        if let Some(note) = note {
            warn!("{note}");
        }
        for list in [&mut self.trained, &mut self.held_out] {
            list.retain(|example| left_out.binary_search(example).is_err());
        }
        let all = if left_out.is_empty() { "all examples" } else { "all examples that are short enough" };
        let (order, steps) = self.plan(all)?;
        self.record.write()?;
        Ok((examples, order, steps))
    }

    /// What comes after the last step.
    fn end(self, outcome: Outcome, steps: u64, trainer: &TrainingClient) -> Result<TrainingReport, Failure> {
        let Run { record, name, .. } = self;
        // Drawn also after a failure, which is reported first.
        let drawn = record.draw(&name);
        let resume = |checkpoint: &SavedCheckpoint| {
            let words = env::args_os().map(|word| word.to_string_lossy().into_owned());
            resume_command(words, &record.resume_from(checkpoint))
        };
        let last = outcome.last;
        if let Some(failure) = outcome.failure {
            return Err(match record.checkpoint_until(outcome.sound_until) {
                Some(checkpoint) => {
                    let failure = failure.add_hints(missing(&outcome.missing, &record, checkpoint));
                    failure.add_hint(format!("resume from step {} with: {}", checkpoint.step, resume(checkpoint)))
                }
                None if last > 0 => failure.add_hint(format!(
                    "the run cannot be resumed: delete {} to start over, and use --save-every",
                    record.directory().display()
                )),
                None => failure,
            });
        }
        let checkpoint = record.last_checkpoint();
        if last < steps {
            return Err(match checkpoint {
                Some(checkpoint) => {
                    let path = &checkpoint.path;
                    Failure::interrupted(format!("interrupted after step {last} of {steps}; saved {path}"))
                        .hint(format!("resume with: {}", resume(checkpoint)))
                }
                None => Failure::interrupted("interrupted before the first step"),
            });
        }
        let checkpoint = checkpoint.map(|checkpoint| checkpoint.path.clone());
        let sampler = trainer.save_weights_for_sampler(checkpoint_name(&name, last)).map_err(|error| {
            let saved = checkpoint.as_ref().map(|path| format!("the run is complete and saved as {path}"));
            Failure::from(error).add_hints(saved)
        })?;
        drawn?;
        let metrics = record.last_metrics();
        Ok(TrainingReport {
            steps: last,
            loss: metrics.map(|metrics| metrics.loss),
            eval_loss: metrics.and_then(|metrics| metrics.eval_loss),
            checkpoint,
            sampler: sampler.path,
            metrics: record.metrics_file(),
            chart: record.chart_file(),
            name,
        })
    }
}

/// What is wrong with a checkpoint that these steps are missing from, and which one to use instead.
fn missing(steps: &[u64], record: &RunRecord, checkpoint: &SavedCheckpoint) -> Option<String> {
    let first = steps.first()?;
    let list: Vec<String> = steps.iter().map(u64::to_string).collect();
    let (steps, list) = (if list.len() == 1 { "step" } else { "steps" }, list.join(", "));
    let exact = record.checkpoint_until((first - 1).min(checkpoint.step.saturating_sub(1)));
    let exact = exact.map_or_else(
        || "only a new run gives those".to_owned(),
        |exact| format!("to get those, resume with --resume {} instead", exact.path),
    );
    Some(format!(
        "the weights are not those of an undisturbed run, since {steps} {list} failed and requests after it were carried out: {exact}"
    ))
}

/// Frees the model on the service, which would keep it for a while, and has room for a few only.
fn unload(trainer: &TrainingClient) {
    let unload = || -> Result<(), String> {
        let pending = trainer.submit_unload_model().map_err(|error| error.to_string())?;
        let result = within(&pending, UNLOAD_LIMIT);
        let result = result.ok_or_else(|| format!("no response within {} s", UNLOAD_LIMIT.as_secs()))?;
        result.map(drop).map_err(|error| error.to_string())
    };
    if let Err(why) = unload() {
        warn!("the model of the run was not unloaded, and stays on the service for a while: {why}");
    }
}

/// The name of the data file without its extension, with `-` for characters that a checkpoint's name may not have.
fn default_name(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "run".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_named_after_its_file() {
        for (file, expected) in
            [("data/pig latin.jsonl", "pig-latin"), ("..", "run"), ("x", "x"), (".hidden", "hidden")]
        {
            assert_eq!(default_name(Path::new(file)), expected);
        }
    }
}

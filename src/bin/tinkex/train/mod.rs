//! `tinkex train`: fine-tuning on a file of examples.
//!
//! | file | what it decides |
//! |---|---|
//! | `train_options.rs` | the options and their help |
//! | `training_data.rs`, `data_file.rs`, `dataset` | what the data file has: where its lines are, and what a line means |
//! | `bad_lines.rs`, `named.rs` | lines that cannot be used, and how many of many things are named |
//! | `examples.rs`, `completion.rs` | the examples of a line as tokens, and the datums of a batch |
//! | `survey.rs`, `too_long.rs` | the pass over all examples: how many there are, what is too long, what is lost |
//! | `show.rs` | examples with what is trained marked, for `--show` |
//! | `chat_settings.rs` | the format of conversations |
//! | `base_model.rs` | the model to train, and its context |
//! | `plan.rs` | which examples are in which step, and the learning rate of the step |
//! | `training_loop.rs`, `submitted_step.rs`, `evaluation.rs` | in which order steps, evaluations and checkpoints are submitted and awaited |
//! | `rescue.rs` | what is saved when a step fails |
//! | `step_metrics.rs`, `record.rs`, `run_settings.rs` | what the run leaves in its directory, and how it is resumed |
//! | `resume_command.rs` | the command line that resumes the run |
//! | `progress.rs`, `chart`, `report.rs` | what a person sees |

mod bad_lines;
mod base_model;
mod chart;
mod chat_settings;
mod completion;
mod data_file;
mod dataset;
mod evaluation;
mod examples;
mod named;
mod plan;
mod progress;
mod record;
mod report;
mod rescue;
mod resume_command;
mod run_settings;
mod show;
mod step_metrics;
mod submitted_step;
mod survey;
mod too_long;
mod train_options;
mod training_data;
mod training_loop;

use std::env;
use std::path::Path;
use std::time::Duration;

use log::warn;
use tinkex::hyperparams::Schedule;
use tinkex::toolkit::SavedCheckpoint;
use tinkex::types::AdamParams;
use tinkex::{ServiceClient, TrainingClient};

use self::chat_settings::ChatSettings;
use self::dataset::ChatOptions;
use self::examples::{ExampleId, Examples};
use self::plan::BatchOrder;
use self::progress::Progress;
use self::record::{RunRecord, checkpoint_name};
use self::report::TrainingReport;
use self::rescue::Outcome;
use self::resume_command::resume_command;
use self::run_settings::{ChatRecord, RunSettings};
use self::submitted_step::within;
pub(crate) use self::train_options::Options;
use self::training_data::TrainingData;
use self::training_loop::TrainingLoop;
use crate::app::App;
use crate::failure::Failure;
use crate::screen::{self, Status};
use crate::tokenizer_choice;

/// How long the end of a run waits for its model to be unloaded.
const UNLOAD_LIMIT: Duration = Duration::from_secs(10);

/// A run that is about to begin.
struct Run<'a> {
    options: &'a Options,
    chat_options: ChatOptions,
    /// The lines that are held out, in order.
    held_out: Vec<u32>,
    name: String,
    record: RunRecord,
    /// Where it is resumed.
    start: Option<SavedCheckpoint>,
}

/// What the steps of a run are made of.
struct Begun {
    examples: Examples,
    trained: Vec<ExampleId>,
    held_out: Vec<ExampleId>,
    order: BatchOrder,
    steps: u64,
}

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let chat_options =
        ChatOptions { train_on: options.train_on.unwrap_or_default(), beginning: options.conversation.read()? };
    let data = TrainingData::read(&options.data, &chat_options)?;
    if !data.has_chats {
        chat_settings::refuse(options, &chat_options)?;
    }
    if let Some(count) = options.show {
        return show::run(app, options, data, chat_options, count);
    }
    let (trained, held_out) = plan::split(&data.held_out, options.eval_fraction, options.seed);
    let name = options.name.clone().unwrap_or_else(|| default_name(&options.data));
    let directory = options.output.clone().unwrap_or_else(|| Path::new("runs").join(&name));
    let settings = RunSettings {
        data_sha256: data.file.sha256().to_owned(),
        batch_size: options.batch_size,
        seed: options.seed,
        eval_fraction: options.eval_fraction,
        tokenizer: options.tokenizer.clone(),
        max_length: options.max_length,
        too_long: options.too_long,
        chat: data.has_chats.then(|| ChatRecord::new(&chat_options)),
    };
    let config = app.config()?;
    let (record, start) = match &options.resume {
        None => (RunRecord::new(&directory, settings)?, None),
        Some(from) => {
            let (record, start) = RunRecord::resume(&directory, settings, from)?;
            (record, Some(start))
        }
    };
    let run = Run { options, chat_options, held_out, name, record, start };
    // A conversation may be several examples, so the number of steps is not known yet.
    let steps = if data.has_chats { options.steps } else { Some(run.order(trained.len())?.1) };
    run.check_plan(trained.len(), steps, "all examples")?;

    app.require_service(&config)?;
    let report = App::in_session(config, |service| {
        let trainer = base_model::training_client(service, options, &run.name, run.start.as_ref())?;
        let (report, is_saved) = run.train(app, service, &trainer, data);
        if is_saved {
            unload(&trainer);
        }
        report
    })?;
    app.output.report(&report.table(), &report)
}

impl Run<'_> {
    /// The order of this many examples, and the number of steps.
    fn order(&self, examples: usize) -> Result<(BatchOrder, u64), Failure> {
        let options = self.options;
        let examples = u32::try_from(examples).map_err(|_| Failure::usage("the file has more than 2³² examples"))?;
        let order = BatchOrder { examples, batch_size: options.batch_size, seed: options.seed };
        Ok((order, options.steps.unwrap_or_else(|| order.steps(options.epochs))))
    }

    /// Fails if there is nothing to do; `all` then says which examples are held out.
    fn check_plan(&self, trained: usize, steps: Option<u64>, all: &str) -> Result<(), Failure> {
        if trained == 0 {
            let name = self.options.data.display();
            return Err(Failure::usage(format!(
                "{name} holds out {all} for evaluation, so there is nothing to train on"
            )));
        }
        let completed = self.completed();
        match steps.filter(|steps| completed >= *steps) {
            None => Ok(()),
            Some(steps) => {
                let message =
                    format!("the run is already complete: its checkpoint is from step {completed} of {steps}");
                Err(Failure::usage(message).hint("raise --steps or --epochs"))
            }
        }
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
        data: TrainingData,
    ) -> (Result<TrainingReport, Failure>, bool) {
        let begun = self.begin(service, trainer, data);
        let Begun { examples, trained, held_out, order, steps } = match begun {
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
            trained,
            order,
            held_out,
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
        data: TrainingData,
    ) -> Result<Begun, Failure> {
        let options = self.options;
        base_model::check(options, self.start.as_ref(), trainer)?;
        let max_length = base_model::max_length(service, options, trainer)?;
        let of_model = || Ok((trainer.tokenizer()?, trainer.tokenizer_source()?));
        let (tokenizer, source) = tokenizer_choice::load(options.tokenizer.as_deref(), service.config(), of_model)?;
        let chats = ChatSettings::find(options, &data, &self.chat_options, &tokenizer, &source)?;
        if let Some(ChatSettings { format, .. }) = &chats {
            self.record.set_template(format.identity(), &format.origin.to_string())?;
        }
        let examples = Examples::new(data.file, tokenizer, self.chat_options.clone(), chats, max_length);
        let bar = screen::start(Status { done: Some(0), ..Status::default() });
        let survey = examples.survey(options.too_long, &bar);
        drop(bar);
        let survey = survey?;
        survey.summary.iter().for_each(screen::line);
        survey.warnings.iter().for_each(|warning| warn!("{warning}"));
        if survey.examples.is_empty() {
            let message = format!("all examples of {} are too long", options.data.display());
            let hint = "shorten them, raise --max-length, or pass --too-long truncate if something of them is left";
            return Err(Failure::usage(format!("{message}, so there is nothing to train on")).hint(hint));
        }
        // All examples of a conversation are on the same side.
        let is_held_out = |example: &ExampleId| self.held_out.binary_search(&example.line).is_ok();
        let (held_out, trained): (Vec<_>, Vec<_>) = survey.examples.into_iter().partition(is_held_out);
        let all = if survey.leaves_out { "all examples that are short enough" } else { "all examples" };
        let (order, steps) = self.order(trained.len())?;
        self.check_plan(trained.len(), Some(steps), all)?;
        self.record.write()?;
        Ok(Begun { examples, trained, held_out, order, steps })
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

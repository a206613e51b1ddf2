//! `tinkex train`: fine-tuning on a file of examples.
//!
//! | file | what it decides |
//! |---|---|
//! | `train_options.rs` | the options and their help |
//! | `dataset.rs` | what a line of the data file means |
//! | `plan.rs` | which examples are in which step, and the learning rate of the step |
//! | `training_loop.rs` | in which order steps, evaluations and checkpoints are submitted and awaited |
//! | `step_metrics.rs`, `record.rs` | what the run leaves in its directory, and how it is resumed |
//! | `resume_command.rs` | the command line that resumes the run |
//! | `progress.rs`, `chart.rs` | what a person sees |

mod chart;
mod dataset;
mod plan;
mod progress;
mod record;
mod resume_command;
mod step_metrics;
mod train_options;
mod training_loop;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};
use tinkex::types::LoraConfig;
use tinkex::{ServiceClient, Tokenizer, TrainingClient, TrainingOptions};

use self::dataset::Example;
use self::plan::BatchOrder;
use self::progress::Progress;
use self::record::{Checkpoint, RunRecord, RunSettings, checkpoint_name};
use self::resume_command::resume_command;
pub(crate) use self::train_options::Options;
use self::training_loop::{TokenizedExample, TrainingLoop};
use crate::app::App;
use crate::failure::Failure;
use crate::output::Table;
use crate::{offered, template, tokenizer_choice};

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

pub(crate) fn run(app: &App, options: &Options) -> Result<(), Failure> {
    let data_name = options.data.display().to_string();
    let data = fs::read(&options.data).map_err(|error| Failure::usage(format!("cannot read {data_name}: {error}")))?;
    let examples = dataset::parse(&data_name, &data).map_err(Failure::usage)?;
    let held_out: Vec<bool> = examples.iter().map(|example| example.held_out).collect();
    let (trained, held_out) = plan::split(&held_out, options.eval_fraction, options.seed);
    if trained.is_empty() {
        return Err(Failure::usage(format!(
            "{data_name} holds out all examples for evaluation, so there is nothing to train on"
        )));
    }
    let order = BatchOrder { examples: trained.len(), batch_size: options.batch_size, seed: options.seed };
    let steps = options.steps.unwrap_or_else(|| order.steps(options.epochs));
    let name = options.name.clone().unwrap_or_else(|| default_name(&options.data));
    let directory = options.output.clone().unwrap_or_else(|| Path::new("runs").join(&name));
    let settings = RunSettings {
        data_sha256: Sha256::digest(&data).iter().map(|byte| format!("{byte:02x}")).collect(),
        batch_size: options.batch_size,
        seed: options.seed,
        eval_fraction: options.eval_fraction,
        tokenizer: options.tokenizer.clone(),
    };
    let config = app.config()?;
    let (mut record, start) = match &options.resume {
        None => (RunRecord::new(&directory, settings)?, None),
        Some(from) => {
            let (record, start) = RunRecord::resume(&directory, settings, from)?;
            (record, Some(start))
        }
    };
    let completed = start.as_ref().map_or(0, |checkpoint| checkpoint.step);
    if completed >= steps {
        let message = format!("the run is already complete: its checkpoint is from step {completed} of {steps}");
        return Err(Failure::usage(message).hint("raise --steps or --epochs"));
    }

    app.require_service(&config)?;
    let report = App::in_session(config, |service| {
        let trainer = training_client(service, options, &name, start.as_ref())?;
        let tokenizer = tokenizer_choice::load(options.tokenizer.as_deref(), service.config(), || trainer.tokenizer())?;
        let examples = tokenize(&tokenizer, &examples, &data_name)?;
        let training_loop = TrainingLoop {
            trainer: &trainer,
            examples: select(&examples, &trained),
            order,
            held_out: select(&examples, &held_out),
            name: &name,
            steps,
            learning_rate: options.learning_rate,
            schedule: options.schedule,
            warmup_steps: options.warmup_steps,
            eval_every: options.eval_every,
            save_every: options.save_every,
        };
        record.write()?;
        let progress = Progress::new(completed, steps, options.log_every);
        app.interrupt.catch_with_note(
            "finishing the current steps and saving a checkpoint; press Ctrl-C again to stop immediately",
        );
        let outcome = training_loop.run(completed, &mut record, &progress, &app.interrupt);
        drop(progress);
        // Drawn also after a failure, which is reported first.
        let drawn = record.draw(&name);
        let resume = resume_command(env::args_os().map(|word| word.to_string_lossy().into_owned()));
        let last = outcome.map_err(|failure| with_way_to_continue(failure, &record, &directory, &resume))?;
        drawn?;
        let checkpoint = record.last_checkpoint().map(|checkpoint| checkpoint.path.clone());
        if last < steps {
            return Err(match checkpoint {
                Some(path) => Failure::interrupted(format!("interrupted after step {last} of {steps}; saved {path}"))
                    .hint(format!("resume with: {resume}")),
                None => Failure::interrupted("interrupted before the first step"),
            });
        }
        let sampler = trainer.save_weights_for_sampler(checkpoint_name(&name, last))?.path;
        let metrics = record.last_metrics();
        Ok(TrainingReport {
            steps: last,
            loss: metrics.map(|metrics| metrics.loss),
            eval_loss: metrics.and_then(|metrics| metrics.eval_loss),
            checkpoint,
            sampler,
            metrics: record.metrics_file(),
            chart: record.chart_file(),
            name,
        })
    })?;
    app.output.report(&report.table(), &report)
}

/// Adds to a failed run's hint how to continue, if it completed a step.
fn with_way_to_continue(failure: Failure, record: &RunRecord, directory: &Path, resume: &str) -> Failure {
    match record.last_checkpoint() {
        Some(checkpoint) => failure.add_hint(format!("resume from step {} with: {resume}", checkpoint.step)),
        None if record.last_metrics().is_some() => failure.add_hint(format!(
            "no checkpoint was saved, so the run cannot be resumed: delete {} to start over, and use --save-every",
            directory.display()
        )),
        None => failure,
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

/// A client for a new model, or for the model of the checkpoint that the run is resumed from.
fn training_client(
    service: &ServiceClient,
    options: &Options,
    name: &str,
    start: Option<&Checkpoint>,
) -> Result<TrainingClient, Failure> {
    if let Some(Checkpoint { path, .. }) = start {
        let trainer = service.training_client().from_state(path).with_optimizer().create()?;
        let info = trainer.get_info()?;
        let (requested, actual) = (options.base_model.as_ref(), info.model_data.model_name.or(info.model_name));
        if let Some((requested, actual)) = requested.zip(actual).filter(|(requested, actual)| *requested != actual) {
            return Err(Failure::usage(format!("the base model of the checkpoint is {actual}, not {requested}"))
                .hint("omit --base-model to use that of the checkpoint"));
        }
        return Ok(trainer);
    }
    let base_model = match &options.base_model {
        Some(name) => name.clone(),
        None => {
            let models = service.get_server_capabilities()?.supported_models;
            let mut names: Vec<String> = models.into_iter().filter_map(|model| model.model_name).collect();
            if names.len() != 1 {
                return Err(Failure::usage("no base model given")
                    .hint(format!("pass --base-model; the service has {}", names.join(", "))));
            }
            names.remove(0)
        }
    };
    let lora = LoraConfig::default().rank(options.rank).seed(options.seed);
    let trainer =
        service.create_lora_training_client(&base_model, TrainingOptions::from(lora).user_metadata("name", name));
    trainer.map_err(|error| offered::explain(error, service, &base_model))
}

fn tokenize(tokenizer: &Tokenizer, examples: &[Example], data_name: &str) -> Result<Vec<TokenizedExample>, Failure> {
    let tokenize = |example: &Example| {
        let text = template::tokenize(tokenizer, &example.segments)?;
        if text.trained_len() == 0 {
            let line = example.line;
            return Err(Failure::usage(format!("{data_name}:{line}: no tokens to train on after tokenization")));
        }
        Ok(TokenizedExample { datum: text.datum()?, tokens: text.len(), trained_tokens: text.trained_len() })
    };
    examples.iter().map(tokenize).collect()
}

fn select<'a>(examples: &'a [TokenizedExample], indices: &[usize]) -> Vec<&'a TokenizedExample> {
    indices.iter().filter_map(|&index| examples.get(index)).collect()
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

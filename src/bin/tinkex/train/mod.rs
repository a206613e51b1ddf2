//! `tinkex train`: fine-tuning from a file of examples.
//!
//! | file | what it decides |
//! |---|---|
//! | `dataset.rs` | what a line of the file means |
//! | `plan.rs` | which examples are in which step, and its learning rate |
//! | `steps.rs` | in which order steps, evaluations and checkpoints are submitted and waited for |
//! | `record.rs` | what the run leaves in its directory, and how it goes on |
//! | `progress.rs`, `chart.rs` | what a person sees |

mod chart;
mod dataset;
mod plan;
mod progress;
mod record;
mod steps;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tinkex::types::LoraConfig;
use tinkex::{ServiceClient, Tokenizer, TrainingClient, TrainingOptions};

use self::dataset::Example;
use self::plan::{Order, Schedule};
use self::progress::Progress;
use self::record::{Checkpoint, Record, Resume, Settings, checkpoint_name};
use self::steps::{Course, Lesson};
use crate::app::App;
use crate::errors::Failure;
use crate::output::Table;
use crate::{render, tokenizer};

/// Fine-tune a model on a file of examples.
///
/// Ctrl-C finishes the steps under way, saves a checkpoint, says how to go on, and exits with 130; a second one ends the
/// program at once.
#[derive(Args, Debug)]
#[command(after_long_help = FORMATS)]
pub(crate) struct Options {
    /// The examples, one JSON object on a line.
    data: PathBuf,
    /// The model to fine-tune; may be left out where the service offers one alone.
    #[arg(long, value_name = "NAME")]
    base_model: Option<String>,
    /// The name of the run, with which those of its checkpoints begin; else that of the file.
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Where metrics.jsonl, loss.svg and the list of checkpoints go; else runs/NAME.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How many steps are made.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "epochs")]
    steps: Option<u64>,
    /// How often all examples are gone through.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..1_000_000))]
    epochs: u64,
    /// How many examples make a step.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = batch_size)]
    batch_size: usize,
    /// How far a step goes.
    #[arg(long, value_name = "RATE", default_value_t = 1e-4, allow_negative_numbers = true, value_parser = positive)]
    learning_rate: f64,
    /// How the learning rate goes on.
    #[arg(long, value_name = "SCHEDULE", value_enum, default_value_t)]
    schedule: Schedule,
    /// Over how many steps the learning rate climbs at the beginning.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup_steps: u64,
    /// The rank of the LoRA adapter.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    rank: u32,
    /// Decides the order of the examples, which are kept for evaluation, and how the adapter begins.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How much is kept for evaluation, such as 0.1, besides the lines with `"split": "test"`.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true, value_parser = share)]
    eval_fraction: f64,
    /// Evaluate after each of so many steps, and after the last; else after the last alone.
    #[arg(long, value_name = "N", default_value_t = 0)]
    eval_every: u64,
    /// Save a checkpoint after each of so many steps, and after the last; else after the last alone.
    #[arg(long, value_name = "N", default_value_t = 0)]
    save_every: u64,
    /// Go on from a checkpoint: `latest`, or its path. Data, batch size, seed, tokenizer and what is evaluated must be as when
    /// the run began; model and rank are the checkpoint's.
    #[arg(long, value_name = "PATH|latest")]
    resume: Option<Resume>,
    /// Use this tokenizer in place of the model's: `bytes`, a tokenizer.json, its directory, or an id on the Hugging Face hub.
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
    /// Where stderr is no terminal, print a line for each of so many steps.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    log_every: u64,
}

const FORMATS: &str = r#"Examples:
  A line is one of
      {"prompt": "green", "completion": "eengray"}
      {"messages": [{"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello!"}]}     on one line
  Completions, or what the assistant says, are learned; the rest is only read.
  What is learned ends with the tokenizer's token for that. A line with
  "split": "test" is kept for evaluation.

  Between a prompt and its completion there is a line break, unless one of them
  has white space there. A chat is rendered as `User: text`, `Assistant: text`
  and so on, with an empty line between two messages, for every model alike: the
  chat template of a model's own tokenizer is not used. `tinkex sample --chat`
  asks in the same way.

Metrics:
  A line of metrics.jsonl is a step: step (from 1), loss (nats per token that is
  learned, before the update), eval_loss (after it, where it was evaluated),
  learning_rate, tokens and learned_tokens of the batch, tokens_per_second."#;

fn name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match !text.is_empty() && !text.starts_with('.') && text.bytes().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("expected letters, digits, `-`, `_` and `.`, and no `.` in front".to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0).ok_or("expected a number above 0".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..1.0).contains(share)).ok_or("expected a number from 0 to below 1".to_owned())
}

/// The largest that makes sense: a step is one batch in memory.
fn batch_size(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|size| (1..=1_000_000).contains(size))
        .ok_or("expected a number from 1 to 1000000".to_owned())
}

/// What came of a training.
#[derive(Serialize)]
struct Trained {
    name: String,
    steps: u64,
    /// Of the last step.
    loss: Option<f64>,
    eval_loss: Option<f64>,
    /// To go on from.
    checkpoint: Option<String>,
    /// To sample from.
    sampler: String,
    metrics: PathBuf,
    chart: PathBuf,
}

impl Trained {
    fn table(&self) -> Table {
        let number = |loss: Option<f64>| loss.map(|loss| format!("{loss:.4}"));
        let mut table = Table::properties(format!("Trained {}", self.name));
        for (name, value) in [
            ("Steps", Some(self.steps.to_string())),
            ("Loss per token", number(self.loss)),
            ("Evaluation loss", number(self.eval_loss)),
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
    let shown = options.data.display().to_string();
    let data = fs::read(&options.data).map_err(|error| Failure::usage(format!("{shown} cannot be read: {error}")))?;
    let examples = dataset::parse(&shown, &data).map_err(Failure::usage)?;
    let held_out: Vec<bool> = examples.iter().map(|example| example.held_out).collect();
    let (trained, evaluated) = plan::split(&held_out, options.eval_fraction, options.seed);
    if trained.is_empty() {
        return Err(Failure::usage(format!("{shown} keeps all examples for evaluation")));
    }
    let order = Order { examples: trained.len(), batch_size: options.batch_size, seed: options.seed };
    let steps = options.steps.unwrap_or_else(|| order.steps(options.epochs));
    let name = options.name.clone().unwrap_or_else(|| name_of(&options.data));
    let directory = options.output.clone().unwrap_or_else(|| Path::new("runs").join(&name));
    let settings = Settings {
        data_sha256: Sha256::digest(&data).iter().map(|byte| format!("{byte:02x}")).collect(),
        batch_size: options.batch_size,
        seed: options.seed,
        eval_fraction: options.eval_fraction,
        tokenizer: options.tokenizer.clone(),
    };
    let config = app.config()?;
    let (mut record, from) = match &options.resume {
        None => (Record::new(&directory, settings)?, None),
        Some(resume) => {
            let (record, from) = Record::resume(&directory, settings, resume)?;
            (record, Some(from))
        }
    };
    let done = from.as_ref().map_or(0, |checkpoint| checkpoint.step);
    if done >= steps {
        let message = format!("the checkpoint is of step {done}, and there are {steps} steps");
        return Err(Failure::usage(message).hint("raise --steps or --epochs"));
    }

    app.reach(&config)?;
    let service = ServiceClient::connect(config)?;
    let trainer = trainer(&service, options, &name, from.as_ref())?;
    let tokenizer = tokenizer::chosen(options.tokenizer.as_deref(), service.config(), || trainer.tokenizer())?;
    let lessons = lessons(&tokenizer, &examples, &shown)?;
    let (trained, evaluated) = (picked(&lessons, &trained), picked(&lessons, &evaluated));
    let course = Course {
        trainer: &trainer,
        lessons: trained,
        order,
        evaluation: evaluated,
        name: &name,
        steps,
        learning_rate: options.learning_rate,
        schedule: options.schedule,
        warmup: options.warmup_steps,
        eval_every: options.eval_every,
        save_every: options.save_every,
    };
    record.open()?;
    let progress = Progress::new(done, steps, options.log_every);
    app.interrupt.take_saying("finishing the steps under way and saving; press Ctrl-C again to stop at once");
    let again = again(env::args_os().map(|word| word.to_string_lossy().into_owned()));
    let outcome = course.run(done, &mut record, &progress, &app.interrupt);
    drop(progress);
    let drawn = record.draw(&name);
    let last = outcome.map_err(|failure| match record.checkpoint() {
        Some(checkpoint) => failure.and_hint(format!("go on from step {} with: {again}", checkpoint.step)),
        None if record.last().is_some() => failure.and_hint(format!(
            "no checkpoint was saved to go on from, which --save-every does; delete {} to begin anew",
            directory.display()
        )),
        None => failure,
    })?;
    drawn?;
    let path = record.checkpoint().map(|checkpoint| checkpoint.path.clone());
    if last < steps {
        return Err(match path {
            Some(path) => Failure::interrupted(format!("interrupted after step {last} of {steps}, saved as {path}"))
                .hint(format!("go on with: {again}")),
            None => Failure::interrupted("interrupted before the first step"),
        });
    }
    let sampler = trainer.save_weights_for_sampler(&checkpoint_name(&name, last))?.path;
    let metrics = record.last();
    let trained = Trained {
        steps: last,
        loss: metrics.map(|line| line.loss),
        eval_loss: metrics.and_then(|line| line.eval_loss),
        checkpoint: path,
        sampler,
        metrics: record.metrics_file(),
        chart: record.chart_file(),
        name,
    };
    app.output.report(&trained.table(), &trained)
}

/// The name of a file without its ending, as far as a checkpoint may have it.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let kept: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let kept = kept.trim_start_matches('.');
    if kept.is_empty() { "run".to_owned() } else { kept.to_owned() }
}

fn trainer(
    service: &ServiceClient,
    options: &Options,
    name: &str,
    from: Option<&Checkpoint>,
) -> Result<TrainingClient, Failure> {
    if let Some(Checkpoint { path, .. }) = from {
        let trainer = service.create_training_client_from_state_with_optimizer(path, &BTreeMap::new())?;
        let info = trainer.get_info()?;
        let (wanted, found) = (options.base_model.as_ref(), info.model_data.model_name.or(info.model_name));
        if let Some((wanted, found)) = wanted.zip(found).filter(|(wanted, found)| *wanted != found) {
            return Err(Failure::usage(format!("the checkpoint is of {found}, not of {wanted}"))
                .hint("leave --base-model out to go on from it"));
        }
        return Ok(trainer);
    }
    let base_model = match &options.base_model {
        Some(name) => name.clone(),
        None => {
            let offered = service.get_server_capabilities()?.supported_models;
            let mut names: Vec<String> = offered.into_iter().filter_map(|model| model.model_name).collect();
            if names.len() != 1 {
                return Err(Failure::usage("no model to fine-tune was named")
                    .hint(format!("name one with --base-model; the service offers {}", names.join(", "))));
            }
            names.remove(0)
        }
    };
    let lora = LoraConfig::default().rank(options.rank).seed(options.seed);
    Ok(service.create_lora_training_client(&base_model, TrainingOptions::from(lora).user_metadata("name", name))?)
}

fn lessons(tokenizer: &Tokenizer, examples: &[Example], shown: &str) -> Result<Vec<Lesson>, Failure> {
    let lesson = |example: &Example| {
        let tokens = render::tokens(tokenizer, &example.pieces)?;
        if tokens.weight() == 0 {
            let line = example.line;
            return Err(Failure::usage(format!("{shown}:{line}: the tokenizer leaves nothing to learn")));
        }
        Ok(Lesson { datum: tokens.datum()?, tokens: tokens.len(), learned: tokens.weight() })
    };
    examples.iter().map(lesson).collect()
}

fn picked<'a>(lessons: &'a [Lesson], places: &[usize]) -> Vec<&'a Lesson> {
    places.iter().filter_map(|&place| lessons.get(place)).collect()
}

/// The command line with which a run goes on, for a shell.
fn again(arguments: impl Iterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut skipped = false;
    for word in arguments {
        if !(std::mem::take(&mut skipped) || word.starts_with("--resume=")) {
            skipped = word == "--resume";
            if !skipped {
                words.push(quoted(&word));
            }
        }
    }
    // What follows `--` would be taken for a file.
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    words.insert(end, "--resume latest".to_owned());
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,+@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_go_on_is_the_same_one_with_resume() {
        for (line, expected) in [
            (vec!["tinkex", "train", "d.jsonl"], "tinkex train d.jsonl --resume latest"),
            (vec!["t", "train", "a b", "--seed", "1"], "t train 'a b' --seed 1 --resume latest"),
            (vec!["t", "train", "--resume", "latest", "d"], "t train d --resume latest"),
            (vec!["t", "train", "--", "-d"], "t train --resume latest -- -d"),
            (vec!["t", "train", "--resume=tinker://r/weights/x", "it's"], r"t train 'it'\''s' --resume latest"),
        ] {
            assert_eq!(again(line.into_iter().map(str::to_owned)), expected);
        }
    }

    #[test]
    fn the_name_of_a_run_is_that_of_its_file() {
        for (file, expected) in
            [("data/pig latin.jsonl", "pig-latin"), ("..", "run"), ("x", "x"), (".hidden", "hidden")]
        {
            assert_eq!(name_of(Path::new(file)), expected);
        }
    }
}

//! `tinkex run`: training runs.

use std::time::SystemTime;

use clap::builder::NonEmptyStringValueParser;
use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use tinkex::types::{AccessScope, Checkpoint, TrainingRun};

use crate::app::App;
use crate::failure::Failure;
use crate::human::{age, metadata};
use crate::listing::{Column, ColumnOptions, ListOptions};
use crate::output::Table;

/// List and show training runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// List your training runs.
    List {
        /// List only the runs of this project.
        #[arg(long, value_name = "PROJECT_ID", value_parser = NonEmptyStringValueParser::new())]
        project_id: Option<String>,
        /// List also the runs of others that you may read.
        #[arg(long)]
        accessible: bool,
        #[command(flatten)]
        columns: ColumnOptions<RunColumn>,
        #[command(flatten)]
        options: ListOptions,
    },
    /// Show a training run.
    Info {
        /// ID of the run, from `tinkex run list`.
        #[arg(value_name = "RUN_ID")]
        run_id: String,
    },
}

pub(crate) fn run(app: &App, command: &RunCommand) -> Result<(), Failure> {
    let rest = app.rest()?;
    match command {
        RunCommand::List { project_id, accessible, columns, options } => {
            let rest = if *accessible { rest.with_access_scope(AccessScope::Accessible) } else { rest };
            let (runs, scope) = match project_id {
                Some(project) => (rest.training_runs_of_project(project), format!(" of project {project}")),
                None => (rest.training_runs(), String::new()),
            };
            let runs = options.fetch(runs)?;
            let table = columns.table(runs.title("training run", "training runs", &scope), &runs.items, app.now());
            app.output.report(&table, &RunList { runs: &runs.items })
        }
        RunCommand::Info { run_id } => {
            let run = rest.get_training_run(run_id)?;
            app.output.report(&info(&run, app.now()), &run)
        }
    }
}

#[derive(Serialize)]
struct RunList<'a> {
    runs: &'a [TrainingRun],
}

/// A column of `tinkex run list`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RunColumn {
    Id,
    Model,
    Owner,
    Lora,
    Updated,
    Corrupted,
    /// Path of the last checkpoint to continue from
    Checkpoint,
    /// Path of the last checkpoint to sample from
    Sampler,
    Metadata,
}

impl Column for RunColumn {
    type Item = TrainingRun;

    const DEFAULT: &'static [Self] =
        &[RunColumn::Id, RunColumn::Model, RunColumn::Owner, RunColumn::Lora, RunColumn::Updated, RunColumn::Corrupted];

    fn title(self) -> &'static str {
        match self {
            RunColumn::Id => "Run ID",
            RunColumn::Model => "Base Model",
            RunColumn::Owner => "Owner",
            RunColumn::Lora => "LoRA",
            RunColumn::Updated => "Last Update",
            RunColumn::Corrupted => "Corrupted",
            RunColumn::Checkpoint => "Last Training Checkpoint",
            RunColumn::Sampler => "Last Sampler Checkpoint",
            RunColumn::Metadata => "Metadata",
        }
    }

    fn cell(self, run: &TrainingRun, now: SystemTime) -> String {
        let path = |checkpoint: &Option<Checkpoint>| {
            checkpoint.as_ref().map(|checkpoint| checkpoint.tinker_path.clone()).unwrap_or_default()
        };
        match self {
            RunColumn::Id => run.training_run_id.clone(),
            RunColumn::Model => run.base_model.clone(),
            RunColumn::Owner => run.model_owner.clone(),
            RunColumn::Lora => match (run.is_lora, run.lora_rank) {
                (false, _) => "No".to_owned(),
                (true, None) => "Yes".to_owned(),
                (true, Some(rank)) => format!("Rank {rank}"),
            },
            RunColumn::Updated => age(&run.last_request_time, now),
            RunColumn::Corrupted => if run.corrupted { "True" } else { "False" }.to_owned(),
            RunColumn::Checkpoint => path(&run.last_checkpoint),
            RunColumn::Sampler => path(&run.last_sampler_checkpoint),
            RunColumn::Metadata => metadata(run.user_metadata.as_ref()),
        }
    }
}

fn info(run: &TrainingRun, now: SystemTime) -> Table {
    let lora = match (run.is_lora, run.lora_rank) {
        (false, _) => "No".to_owned(),
        (true, None) => "Yes".to_owned(),
        (true, Some(rank)) => format!("Yes (Rank {rank})"),
    };
    let mut table = Table::properties(format!("Training Run: {}", run.training_run_id));
    table.row(["Run ID", &run.training_run_id]);
    table.row(["Base Model", &run.base_model]);
    table.row(["Owner", &run.model_owner]);
    table.row(["LoRA", &lora]);
    table.row(["Last Update", &age(&run.last_request_time, now)]);
    table.row(["Status", if run.corrupted { "Corrupted" } else { "Active" }]);
    let mut last = |name, checkpoint: Option<&Checkpoint>| {
        if let Some(checkpoint) = checkpoint {
            table.row([name, &checkpoint.checkpoint_id]);
            table.row(["  - Time", &age(&checkpoint.time, now)]);
            table.row(["  - Path", &checkpoint.tinker_path]);
        }
    };
    last("Last Training Checkpoint", run.last_checkpoint.as_ref());
    last("Last Sampler Checkpoint", run.last_sampler_checkpoint.as_ref());
    if let Some(metadata) = run.user_metadata.as_ref().filter(|metadata| !metadata.is_empty()) {
        table.row(["Metadata", ""]);
        for (key, value) in metadata {
            table.row([&format!("  - {key}"), value]);
        }
    }
    table
}

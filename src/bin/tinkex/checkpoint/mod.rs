//! `tinkex checkpoint`: checkpoints of training runs.

mod change;
mod download;

use std::time::SystemTime;

use clap::Subcommand;
use serde::Serialize;
use tinkex::types::{Checkpoint, CheckpointPath};

use crate::app::App;
use crate::failure::Failure;
use crate::human::{age, size};
use crate::listing::{Items, ListOptions};
use crate::output::Table;

/// List, show, publish, delete and download checkpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List the checkpoints of all your runs, or of one run.
    List {
        /// List only the checkpoints of this run, without a limit.
        #[arg(long, value_name = "RUN_ID", conflicts_with = "limit")]
        run_id: Option<String>,
        #[command(flatten)]
        options: ListOptions,
    },
    /// Show a checkpoint.
    Info {
        /// Path of the checkpoint, such as tinker://RUN_ID/weights/0001.
        #[arg(value_parser = path)]
        path: CheckpointPath,
    },
    /// Make checkpoints public: anyone can use them.
    Publish(change::Paths),
    /// Make checkpoints private again.
    Unpublish(change::Paths),
    Delete(change::Delete),
    Download(download::Download),
}

/// Parses a PATH argument.
fn path(text: &str) -> Result<CheckpointPath, String> {
    text.parse::<CheckpointPath>().map_err(|error| error.to_string())
}

pub(crate) fn run(app: &App, command: &CheckpointCommand) -> Result<(), Failure> {
    match command {
        CheckpointCommand::List { run_id, options } => {
            let rest = app.rest()?;
            let (checkpoints, scope) = match run_id {
                Some(run) => (Items::all(rest.list_checkpoints(run)?.checkpoints), format!(" for run {run}")),
                None => (options.fetch(rest.user_checkpoints())?, String::new()),
            };
            let table = list(&checkpoints, &scope, app.now());
            app.output.report(&table, &CheckpointList { checkpoints: &checkpoints.items })
        }
        CheckpointCommand::Info { path } => {
            let checkpoints = app.rest()?.list_checkpoints(path.training_run_id())?.checkpoints;
            let checkpoint = checkpoints.into_iter().find(|checkpoint| checkpoint.tinker_path == path.as_str());
            let checkpoint = checkpoint.ok_or_else(|| {
                Failure::failed(format!("checkpoint not found: {}", path.as_str())).hint(format!(
                    "list the run's checkpoints with `tinkex checkpoint list --run-id {}`",
                    path.training_run_id()
                ))
            })?;
            app.output.report(&info(&checkpoint, path.training_run_id(), app.now()), &checkpoint)
        }
        CheckpointCommand::Publish(paths) => change::publish(app, paths),
        CheckpointCommand::Unpublish(paths) => change::unpublish(app, paths),
        CheckpointCommand::Delete(delete) => change::delete(app, delete),
        CheckpointCommand::Download(download) => download::run(app, download),
    }
}

#[derive(Serialize)]
struct CheckpointList<'a> {
    checkpoints: &'a [Checkpoint],
}

fn list(checkpoints: &Items<Checkpoint>, scope: &str, now: SystemTime) -> Table {
    let columns = ["Checkpoint ID", "Type", "Size", "Public", "Created", "Path"];
    let mut table = Table::new(checkpoints.title("checkpoint", "checkpoints", scope), columns);
    for item in &checkpoints.items {
        let (size, created) = (size(item.size_bytes), age(&item.time, now));
        let kind = item.checkpoint_type.as_str();
        table.row([&item.checkpoint_id, kind, &size, yes_or_no(item.public), &created, &item.tinker_path]);
    }
    table
}

fn info(checkpoint: &Checkpoint, run_id: &str, now: SystemTime) -> Table {
    let mut table = Table::properties(format!("Checkpoint: {}", checkpoint.checkpoint_id));
    table.row(["Checkpoint ID", &checkpoint.checkpoint_id]);
    table.row(["Type", checkpoint.checkpoint_type.as_str()]);
    table.row(["Tinker Path", &checkpoint.tinker_path]);
    table.row(["Size", &size(checkpoint.size_bytes)]);
    table.row(["Public", yes_or_no(checkpoint.public)]);
    table.row(["Created", &age(&checkpoint.time, now)]);
    table.row(["Training Run ID", run_id]);
    table
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "Yes" } else { "No" }
}

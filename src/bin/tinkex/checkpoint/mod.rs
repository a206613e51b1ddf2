//! `tinkex checkpoint`: checkpoints of training runs.

mod change;
mod download;

use std::time::SystemTime;

use clap::Subcommand;
use serde::Serialize;
use tinkex::types::{Checkpoint, CheckpointPath};

use crate::app::App;
use crate::errors::Failure;
use crate::human::{age, size};
use crate::listing::{Limit, Listed};
use crate::output::Table;

/// List, show, publish, delete and download checkpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the checkpoints of all your runs, or of one.
    List {
        /// Of this run only, and all of them.
        #[arg(long, value_name = "RUN_ID", conflicts_with = "limit")]
        run_id: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a checkpoint.
    Info {
        /// Such as tinker://RUN_ID/weights/0001.
        #[arg(value_parser = path)]
        path: CheckpointPath,
    },
    /// Let everybody use checkpoints.
    Publish(change::Paths),
    /// Keep checkpoints to yourself again.
    Unpublish(change::Paths),
    Delete(change::Delete),
    Download(download::Download),
}

/// The argument that names a checkpoint.
fn path(text: &str) -> Result<CheckpointPath, String> {
    text.parse::<CheckpointPath>().map_err(|error| error.to_string())
}

pub(crate) fn run(app: &App, command: &Command) -> Result<(), Failure> {
    match command {
        Command::List { run_id, limit } => {
            let rest = app.rest()?;
            let (listed, of) = match run_id {
                Some(run) => (Listed::all(rest.list_checkpoints(run)?.checkpoints), format!(" for run {run}")),
                None => (limit.read(rest.user_checkpoints())?, String::new()),
            };
            let table = list(&listed, &of, app.now());
            app.output.report(&table, &Checkpoints { checkpoints: &listed.items })
        }
        Command::Info { path } => {
            let checkpoints = app.rest()?.list_checkpoints(path.training_run_id())?.checkpoints;
            let checkpoint = checkpoints.into_iter().find(|checkpoint| checkpoint.tinker_path == path.as_str());
            let checkpoint = checkpoint.ok_or_else(|| {
                Failure::failed(format!("{} is not among the run's checkpoints", path.as_str()))
                    .hint(format!("see `tinkex checkpoint list --run-id {}`", path.training_run_id()))
            })?;
            app.output.report(&info(&checkpoint, path.training_run_id(), app.now()), &checkpoint)
        }
        Command::Publish(paths) => change::publish(app, paths),
        Command::Unpublish(paths) => change::unpublish(app, paths),
        Command::Delete(delete) => change::delete(app, delete),
        Command::Download(download) => download::run(app, download),
    }
}

#[derive(Serialize)]
struct Checkpoints<'a> {
    checkpoints: &'a [Checkpoint],
}

fn list(listed: &Listed<Checkpoint>, of: &str, now: SystemTime) -> Table {
    let columns = ["Checkpoint ID", "Type", "Size", "Public", "Created", "Path"];
    let mut table = Table::new(listed.title("checkpoint", "checkpoints", of), columns);
    for item in &listed.items {
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

//! `tinkex checkpoint`: checkpoints of training runs.

mod change;
mod delete;
mod download;
pub(crate) mod obtain;

use std::time::SystemTime;

use clap::{Subcommand, ValueEnum};
use serde::Serialize;
use tinkex::types::{Checkpoint, CheckpointPath};

use crate::app::App;
use crate::failure::Failure;
use crate::human::{age, expiry, metadata, size};
use crate::listing::{Column, ColumnOptions, ListOptions};
use crate::output::Table;

/// List, show, publish, keep, delete and download checkpoints.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List the checkpoints of all your runs, or of one run.
    List {
        /// List only the checkpoints of this run; all of them unless --limit is given.
        #[arg(long, value_name = "RUN_ID")]
        run_id: Option<String>,
        #[command(flatten)]
        columns: ColumnOptions<CheckpointColumn>,
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
    SetTtl(change::SetTtl),
    Delete(delete::Delete),
    Download(download::Download),
}

/// Parses a PATH argument.
fn path(text: &str) -> Result<CheckpointPath, String> {
    text.parse::<CheckpointPath>().map_err(|error| error.to_string())
}

pub(crate) fn run(app: &App, command: &CheckpointCommand) -> Result<(), Failure> {
    match command {
        CheckpointCommand::List { run_id, columns, options } => {
            let rest = app.rest()?;
            let (checkpoints, scope) = match run_id {
                Some(run) => (options.limit(rest.list_checkpoints(run)?.checkpoints), format!(" for run {run}")),
                None => (options.fetch(rest.user_checkpoints())?, String::new()),
            };
            let title = checkpoints.title("checkpoint", "checkpoints", &scope);
            let table = columns.table(title, &checkpoints.items, app.now());
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
        CheckpointCommand::SetTtl(options) => change::set_ttl(app, options),
        CheckpointCommand::Delete(options) => delete::run(app, options),
        CheckpointCommand::Download(download) => download::run(app, download),
    }
}

#[derive(Serialize)]
struct CheckpointList<'a> {
    checkpoints: &'a [Checkpoint],
}

/// A column of `tinkex checkpoint list`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum CheckpointColumn {
    Id,
    Type,
    Size,
    Public,
    Created,
    Expires,
    Path,
    Metadata,
}

impl Column for CheckpointColumn {
    type Item = Checkpoint;

    const DEFAULT: &'static [Self] = &[
        CheckpointColumn::Id,
        CheckpointColumn::Type,
        CheckpointColumn::Size,
        CheckpointColumn::Public,
        CheckpointColumn::Created,
        CheckpointColumn::Expires,
        CheckpointColumn::Path,
    ];

    fn title(self) -> &'static str {
        match self {
            CheckpointColumn::Id => "Checkpoint ID",
            CheckpointColumn::Type => "Type",
            CheckpointColumn::Size => "Size",
            CheckpointColumn::Public => "Public",
            CheckpointColumn::Created => "Created",
            CheckpointColumn::Expires => "Expires",
            CheckpointColumn::Path => "Path",
            CheckpointColumn::Metadata => "Metadata",
        }
    }

    fn cell(self, checkpoint: &Checkpoint, now: SystemTime) -> String {
        match self {
            CheckpointColumn::Id => checkpoint.checkpoint_id.clone(),
            CheckpointColumn::Type => checkpoint.checkpoint_type.to_string(),
            CheckpointColumn::Size => size(checkpoint.size_bytes),
            CheckpointColumn::Public => yes_or_no(checkpoint.public).to_owned(),
            CheckpointColumn::Created => age(&checkpoint.time, now),
            CheckpointColumn::Expires => expiry(checkpoint.expires_at.as_ref(), now),
            CheckpointColumn::Path => checkpoint.tinker_path.clone(),
            CheckpointColumn::Metadata => metadata(checkpoint.user_metadata.as_ref()),
        }
    }
}

fn info(checkpoint: &Checkpoint, run_id: &str, now: SystemTime) -> Table {
    let mut table = Table::properties(format!("Checkpoint: {}", checkpoint.checkpoint_id));
    table.row(["Checkpoint ID", &checkpoint.checkpoint_id]);
    table.row(["Type", checkpoint.checkpoint_type.as_str()]);
    table.row(["Tinker Path", &checkpoint.tinker_path]);
    table.row(["Size", &size(checkpoint.size_bytes)]);
    table.row(["Public", yes_or_no(checkpoint.public)]);
    table.row(["Created", &age(&checkpoint.time, now)]);
    table.row(["Expires", &expiry(checkpoint.expires_at.as_ref(), now)]);
    table.row(["Training Run ID", run_id]);
    if let Some(entries) = checkpoint.user_metadata.as_ref().filter(|entries| !entries.is_empty()) {
        table.row(["Metadata", &metadata(Some(entries))]);
    }
    table
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "Yes" } else { "No" }
}

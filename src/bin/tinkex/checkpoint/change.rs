//! The commands that change checkpoints, one or several at once: publish, unpublish and delete.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use serde::Serialize;
use tinkex::types::CheckpointPath;

use super::path;
use crate::app::App;
use crate::failure::Failure;

#[derive(Args, Debug)]
pub(crate) struct Paths {
    /// Path of a checkpoint, such as tinker://RUN_ID/weights/0001.
    #[arg(required = true, value_name = "PATH", value_parser = path)]
    paths: Vec<CheckpointPath>,
}

/// Delete checkpoints permanently.
///
/// Asks for confirmation. If stdin is not a terminal, --yes is required.
///
/// If a checkpoint cannot be deleted, the others are deleted anyway, and the exit code is 1. With --format json, the document lists the
/// paths that are `done` and those that `failed`.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    #[command(flatten)]
    paths: Paths,
    /// Skip the confirmation prompt.
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn publish(app: &App, Paths { paths }: &Paths) -> Result<(), Failure> {
    let rest = app.rest()?;
    each(app, "published", paths, |path| rest.publish_checkpoint_from_tinker_path(path))
}

pub(crate) fn unpublish(app: &App, Paths { paths }: &Paths) -> Result<(), Failure> {
    let rest = app.rest()?;
    each(app, "unpublished", paths, |path| rest.unpublish_checkpoint_from_tinker_path(path))
}

pub(crate) fn delete(app: &App, Delete { paths: Paths { paths }, yes }: &Delete) -> Result<(), Failure> {
    let rest = app.rest()?;
    if !yes {
        confirm(paths)?;
    }
    each(app, "deleted", paths, |path| rest.delete_checkpoint_from_tinker_path(path))
}

/// Asks for confirmation on stderr.
fn confirm(paths: &[CheckpointPath]) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("cannot ask for confirmation: stdin is not a terminal; nothing was deleted")
            .hint("pass --yes to delete without confirmation"));
    }
    let mut err = io::stderr().lock();
    let mut answer = String::new();
    paths
        .iter()
        .try_for_each(|path| writeln!(err, "{}", path.as_str()))
        .and_then(|()| {
            let what = if paths.len() == 1 {
                "this checkpoint".to_owned()
            } else {
                format!("these {} checkpoints", paths.len())
            };
            write!(err, "Permanently delete {what}? [y/N]: ")
        })
        .and_then(|()| err.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Failure::failed(format!("cannot ask for confirmation: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was deleted")),
    }
}

/// The result for each path.
#[derive(Default, Serialize)]
struct ChangeReport<'a> {
    done: Vec<&'a str>,
    failed: Vec<FailedChange<'a>>,
}

#[derive(Serialize)]
struct FailedChange<'a> {
    tinker_path: &'a str,
    error: String,
}

/// Changes each checkpoint, even if one fails or stdout is closed, and reports on each: a line on stdout or an error on stderr,
/// or one JSON document at the end.
fn each(
    app: &App,
    done: &str,
    paths: &[CheckpointPath],
    change: impl Fn(&str) -> tinkex::Result<()>,
) -> Result<(), Failure> {
    let mut report = ChangeReport::default();
    let mut printed = Ok(());
    for tinker_path in paths.iter().map(CheckpointPath::as_str) {
        match change(tinker_path) {
            Ok(()) => {
                printed = printed.and_then(|()| app.output.line(&format_args!("{done} {tinker_path}")));
                report.done.push(tinker_path);
            }
            Err(error) => {
                let failure = Failure::from(error);
                report.failed.push(FailedChange { tinker_path, error: failure.message().to_owned() });
                failure.subject(tinker_path).print(app.verbose);
            }
        }
    }
    let printed = printed.and_then(|()| app.output.document(&report));
    if report.failed.is_empty() { printed } else { Err(Failure::reported()) }
}

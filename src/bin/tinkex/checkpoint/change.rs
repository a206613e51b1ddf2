//! What changes checkpoints, one or several at once: publish, unpublish and delete.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;
use serde::Serialize;
use tinkex::types::CheckpointPath;

use super::path;
use crate::app::App;
use crate::errors::Failure;

#[derive(Args, Debug)]
pub(crate) struct Paths {
    /// Such as tinker://RUN_ID/weights/0001.
    #[arg(required = true, value_name = "PATH", value_parser = path)]
    paths: Vec<CheckpointPath>,
}

/// Delete checkpoints for good.
///
/// Asks first. Without a terminal to ask on, --yes must be given. When one cannot be deleted, the others are, and the exit code is
/// 1; with --format json, the document has the paths that are `done` and those that `failed`.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    #[command(flatten)]
    paths: Paths,
    /// Do not ask.
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

/// Asks on the terminal, on stderr.
fn confirm(paths: &[CheckpointPath]) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("delete asks first, and stdin is no terminal; nothing was deleted")
            .hint("give --yes to delete without being asked"));
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
            write!(err, "Delete {what} for good? [y/N]: ")
        })
        .and_then(|()| err.flush())
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Failure::failed(format!("the answer could not be read: {error}")))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::failed("nothing was deleted")),
    }
}

/// What became of each path.
#[derive(Default, Serialize)]
struct Outcome<'a> {
    done: Vec<&'a str>,
    failed: Vec<Refused<'a>>,
}

#[derive(Serialize)]
struct Refused<'a> {
    tinker_path: &'a str,
    error: String,
}

/// Changes one checkpoint after the other, also when one fails or nobody reads what is printed, and reports on each: `done
/// PATH` on stdout and errors on stderr, or one document of those that were done and those that failed.
fn each(
    app: &App,
    done: &str,
    paths: &[CheckpointPath],
    change: impl Fn(&str) -> tinkex::Result<()>,
) -> Result<(), Failure> {
    let mut outcome = Outcome::default();
    let mut printed = Ok(());
    for tinker_path in paths.iter().map(CheckpointPath::as_str) {
        match change(tinker_path) {
            Ok(()) => {
                printed = printed.and_then(|()| app.output.line(&format_args!("{done} {tinker_path}")));
                outcome.done.push(tinker_path);
            }
            Err(error) => {
                let failure = Failure::from(error);
                outcome.failed.push(Refused { tinker_path, error: failure.message().to_owned() });
                failure.about(tinker_path).print(app.verbose);
            }
        }
    }
    let printed = printed.and_then(|()| app.output.document(&outcome));
    if outcome.failed.is_empty() { printed } else { Err(Failure::reported()) }
}

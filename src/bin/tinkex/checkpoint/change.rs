//! The commands that change checkpoints, one or several at once: publish, unpublish and set-ttl; and what delete shares.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tinkex::types::CheckpointPath;

use super::path;
use crate::app::App;
use crate::failure::Failure;
use crate::human::exact_length;
use crate::text::one_line;
use crate::time_args::lifetime;

#[derive(Args, Debug)]
pub(crate) struct Paths {
    /// Path of a checkpoint, such as tinker://RUN_ID/weights/0001.
    #[arg(required = true, value_name = "PATH", value_parser = path)]
    paths: Vec<CheckpointPath>,
}

/// Set when checkpoints expire, or keep them for good.
///
/// The service deletes a checkpoint when it expires.
#[derive(Args, Debug)]
pub(crate) struct SetTtl {
    #[command(flatten)]
    paths: Paths,
    #[command(flatten)]
    expiry: Expiry,
}

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Expiry {
    /// Delete them this long from now, such as 3600 (seconds), 12h, 7d or 4w; from 1 hour to 10 years.
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    ttl: Option<Duration>,
    /// Keep them for good.
    #[arg(long)]
    remove: bool,
}

pub(crate) fn publish(app: &App, Paths { paths }: &Paths) -> Result<(), Failure> {
    let rest = app.rest()?;
    each(app, "published", paths, CheckpointPath::as_str, |path| {
        rest.publish_checkpoint_from_tinker_path(path.as_str())
    })
}

pub(crate) fn unpublish(app: &App, Paths { paths }: &Paths) -> Result<(), Failure> {
    let rest = app.rest()?;
    each(app, "unpublished", paths, CheckpointPath::as_str, |path| {
        rest.unpublish_checkpoint_from_tinker_path(path.as_str())
    })
}

pub(crate) fn set_ttl(
    app: &App,
    SetTtl { paths: Paths { paths }, expiry: Expiry { ttl, .. } }: &SetTtl,
) -> Result<(), Failure> {
    let rest = app.rest()?;
    let done = match ttl {
        Some(ttl) => format!("set to expire in {}:", exact_length(ttl.as_secs())),
        None => "set to never expire:".to_owned(),
    };
    each(app, &done, paths, CheckpointPath::as_str, |path| {
        rest.set_checkpoint_ttl_from_tinker_path(path.as_str(), *ttl)
    })
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
/// or one JSON document at the end. `path` finds the path of a checkpoint.
pub(super) fn each<T>(
    app: &App,
    done: &str,
    checkpoints: &[T],
    path: impl Fn(&T) -> &str,
    change: impl Fn(&T) -> tinkex::Result<()>,
) -> Result<(), Failure> {
    let mut report = ChangeReport::default();
    let mut printed = Ok(());
    for checkpoint in checkpoints {
        let tinker_path = path(checkpoint);
        match change(checkpoint) {
            Ok(()) => {
                printed = printed.and_then(|()| app.output.line(&one_line(&format!("{done} {tinker_path}"))));
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

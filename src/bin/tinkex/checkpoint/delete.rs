//! `tinkex checkpoint delete`.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use tinkex::RestClient;
use tinkex::types::{Checkpoint, CheckpointPath, CheckpointType, Timestamp};

use super::change::each;
use super::path;
use crate::app::App;
use crate::confirm::{confirm, require_terminal};
use crate::failure::Failure;
use crate::human::{age, size};
use crate::time_args::point;

/// Delete checkpoints permanently, by path or by filters.
///
/// With filters, all checkpoints that match every filter are deleted. Lists the checkpoints and asks for confirmation. If stdin is not
/// a terminal, --yes is required.
///
/// If a checkpoint cannot be deleted, the others are deleted anyway, and the exit code is 1. With --format json, the document lists the
/// paths that are `done` and those that `failed`.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Path of a checkpoint, such as tinker://RUN_ID/weights/0001.
    #[arg(value_name = "PATH", value_parser = path, required_unless_present_any = FILTERS, conflicts_with_all = FILTERS)]
    paths: Vec<CheckpointPath>,
    #[command(flatten)]
    filter: Filter,
    /// Skip the confirmation prompt.
    #[arg(short, long)]
    yes: bool,
}

const FILTERS: [&str; 4] = ["run_id", "kind", "before", "after"];

#[derive(Args, Debug)]
struct Filter {
    /// Delete checkpoints of this run; of all your runs by default.
    #[arg(long, value_name = "RUN_ID", value_parser = NonEmptyStringValueParser::new())]
    run_id: Option<String>,
    /// Delete checkpoints of this type.
    #[arg(long = "type", id = "kind", value_name = "TYPE", value_enum)]
    kind: Option<Kind>,
    /// Delete checkpoints that were saved before this date or time (UTC).
    #[arg(long, value_name = "TIME", value_parser = point)]
    before: Option<Timestamp>,
    /// Delete checkpoints that were saved at or after this date or time (UTC).
    #[arg(long, value_name = "TIME", value_parser = point)]
    after: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Training,
    Sampler,
    External,
}

impl Filter {
    /// The checkpoints that match.
    fn matching(&self, rest: &RestClient) -> Result<Vec<Checkpoint>, Failure> {
        let mut checkpoints = match &self.run_id {
            Some(run) => rest.list_checkpoints(run)?.checkpoints,
            None => rest.user_checkpoints().collect::<tinkex::Result<_>>()?,
        };
        checkpoints.retain(|checkpoint| self.matches(checkpoint));
        Ok(checkpoints)
    }

    fn matches(&self, checkpoint: &Checkpoint) -> bool {
        let kind = self.kind.map(|kind| match kind {
            Kind::Training => CheckpointType::Training,
            Kind::Sampler => CheckpointType::Sampler,
            Kind::External => CheckpointType::External,
        });
        kind.is_none_or(|kind| checkpoint.checkpoint_type == kind)
            && self.before.as_ref().is_none_or(|before| checkpoint.time < *before)
            && self.after.as_ref().is_none_or(|after| checkpoint.time >= *after)
    }
}

pub(super) fn run(app: &App, Delete { paths, filter, yes }: &Delete) -> Result<(), Failure> {
    if !yes {
        require_terminal(REFUSED)?;
    }
    let rest = app.rest()?;
    if !paths.is_empty() {
        if !yes {
            let lines: Vec<String> = paths.iter().map(|path| path.as_str().to_owned()).collect();
            confirm(&lines, &question(lines.len(), None), REFUSED)?;
        }
        return each(app, "deleted", paths, CheckpointPath::as_str, |path| {
            rest.delete_checkpoint_from_tinker_path(path.as_str())
        });
    }
    let found = filter.matching(&rest)?;
    if found.is_empty() {
        app.output.note("no checkpoint matches");
    } else if !yes {
        let bytes = found.iter().filter_map(|checkpoint| checkpoint.size_bytes).fold(0, u64::saturating_add);
        let now = app.now();
        let line = |found: &Checkpoint| {
            format!("{} ({}, saved {})", found.tinker_path, size(found.size_bytes), age(&found.time, now))
        };
        let lines: Vec<String> = found.iter().map(line).collect();
        confirm(&lines, &question(lines.len(), Some(bytes)), REFUSED)?;
    }
    each(
        app,
        "deleted",
        &found,
        |checkpoint| &checkpoint.tinker_path,
        |checkpoint| match &filter.run_id {
            // A service may give paths that cannot be taken apart.
            Some(run) => rest.delete_checkpoint(run, &checkpoint.checkpoint_id),
            None => rest.delete_checkpoint_from_tinker_path(&checkpoint.tinker_path),
        },
    )
}

const REFUSED: &str = "nothing was deleted";

fn question(count: usize, bytes: Option<u64>) -> String {
    let what = if count == 1 { "this checkpoint".to_owned() } else { format!("these {count} checkpoints") };
    let size = bytes.map(|bytes| format!(" ({})", size(Some(bytes)))).unwrap_or_default();
    format!("Permanently delete {what}{size}?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_must_match() {
        let checkpoint = |kind: &str, time: &str| {
            let json = serde_json::json!({
                "checkpoint_id": "weights/a", "checkpoint_type": kind, "time": time, "tinker_path": "tinker://r/weights/a",
            });
            serde_json::from_value::<Checkpoint>(json).unwrap()
        };
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let filter = |kind, before, after| Filter { run_id: None, kind, before, after };
        for (filter, expected) in [
            (filter(None, None, None), [true; 4]),
            (filter(Some(Kind::Training), None, None), [true, true, false, false]),
            (filter(Some(Kind::External), None, None), [false, false, false, true]),
            (filter(None, time("2026-01-02"), None), [true, false, true, false]),
            (filter(None, None, time("2026-01-02")), [false, true, false, true]),
            (filter(Some(Kind::Sampler), time("2026-01-02"), time("2026-01-01")), [false, false, true, false]),
        ] {
            let all = [
                checkpoint("training", "2026-01-01T00:00:00Z"),
                checkpoint("training", "2026-01-02T00:00:00Z"),
                checkpoint("sampler", "2026-01-01T23:59:59.999Z"),
                checkpoint("external", "2026-01-02T00:00:01Z"),
            ];
            assert_eq!(all.each_ref().map(|checkpoint| filter.matches(checkpoint)), expected, "{filter:?}");
        }
    }

    #[test]
    fn the_question_counts() {
        assert_eq!(question(1, None), "Permanently delete this checkpoint?");
        assert_eq!(question(2, Some(2048)), "Permanently delete these 2 checkpoints (2.0 KB)?");
    }
}

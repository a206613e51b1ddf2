//! `tinkex run`: training runs.

use std::time::SystemTime;

use clap::Subcommand;
use serde::Serialize;
use tinkex::types::{Checkpoint, TrainingRun};

use crate::app::App;
use crate::failure::Failure;
use crate::human::age;
use crate::listing::{Items, ListOptions};
use crate::output::Table;

/// List and show training runs.
#[derive(Debug, Subcommand)]
pub(crate) enum RunCommand {
    /// List your training runs.
    List(ListOptions),
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
        RunCommand::List(options) => {
            let runs = options.fetch(rest.training_runs())?;
            app.output.report(&list(&runs, app.now()), &RunList { runs: &runs.items })
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

fn list(runs: &Items<TrainingRun>, now: SystemTime) -> Table {
    let columns = ["Run ID", "Base Model", "Owner", "LoRA", "Last Update", "Corrupted"];
    let mut table = Table::new(runs.title("training run", "training runs", ""), columns);
    for run in &runs.items {
        let lora = match (run.is_lora, run.lora_rank) {
            (false, _) => "No".to_owned(),
            (true, None) => "Yes".to_owned(),
            (true, Some(rank)) => format!("Rank {rank}"),
        };
        let corrupted = if run.corrupted { "True" } else { "False" };
        let updated = age(&run.last_request_time, now);
        table.row([&run.training_run_id, &run.base_model, &run.model_owner, &lora, &updated, corrupted]);
    }
    table
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

//! `tinkex billing`: what the service charges for.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use tinkex::types::{
    BillingEventInfo, BillingUsageEvent, BillingUsageResponse, CurrentCheckpointStorageUsageItem,
    CurrentCheckpointStorageUsageResponse, Timestamp,
};

use crate::app::App;
use crate::csv;
use crate::failure::Failure;
use crate::human::{counted, size};
use crate::output::Table;
use crate::time_args::point;

const HOUR: u64 = 3600;

/// Show what the service charges for.
///
/// Needs the key of an administrator of the organization.
#[derive(Debug, Subcommand)]
pub(crate) enum BillingCommand {
    Usage(Usage),
    CheckpointStorage(CheckpointStorage),
}

/// Show what was used, and its estimated cost.
///
/// The time is at most 14 days, from and to a whole hour. By default it is the last 7 days.
#[derive(Args, Debug)]
pub(crate) struct Usage {
    /// Start: a date, or a time on the hour [default: 7 days before the end].
    #[arg(long, value_name = "TIME", value_parser = point)]
    from: Option<Timestamp>,
    /// End, not included [default: the start of this hour].
    #[arg(long, value_name = "TIME", value_parser = point)]
    to: Option<Timestamp>,
    /// Also write the events to this CSV file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Also write the sessions of the events, with their metadata, to this CSV file.
    #[arg(long, value_name = "FILE")]
    sessions_csv: Option<PathBuf>,
}

/// Show the storage that checkpoints take now.
#[derive(Args, Debug)]
pub(crate) struct CheckpointStorage {
    /// Show only this project.
    #[arg(long, value_name = "PROJECT_ID")]
    project_id: Option<String>,
    /// Also write the table to this CSV file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

pub(crate) fn run(app: &App, command: &BillingCommand) -> Result<(), Failure> {
    match command {
        BillingCommand::Usage(options) => usage(app, options),
        BillingCommand::CheckpointStorage(options) => checkpoint_storage(app, options),
    }
}

fn usage(app: &App, Usage { from, to, csv, sessions_csv }: &Usage) -> Result<(), Failure> {
    let now = app.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let this_hour = UNIX_EPOCH + Duration::from_secs(now / HOUR * HOUR);
    let end = to.clone().unwrap_or_else(|| this_hour.into());
    let start = from.clone().unwrap_or_else(|| (end.system_time() - Duration::from_secs(7 * 24 * HOUR)).into());
    let usage = app.rest()?.get_billing_usage(&start, &end)?;
    if let Some(file) = csv {
        csv::write(file, &EVENT_COLUMNS, usage.data.iter().map(event_row))?;
    }
    if let Some(file) = sessions_csv {
        csv::write(file, &["session_id", "user_metadata"], session_rows(&usage)?)?;
    }
    app.output.report(&usage_table(&usage), &usage)
}

fn usage_table(usage: &BillingUsageResponse) -> Table {
    let cost: f64 = usage.data.iter().filter_map(|event| event.estimated_cost_usd).sum();
    let events = match usage.data.len() {
        0 => "Nothing used".to_owned(),
        count => format!("{}, ${cost:.2} estimated", counted(count as u64, "event")),
    };
    let through = usage.cost_data_through.as_ref().map(|time| format!(" (costs known up to {time})"));
    let title = events + &through.unwrap_or_default();
    let mut table = Table::new(title, ["Start", "Model", "Type", "Amount", "Session", "Project", "Cost"]);
    for event in &usage.data {
        table.row([
            &event.bucket_start.to_string(),
            event.base_model.as_deref().unwrap_or_default(),
            event.event_info.event_type.as_str(),
            &amount(&event.event_info),
            event.session_id.as_deref().unwrap_or_default(),
            event.project_id.as_deref().unwrap_or_default(),
            &dollars(event.estimated_cost_usd),
        ]);
    }
    table
}

/// How much was used, such as `123 tokens (cached)`.
fn amount(info: &BillingEventInfo) -> String {
    let amount = match (info.token_count, info.count, info.gigabyte_hours) {
        (Some(tokens), ..) => counted(tokens, "token"),
        (_, Some(count), _) => counted(count, "checkpoint"),
        (.., Some(hours)) => format!("{hours} GB hours"),
        _ => String::new(),
    };
    let note = match (info.cached, info.free) {
        (Some(true), _) => " (cached)",
        (_, Some(true)) => " (free)",
        _ => "",
    };
    amount + note
}

fn dollars(amount: Option<f64>) -> String {
    amount.map(|amount| format!("${amount:.4}")).unwrap_or_default()
}

/// The fields of an event as columns, with the names that they have in JSON.
const EVENT_COLUMNS: [&str; 16] = [
    "bucket_start",
    "bucket_end",
    "base_model",
    "user_id",
    "user_name",
    "session_id",
    "project_id",
    "estimated_cost_usd",
    "effective_rate_usd_per_million_tokens",
    "effective_rate_usd_per_gigabyte_month",
    "type",
    "token_count",
    "cached",
    "count",
    "free",
    "gigabyte_hours",
];

fn event_row(event: &BillingUsageEvent) -> Vec<String> {
    let info = &event.event_info;
    vec![
        event.bucket_start.to_string(),
        event.bucket_end.to_string(),
        shown(event.base_model.as_ref()),
        shown(event.user_id.as_ref()),
        shown(event.user_name.as_ref()),
        shown(event.session_id.as_ref()),
        shown(event.project_id.as_ref()),
        shown(event.estimated_cost_usd),
        shown(event.effective_rate_usd_per_million_tokens),
        shown(event.effective_rate_usd_per_gigabyte_month),
        info.event_type.to_string(),
        shown(info.token_count),
        shown(info.cached),
        shown(info.count),
        shown(info.free),
        shown(info.gigabyte_hours),
    ]
}

/// Each session with its metadata as JSON.
fn session_rows(usage: &BillingUsageResponse) -> Result<Vec<Vec<String>>, Failure> {
    let row = |(id, session): (&String, &tinkex::types::BillingUsageSession)| {
        let metadata = session.user_metadata.as_ref().map(serde_json::to_string).transpose();
        let metadata =
            metadata.map_err(|error| Failure::failed(format!("metadata cannot be written as JSON: {error}")))?;
        Ok(vec![id.clone(), metadata.unwrap_or_default()])
    };
    usage.sessions.iter().map(row).collect()
}

fn checkpoint_storage(app: &App, CheckpointStorage { project_id, csv }: &CheckpointStorage) -> Result<(), Failure> {
    let storage = app.rest()?.get_current_checkpoint_storage_usage(project_id.as_deref())?;
    if let Some(file) = csv {
        csv::write(file, &STORAGE_COLUMNS, storage_rows(&storage))?;
    }
    app.output.report(&storage_table(&storage), &storage)
}

fn storage_table(storage: &CurrentCheckpointStorageUsageResponse) -> Table {
    let total =
        |of: fn(&CurrentCheckpointStorageUsageItem) -> u64| storage.data.iter().map(of).fold(0, u64::saturating_add);
    let (count, bytes) = (total(|item| item.checkpoint_count), total(|item| item.size_bytes));
    let rate = storage.effective_rate_usd_per_gigabyte_month;
    let rate = rate.map(|rate| format!(" at ${rate} for a GB and month")).unwrap_or_default();
    let title = format!("{}, {}{rate}", counted(count, "checkpoint"), size(Some(bytes)));
    let mut table = Table::new(title, ["Project", "User", "Checkpoints", "Size", "Cost per Month"]);
    for item in &storage.data {
        let user = item.user_email.as_ref().or(item.user_name.as_ref()).or(item.org_user_urn.as_ref());
        table.row([
            item.project_id.as_deref().unwrap_or_default(),
            user.map(String::as_str).unwrap_or_default(),
            &item.checkpoint_count.to_string(),
            &size(Some(item.size_bytes)),
            &dollars(item.estimated_monthly_cost_usd),
        ]);
    }
    table
}

const STORAGE_COLUMNS: [&str; 9] = [
    "effective_rate_usd_per_gigabyte_month",
    "project_id",
    "org_user_urn",
    "user_email",
    "user_name",
    "checkpoint_count",
    "size_bytes",
    "size_gigabytes",
    "estimated_monthly_cost_usd",
];

fn storage_rows(storage: &CurrentCheckpointStorageUsageResponse) -> impl Iterator<Item = Vec<String>> + '_ {
    storage.data.iter().map(|item| {
        vec![
            shown(storage.effective_rate_usd_per_gigabyte_month),
            shown(item.project_id.as_ref()),
            shown(item.org_user_urn.as_ref()),
            shown(item.user_email.as_ref()),
            shown(item.user_name.as_ref()),
            item.checkpoint_count.to_string(),
            item.size_bytes.to_string(),
            item.size_gigabytes.to_string(),
            shown(item.estimated_monthly_cost_usd),
        ]
    })
}

fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

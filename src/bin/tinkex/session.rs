//! `tinkex session` and `tinkex sampler`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use tinkex::RestClient;
use tinkex::rest::DownloadOptions;
use tinkex::types::{AccessScope, SearchOwner, SessionResponse, SessionSearch, SessionStatus};

use crate::app::App;
use crate::download_bar::{DownloadBar, explain};
use crate::failure::Failure;
use crate::human::{metadata, size};
use crate::listing::ListOptions;
use crate::output::Table;
use crate::text::portable;
use crate::time_args::length;

/// List and show sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List your sessions.
    List {
        /// List also the sessions of others that you may read.
        #[arg(long)]
        accessible: bool,
        #[command(flatten)]
        options: ListOptions,
    },
    /// Show a session with its training runs and samplers.
    Info {
        /// ID of the session, from `tinkex session list`.
        #[arg(value_name = "SESSION_ID")]
        session_id: String,
    },
    ExportTrace(ExportTrace),
}

/// Export the timeline of a session's requests as a Perfetto trace.
///
/// The service builds the trace, which can take minutes. Open the file in https://ui.perfetto.dev. Ctrl-C stops the command and
/// leaves no file.
#[derive(Args, Debug)]
pub(crate) struct ExportTrace {
    /// ID of the session, from `tinkex session list`.
    #[arg(value_name = "SESSION_ID")]
    session_id: String,
    /// File to create [default: SESSION_ID.pftrace in the current directory].
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace an existing file, once the download is complete.
    #[arg(long, visible_alias = "force")]
    overwrite: bool,
    /// Print the URL of the trace, and download nothing. Whoever has the URL can read the trace.
    #[arg(long, conflicts_with_all = ["output", "overwrite"])]
    url_only: bool,
    /// How long the service may take to build the trace.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = length)]
    timeout: Duration,
}

/// Show samplers.
#[derive(Debug, Subcommand)]
pub(crate) enum SamplerCommand {
    /// Show the model that a sampler uses.
    Info {
        /// ID of the sampler, from `tinkex session info`.
        #[arg(value_name = "SAMPLER_ID")]
        sampler_id: String,
    },
}

pub(crate) fn run(app: &App, command: &SessionCommand) -> Result<(), Failure> {
    let rest = app.rest()?;
    match command {
        SessionCommand::List { accessible, options } => {
            let rest = if *accessible { rest.with_access_scope(AccessScope::Accessible) } else { rest };
            let sessions = options.fetch(rest.sessions())?;
            let mut table = Table::new(sessions.title("session", "sessions", ""), ["Session ID"]);
            sessions.items.iter().for_each(|id| table.row([id]));
            app.output.report(&table, &SessionList { sessions: &sessions.items })
        }
        SessionCommand::Info { session_id } => {
            let session = rest.get_session(session_id)?;
            let info = SessionInfo { session_id, session, status: status(app, &rest, session_id) };
            let mut table = Table::properties(format!("Session: {session_id}"));
            table.row(["Session ID", session_id]);
            if let Some(name) = &info.session.display_name {
                table.row(["Name", name]);
            }
            if let Some(status) = &info.status {
                table.row(["Status", &status_text(status)]);
            }
            if let Some(entries) = info.session.user_metadata.as_ref().filter(|entries| !entries.is_empty()) {
                table.row(["Metadata", &metadata(Some(entries))]);
            }
            info.session.training_run_ids.iter().for_each(|run| table.row(["Training Run", run]));
            info.session.sampler_ids.iter().for_each(|sampler| table.row(["Sampler", sampler]));
            app.output.report(&table, &info)
        }
        SessionCommand::ExportTrace(options) => export_trace(app, &rest, options),
    }
}

/// The status of a session. Only a search says it, which services of 2025 do not have.
fn status(app: &App, rest: &RestClient, session_id: &str) -> Option<SessionStatus> {
    let search = SessionSearch::new().session_id(session_id).owner(SearchOwner::Accessible);
    match rest.search_sessions(&search) {
        Ok(page) => page.sessions.into_iter().find(|session| session.session_id == session_id)?.status,
        Err(error) => {
            if !matches!(error.status(), Some(400..=499)) {
                app.output.note(format_args!("note: the status of the session is not known: {error}"));
            }
            None
        }
    }
}

/// Such as `client_finished: errored (out of data)`.
fn status_text(status: &SessionStatus) -> String {
    let mut text = status.status_type.to_string();
    if let Some(reason) = &status.reason {
        text = format!("{text}: {}", reason.reason_type);
    }
    match status.detail.as_ref().or(status.message.as_ref()) {
        Some(more) => format!("{text} ({more})"),
        None => text,
    }
}

#[derive(Serialize)]
struct ExportReport<'a> {
    session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

fn export_trace(app: &App, rest: &RestClient, options: &ExportTrace) -> Result<(), Failure> {
    let ExportTrace { session_id, output, overwrite, url_only, timeout } = options;
    app.output.note("the service builds the trace; this may take minutes");
    if *url_only {
        let url = rest.export_session_trace(session_id, *timeout)?;
        let report = ExportReport { session_id, url: Some(url.clone()), path: None, bytes: None };
        return app.output.report(&url, &report);
    }
    let output = output.clone().unwrap_or_else(|| PathBuf::from(portable(session_id) + ".pftrace"));
    let progress = DownloadBar::start();
    let download = DownloadOptions::new(&output).overwrite(*overwrite).timeout_preparation(*timeout);
    let download = download.progress(|at| progress.show(at));
    let canceller = download.canceller();
    app.interrupt.catch_and_call(move || canceller.cancel())?;
    let trace = rest.download_session_trace(session_id, download);
    progress.end();
    let trace = trace.map_err(|error| explain(app, &output, error))?;
    let path = trace.path.display().to_string();
    let text = format!("exported the trace of {session_id} to {path} ({})", size(Some(trace.archive_bytes)));
    let report = ExportReport { session_id, url: None, path: Some(path), bytes: Some(trace.archive_bytes) };
    app.output.report(&text, &report)
}

pub(crate) fn run_sampler(app: &App, SamplerCommand::Info { sampler_id }: &SamplerCommand) -> Result<(), Failure> {
    let sampler = app.rest()?.get_sampler(sampler_id)?;
    let mut table = Table::properties(format!("Sampler: {}", sampler.sampler_id));
    table.row(["Sampler ID", &sampler.sampler_id]);
    table.row(["Base Model", &sampler.base_model]);
    if let Some(path) = &sampler.model_path {
        table.row(["Model Path", path]);
    }
    app.output.report(&table, &sampler)
}

#[derive(Serialize)]
struct SessionList<'a> {
    sessions: &'a [String],
}

#[derive(Serialize)]
struct SessionInfo<'a> {
    session_id: &'a str,
    #[serde(flatten)]
    session: SessionResponse,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<SessionStatus>,
}

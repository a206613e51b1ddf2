//! `tinkex session` and `tinkex sampler`.

use clap::Subcommand;
use serde::Serialize;
use tinkex::types::SessionResponse;

use crate::app::App;
use crate::failure::Failure;
use crate::listing::ListOptions;
use crate::output::Table;

/// List and show sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List your sessions.
    List(ListOptions),
    /// Show a session with its training runs and samplers.
    Info {
        /// ID of the session, from `tinkex session list`.
        #[arg(value_name = "SESSION_ID")]
        session_id: String,
    },
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
        SessionCommand::List(options) => {
            let sessions = options.fetch(rest.sessions())?;
            let mut table = Table::new(sessions.title("session", "sessions", ""), ["Session ID"]);
            sessions.items.iter().for_each(|id| table.row([id]));
            app.output.report(&table, &SessionList { sessions: &sessions.items })
        }
        SessionCommand::Info { session_id } => {
            let info = SessionInfo { session_id, session: rest.get_session(session_id)? };
            let mut table = Table::properties(format!("Session: {session_id}"));
            table.row(["Session ID", session_id]);
            info.session.training_run_ids.iter().for_each(|run| table.row(["Training Run", run]));
            info.session.sampler_ids.iter().for_each(|sampler| table.row(["Sampler", sampler]));
            app.output.report(&table, &info)
        }
    }
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
}

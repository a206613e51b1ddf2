//! `tinkex session` and `tinkex sampler`.

use clap::Subcommand;
use serde::Serialize;
use tinkex::types::SessionResponse;

use crate::app::App;
use crate::errors::Failure;
use crate::listing::Limit;
use crate::output::Table;

/// List sessions, or show what belongs to one.
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// List your sessions.
    List(Limit),
    /// Show the training runs and samplers of a session.
    Info {
        /// The id of the session, as `session list` shows it.
        #[arg(value_name = "SESSION_ID")]
        session_id: String,
    },
}

/// Show samplers.
#[derive(Debug, Subcommand)]
pub(crate) enum Sampler {
    /// Show what a sampler samples from.
    Info {
        /// The id of the sampler, as `session info` shows it.
        #[arg(value_name = "SAMPLER_ID")]
        sampler_id: String,
    },
}

pub(crate) fn run(app: &App, command: &Session) -> Result<(), Failure> {
    let rest = app.rest()?;
    match command {
        Session::List(limit) => {
            let listed = limit.read(rest.sessions())?;
            let mut table = Table::new(listed.title("session", "sessions", ""), ["Session ID"]);
            listed.items.iter().for_each(|id| table.row([id]));
            app.output.report(&table, &Sessions { sessions: &listed.items })
        }
        Session::Info { session_id } => {
            let info = Info { session_id, session: rest.get_session(session_id)? };
            let mut table = Table::properties(format!("Session: {session_id}"));
            table.row(["Session ID", session_id]);
            info.session.training_run_ids.iter().for_each(|run| table.row(["Training Run", run]));
            info.session.sampler_ids.iter().for_each(|sampler| table.row(["Sampler", sampler]));
            app.output.report(&table, &info)
        }
    }
}

pub(crate) fn sampler(app: &App, Sampler::Info { sampler_id }: &Sampler) -> Result<(), Failure> {
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
struct Sessions<'a> {
    sessions: &'a [String],
}

#[derive(Serialize)]
struct Info<'a> {
    session_id: &'a str,
    #[serde(flatten)]
    session: SessionResponse,
}

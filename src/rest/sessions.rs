//! Requests about sessions.

use super::Pages;
use super::client::{RestClient, page};
use super::endpoint;
use super::found_sessions::FoundSessions;
use crate::error::{Error, Result};
use crate::http::Request;
use crate::rules::single_line;
use crate::types::wire::AssignSessionProjectRequest;
use crate::types::{Query, SessionResponse, SessionSearch, SessionSearchResponse, SessionsListResponse};

/// The maximum number of sessions in a page of a search.
const MAX_SEARCH_LIMIT: u32 = 200;

impl RestClient {
    /// The training runs and samplers of a session.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// println!("{:?}", rest.get_session("session-1")?.training_run_ids);
    /// # Ok(())
    /// # }
    /// ```
    pub fn get_session(&self, session_id: &str) -> Result<SessionResponse> {
        let operation = "get_session";
        self.get(operation, endpoint::item(operation, "sessions", session_id)?, Some(self.scoped(Query::new())))
    }

    /// Up to `limit` of the user's sessions, without the first `offset`. The Python client's default limit is 20.
    /// [`sessions`](RestClient::sessions) reads all of them.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// println!("{:?}", rest.list_sessions(20, 0)?.sessions);
    /// # Ok(())
    /// # }
    /// ```
    pub fn list_sessions(&self, limit: u64, offset: u64) -> Result<SessionsListResponse> {
        self.get("list_sessions", "sessions".to_owned(), Some(self.scoped(page(limit, offset))))
    }

    /// The ids of all the user's sessions, fetched page by page while they are read.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// for session_id in rest.sessions() {
    ///     println!("{}", session_id?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn sessions(&self) -> Pages<String> {
        Pages::new(self, |rest, limit, offset| Ok((rest.list_sessions(limit, offset)?.sessions, None)))
    }

    /// A page of the sessions that match. [`found_sessions`](RestClient::found_sessions) reads all of them.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors); [`InvalidInput`](crate::ErrorKind::InvalidInput) before any request if the
    /// limit is not from 1 to 200.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use tinkex::types::SessionSearch;
    ///
    /// let search = SessionSearch::new().display_name("sweep").limit(20);
    /// for session in rest.search_sessions(&search)?.sessions {
    ///     println!("{} {}", session.session_id, session.created_at);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn search_sessions(&self, search: &SessionSearch) -> Result<SessionSearchResponse> {
        let operation = "search_sessions";
        if !(1..=MAX_SEARCH_LIMIT).contains(&search.limit) {
            return Err(Error::invalid_input(format!("a page cannot have {} sessions", search.limit))
                .with_operation(operation)
                .with_hint("set a limit from 1 to 200"));
        }
        let projects = search.project_ids.iter().flatten().map(|project| ("the id of the project", project));
        let session = search.session_id.iter().map(|session| ("the id of the session", session));
        let name = search.display_name.iter().map(|name| ("the name of the session", name));
        projects
            .chain(session)
            .chain(name)
            .try_for_each(|(what, text)| single_line::check(what, text))
            .map_err(|error| error.with_operation(operation))?;
        self.http().send_json(Request::reading("sessions/search", &[]), &self.limits(operation), search)
    }

    /// All sessions that match, fetched page by page while they are read. The search's limit is the size of a page.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use tinkex::types::SessionSearch;
    ///
    /// for session in rest.found_sessions(SessionSearch::new().user_metadata("purpose", "eval")) {
    ///     let session = session?;
    ///     println!("{} has {} checkpoints", session.session_id, session.checkpoints_count);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn found_sessions(&self, search: SessionSearch) -> FoundSessions {
        FoundSessions::new(self, search)
    }

    /// Moves a session, with its runs and checkpoints, to a project.
    ///
    /// # Errors
    ///
    /// [As for every method](RestClient#errors).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// rest.assign_session_project("session-1", "project-1")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn assign_session_project(&self, session_id: &str, project_id: &str) -> Result<()> {
        let operation = "assign_session_project";
        let session = endpoint::item(operation, "sessions", session_id)?;
        endpoint::require_id(operation, "project", project_id)?;
        let body = AssignSessionProjectRequest { project_id: project_id.into() };
        self.put(operation, format!("{session}/project"), &body)
    }
}

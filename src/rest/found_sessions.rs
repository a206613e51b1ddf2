//! The sessions that a search finds, fetched page by page.

use std::fmt;
use std::iter::FusedIterator;
use std::vec;

use super::client::RestClient;
use crate::error::Result;
use crate::types::{SessionSearch, SessionSummary};

/// The sessions that a search finds, fetched page by page while they are read. Made by
/// [`RestClient::found_sessions`], which has an example. `next` blocks for the request and its retries.
///
/// A page that cannot be fetched is an error, and ends the list.
#[must_use = "a list is fetched while it is read"]
pub struct FoundSessions {
    rest: RestClient,
    /// The request for the next page. None after the last one.
    next: Option<SessionSearch>,
    sessions: vec::IntoIter<SessionSummary>,
}

impl FoundSessions {
    pub(super) fn new(rest: &RestClient, search: SessionSearch) -> Self {
        FoundSessions { rest: rest.clone(), next: Some(search), sessions: Vec::new().into_iter() }
    }
}

impl Iterator for FoundSessions {
    type Item = Result<SessionSummary>;

    fn next(&mut self) -> Option<Result<SessionSummary>> {
        loop {
            if let Some(session) = self.sessions.next() {
                return Some(Ok(session));
            }
            let search = self.next.take()?;
            let page = match self.rest.search_sessions(&search) {
                Ok(page) => page,
                Err(error) => return Some(Err(error)),
            };
            // A page that is empty, or leads to itself, would never end.
            let further =
                page.next_cursor.filter(|next| !page.sessions.is_empty() && search.cursor.as_ref() != Some(next));
            self.next = further.map(|cursor| search.cursor(cursor));
            self.sessions = page.sessions.into_iter();
        }
    }
}

impl FusedIterator for FoundSessions {}

impl fmt::Debug for FoundSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundSessions").field("next", &self.next).finish_non_exhaustive()
    }
}

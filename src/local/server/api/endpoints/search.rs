//! Searching sessions.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::local::server::api::body::{self, bad_request};
use crate::local::server::api::call::{Call, HandlerResult, ok};
use crate::local::server::http1::Response;
use crate::local::server::state::{Owner, Session, Tables};
use crate::types::{
    AccessScope, SearchOwner, SessionSearch, SessionSearchCursor, SessionSearchResponse, SessionStatus,
    SessionStatusQuery, SessionStatusReason, SessionStatusType, SessionSummary,
};

/// Maximum number of sessions in a page, and of users in a search.
const MAX_LIMIT: u32 = 200;
const MAX_OWNERS: usize = 10;

/// A page of the sessions that match, newest first.
pub(super) fn search(call: &Call<'_>) -> HandlerResult {
    let search: SessionSearch = body::parse(call.request)?;
    check(&search)?;
    let scope = match search.owner {
        SearchOwner::Own => AccessScope::Owned,
        SearchOwner::Accessible | SearchOwner::User { .. } => AccessScope::Accessible,
    };
    let tables = call.state.lock();
    let visible = tables.visible_sessions(&call.owner, &scope).into_iter();
    let storage = tables.storage_of_sessions(&call.owner);
    let mut found: Vec<_> = visible
        .map(|(id, session)| {
            let storage = storage.get(id.as_str()).copied().unwrap_or_default();
            tables.summary(id, session, storage, &call.owner)
        })
        .filter(|session| matches(&search, session) && is_after(search.cursor.as_ref(), session))
        .collect();
    found.sort_by_cached_key(|session| Reverse((session.created_at.clone(), session.session_id.clone())));
    let limit = search.limit as usize;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more);
    let next_cursor = last.map(|last| SessionSearchCursor {
        last_created_at: last.created_at.clone(),
        last_session_id: last.session_id.clone(),
    });
    ok(&SessionSearchResponse { sessions: found, next_cursor })
}

/// Checks what a search must not contain.
fn check(search: &SessionSearch) -> Result<(), Response> {
    let status = |query: &SessionStatusQuery| match (&query.status_type, &query.reasons) {
        (SessionStatusType::Other(word), _) => {
            Err(bad_request(format!("there is no status {word:?}: use active, cancelled, client_finished or failed")))
        }
        (SessionStatusType::ClientFinished, Some(reasons)) if reasons.is_empty() => {
            Err(bad_request("reasons is empty: leave it out to find every reason"))
        }
        (SessionStatusType::ClientFinished, Some(reasons)) => {
            let unknown =
                reasons.iter().find(|reason| !["success", "errored", "interrupted"].contains(&reason.as_str()));
            let error = |reason| format!("there is no reason {reason:?}: use success, errored or interrupted");
            unknown.map_or(Ok(()), |reason| Err(bad_request(error(reason))))
        }
        (_, Some(_)) => Err(bad_request("reasons is only for the status client_finished")),
        (_, None) => Ok(()),
    };
    if !(1..=MAX_LIMIT).contains(&search.limit) {
        return Err(bad_request(format!("limit is {}: use 1 to {MAX_LIMIT}", search.limit)));
    }
    if search.display_name.as_ref().is_some_and(String::is_empty) {
        return Err(bad_request("display_name is empty: leave it out to find every name"));
    }
    match &search.owner {
        SearchOwner::User { owner_urns } if !(1..=MAX_OWNERS).contains(&owner_urns.len()) => {
            return Err(bad_request(format!("owner_urns has {} users: use 1 to {MAX_OWNERS}", owner_urns.len())));
        }
        _ => {}
    }
    match search.statuses.as_deref() {
        Some([]) => Err(bad_request("statuses is empty: leave it out to find every status")),
        statuses => statuses.unwrap_or_default().iter().try_for_each(status),
    }
}

/// Whether a session matches. An id and a name are alternatives; all else must hold.
fn matches(search: &SessionSearch, session: &SessionSummary) -> bool {
    let is_id = search.session_id.as_ref().map(|id| *id == session.session_id);
    let is_name = search.display_name.as_ref().map(|name| has_words(session.display_name.as_deref(), name));
    let is_named = match (is_id, is_name) {
        (None, None) => true,
        (is_id, is_name) => is_id == Some(true) || is_name == Some(true),
    };
    let has_entry = |(name, value): (&String, &String)| {
        session.user_metadata.as_ref().is_some_and(|metadata| metadata.get(name) == Some(value))
    };
    let is_of_owner = match &search.owner {
        SearchOwner::Own | SearchOwner::Accessible => true,
        SearchOwner::User { owner_urns } => owner_urns.contains(&session.owner),
    };
    let projects = search.project_ids.as_ref();
    let statuses = search.statuses.as_ref();
    is_named
        && is_of_owner
        && projects.is_none_or(|projects| projects.contains(&session.project_id))
        && search.user_metadata.iter().all(has_entry)
        && statuses.is_none_or(|statuses| statuses.iter().any(|status| has_status(status, session.status.as_ref())))
}

/// Whether each word is part of the name, in either case.
fn has_words(name: Option<&str>, words: &str) -> bool {
    let name = name.map(str::to_lowercase);
    name.is_some_and(|name| words.to_lowercase().split_whitespace().all(|word| name.contains(word)))
}

fn has_status(query: &SessionStatusQuery, status: Option<&SessionStatus>) -> bool {
    status.is_some_and(|status| {
        let reason = status.reason.as_ref().map(|reason| &reason.reason_type);
        query.status_type == status.status_type
            && query.reasons.as_ref().is_none_or(|reasons| reason.is_some_and(|reason| reasons.contains(reason)))
    })
}

/// Whether a session comes after the cursor of the page before.
fn is_after(cursor: Option<&SessionSearchCursor>, session: &SessionSummary) -> bool {
    cursor.is_none_or(|cursor| {
        (&session.created_at, &session.session_id) < (&cursor.last_created_at, &cursor.last_session_id)
    })
}

impl Tables {
    /// By session, the number of checkpoints that a key may read, and their size in bytes.
    fn storage_of_sessions(&self, owner: &Owner) -> HashMap<&str, (u64, u64)> {
        let mut storage: HashMap<&str, (u64, u64)> = HashMap::new();
        for run in self.runs.keys() {
            let Some(session) = self.session_of_run(run) else { continue };
            let of_session = storage.entry(session).or_default();
            for (_, checkpoint) in self.readable_checkpoints(run, owner) {
                *of_session = (of_session.0 + 1, of_session.1 + checkpoint.size_bytes);
            }
        }
        storage
    }

    /// A session as a search shows it. Of another key's session, only what its published checkpoints say.
    fn summary(&self, id: &str, session: &Session, storage: (u64, u64), owner: &Owner) -> SessionSummary {
        let is_own = session.record.owner == *owner;
        let (checkpoints_count, bytes) = storage;
        SessionSummary {
            session_id: id.to_owned(),
            created_at: session.record.created.clone(),
            owner: session.record.owner.as_str().to_owned(),
            project_id: self.project_of_session(id).to_owned(),
            status: session.status(),
            checkpoints_count,
            display_name: session.record.display_name.clone().filter(|_| is_own),
            user_metadata: session.record.metadata().filter(|_| is_own),
            checkpoint_storage_bytes: Some(bytes),
        }
    }
}

impl Session {
    /// How the session has ended, or that it is in use; `None` if its client ended without a word.
    fn status(&self) -> Option<SessionStatus> {
        let is_active = self.is_active();
        let finish = self.record.finish.as_ref();
        let status_type = match finish {
            Some(_) => SessionStatusType::ClientFinished,
            None if is_active => SessionStatusType::Active,
            None => return None,
        };
        let reason = finish.map(|finish| SessionStatusReason {
            reason_type: finish.reason.to_string(),
            ..SessionStatusReason::default()
        });
        let detail = finish.and_then(|finish| finish.detail.as_deref().map(str::to_owned));
        Some(SessionStatus { status_type, reason, detail, category: None, message: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_each_word_in_either_case() {
        for (name, words, expected) in [
            (Some("Nightly Eval 7"), "nightly", true),
            (Some("Nightly Eval 7"), "7 EVAL", true),
            (Some("Nightly Eval 7"), "ight", true),
            (Some("Nightly Eval 7"), "nightly 8", false),
            (Some("Über uns"), "über", true),
            (None, "a", false),
        ] {
            assert_eq!(has_words(name, words), expected, "{name:?} {words:?}");
        }
    }
}

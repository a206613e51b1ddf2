//! Searching sessions, and what a search finds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Which sessions to find, for [`RestClient::search_sessions`](crate::RestClient::search_sessions) and
/// [`RestClient::found_sessions`](crate::RestClient::found_sessions). By default all of the user's own.
///
/// ```
/// use tinkex::types::{SearchOwner, SessionSearch, SessionStatusQuery, SessionStatusType};
///
/// let search = SessionSearch::new()
///     .project_ids(["p-1"])
///     .user_metadata("purpose", "eval")
///     .owner(SearchOwner::Accessible)
///     .statuses([SessionStatusQuery::new(SessionStatusType::ClientFinished).reasons(["errored"])])
///     .limit(200);
/// assert_eq!(serde_json::to_value(&search)?["owner"]["type"], "accessible");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct SessionSearch {
    /// The session's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The projects to look in; all if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_ids: Option<Vec<String>>,
    /// Metadata that the session must have.
    pub user_metadata: BTreeMap<String, String>,
    /// The session's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Whose sessions.
    pub owner: SearchOwner,
    /// The statuses that the session may have; any if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statuses: Option<Vec<SessionStatusQuery>>,
    /// The maximum number of sessions in a page, from 1 to 200.
    pub limit: u32,
    /// Where the page starts: the last page's [`next_cursor`](SessionSearchResponse::next_cursor).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<SessionSearchCursor>,
}

impl Default for SessionSearch {
    fn default() -> Self {
        SessionSearch {
            session_id: None,
            project_ids: None,
            user_metadata: BTreeMap::new(),
            display_name: None,
            owner: SearchOwner::Own,
            statuses: None,
            limit: 50,
            cursor: None,
        }
    }
}

impl SessionSearch {
    /// Finds all of the user's own sessions, in pages of 50.
    #[must_use]
    pub fn new() -> Self {
        SessionSearch::default()
    }

    /// Finds the session with this id.
    #[must_use]
    pub fn session_id(mut self, session_id: impl Into<String>) -> Self {
        self.session_id = Some(session_id.into());
        self
    }

    /// Finds sessions of these projects. Defaults to all.
    #[must_use]
    pub fn project_ids<P: Into<String>>(mut self, project_ids: impl IntoIterator<Item = P>) -> Self {
        self.project_ids = Some(project_ids.into_iter().map(Into::into).collect());
        self
    }

    /// Finds sessions with this metadata; with several calls, with all of it.
    #[must_use]
    pub fn user_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.user_metadata.insert(key.into(), value.into());
        self
    }

    /// Finds sessions with this name.
    #[must_use]
    pub fn display_name(mut self, display_name: impl Into<String>) -> Self {
        self.display_name = Some(display_name.into());
        self
    }

    /// Whose sessions are found. Defaults to the user's own.
    #[must_use]
    pub fn owner(mut self, owner: SearchOwner) -> Self {
        self.owner = owner;
        self
    }

    /// Finds sessions with one of these statuses. Defaults to any.
    #[must_use]
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = SessionStatusQuery>) -> Self {
        self.statuses = Some(statuses.into_iter().collect());
        self
    }

    /// The maximum number of sessions in a page, from 1 to 200. Defaults to 50.
    #[must_use]
    pub fn limit(mut self, sessions: u32) -> Self {
        self.limit = sessions;
        self
    }

    /// Continues after an earlier page.
    #[must_use]
    pub fn cursor(mut self, cursor: SessionSearchCursor) -> Self {
        self.cursor = Some(cursor);
        self
    }
}

/// Whose sessions to find. [`SessionSearch`] has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SearchOwner {
    /// The user's own.
    Own,
    /// All that the user may read.
    Accessible,
    /// Those of these users.
    User {
        /// The users.
        owner_urns: Vec<String>,
    },
}

open_enum! {
    /// The kind of a [`SessionStatus`].
    ///
    /// ```
    /// use tinkex::types::SessionStatusType;
    ///
    /// assert_eq!(SessionStatusType::from("client_finished"), SessionStatusType::ClientFinished);
    /// ```
    pub enum SessionStatusType {
        /// It is in use.
        Active = "active",
        /// It was cancelled.
        Cancelled = "cancelled",
        /// The client ended it.
        ClientFinished = "client_finished",
        /// It failed.
        Failed = "failed",
    }
}

/// A status to find. [`SessionSearch`] has an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionStatusQuery {
    /// The kind of the status.
    #[serde(rename = "type")]
    pub status_type: SessionStatusType,
    /// For [`ClientFinished`](SessionStatusType::ClientFinished): why, such as `success`, `errored` or `interrupted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasons: Option<Vec<String>>,
}

impl SessionStatusQuery {
    /// Finds sessions with a status of this kind.
    #[must_use]
    pub fn new(status_type: SessionStatusType) -> Self {
        SessionStatusQuery { status_type, reasons: None }
    }

    /// Why the client ended the session: `success`, `errored` or `interrupted`. Defaults to any reason.
    #[must_use]
    pub fn reasons<R: Into<String>>(mut self, reasons: impl IntoIterator<Item = R>) -> Self {
        self.reasons = Some(reasons.into_iter().map(Into::into).collect());
        self
    }
}

/// A page of the sessions that a search found: `POST sessions/search`.
///
/// ```
/// use tinkex::types::{SessionSearchResponse, SessionStatusType};
///
/// let page: SessionSearchResponse = serde_json::from_str(
///     r#"{
///         "sessions": [{
///             "session_id": "s-1",
///             "created_at": "2025-11-01T12:00:00Z",
///             "owner": "u-1",
///             "project_id": "p-1",
///             "status": {"type": "client_finished", "reason": {"type": "success"}},
///             "checkpoints_count": 1
///         }]
///     }"#,
/// )?;
/// let status = page.sessions[0].status.as_ref().unwrap();
/// assert_eq!(status.status_type, SessionStatusType::ClientFinished);
/// assert_eq!(status.reason.as_ref().unwrap().reason_type, "success");
/// assert_eq!(page.next_cursor, None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionSearchResponse {
    /// The sessions.
    pub sessions: Vec<SessionSummary>,
    /// Where the next page starts. None if this is the last.
    pub next_cursor: Option<SessionSearchCursor>,
}

/// The position of a page in what a search found. In [`SessionSearchResponse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionSearchCursor {
    /// When the last session of the page before was created.
    pub last_created_at: Timestamp,
    /// The id of that session.
    pub last_session_id: String,
}

/// A session that a search found. [`SessionSearchResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionSummary {
    /// The session's id.
    pub session_id: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// Who created it.
    pub owner: String,
    /// Its project.
    pub project_id: String,
    /// Its status.
    pub status: Option<SessionStatus>,
    /// The number of its checkpoints.
    pub checkpoints_count: u64,
    /// Its name.
    pub display_name: Option<String>,
    /// The metadata that the user gave when creating it.
    pub user_metadata: Option<BTreeMap<String, String>>,
    /// The size of its checkpoints in bytes.
    pub checkpoint_storage_bytes: Option<u64>,
}

/// The status of a session: its kind, and what this kind has. [`SessionSearchResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionStatus {
    /// The kind.
    #[serde(rename = "type")]
    pub status_type: SessionStatusType,
    /// Why the client ended it, or what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<SessionStatusReason>,
    /// More about its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Who caused a failure: `user` or `internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// The message of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Why a session ended. In [`SessionStatus`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionStatusReason {
    /// `success`, `errored` or `interrupted`; or what failed: `request`, `training_run` or `sampling_session`.
    #[serde(rename = "type")]
    pub reason_type: String,
    /// The id of the request that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The kind of the request that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_type: Option<String>,
    /// The training run that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub training_run_id: Option<String>,
    /// The sampling session that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_session_id: Option<String>,
}

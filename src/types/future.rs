//! Promises: what the server answers before a result is there.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::RequestErrorCategory;

/// What the server answers to a request whose result comes later: the id to ask for it with.
///
/// The result is asked for with a [`RetrieveFutureRequest`].
///
/// ```
/// use tinkex::types::{Promise, RetrieveFutureRequest};
///
/// let promise: Promise = serde_json::from_str(r#"{"request_id":"r-1"}"#)?;
/// assert_eq!(promise, Promise::new("r-1"));
/// let request = RetrieveFutureRequest { request_id: promise.request_id.into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"request_id":"r-1"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Promise {
    /// The id to ask for the result with.
    pub request_id: String,
    /// The model that the request is for, where the server says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
}

impl Promise {
    /// A promise with this id, for no model in particular.
    #[must_use]
    pub fn new(request_id: impl Into<String>) -> Self {
        Promise { request_id: request_id.into(), model_id: None }
    }
}

/// Asks for the result of a promise: `POST retrieve_future`. [`Promise`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetrieveFutureRequest<'a> {
    /// The id of the promise.
    pub request_id: Cow<'a, str>,
}

open_enum! {
    /// Whether the server's queue for a request is moving.
    ///
    /// ```
    /// use tinkex::types::QueueState;
    ///
    /// assert!(QueueState::from("paused_capacity").is_paused());
    /// assert!(!QueueState::Active.is_paused());
    /// assert_eq!(QueueState::from("draining"), QueueState::Other("draining".to_owned()));
    /// ```
    pub enum QueueState {
        /// It is moving.
        Active = "active",
        /// It waits because the caller has too much in flight.
        PausedRateLimit = "paused_rate_limit",
        /// It waits because the service has no free capacity.
        PausedCapacity = "paused_capacity",
    }
}

impl QueueState {
    /// Whether the queue stands still, also in a paused state that this version does not know.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.as_str().starts_with("paused_")
    }
}

/// "Not yet": the answer of `retrieve_future` while the result is not there.
///
/// ```
/// use tinkex::types::{QueueState, TryAgainResponse};
///
/// let json = r#"{"type":"try_again","request_id":"r-1","queue_state":"paused_rate_limit"}"#;
/// let answer: TryAgainResponse = serde_json::from_str(json)?;
/// assert_eq!(answer.queue_state, Some(QueueState::PausedRateLimit));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "try_again")]
#[non_exhaustive]
pub struct TryAgainResponse {
    /// The id of the promise.
    pub request_id: String,
    /// The state of the queue, where the server says so.
    pub queue_state: Option<QueueState>,
    /// Why the queue is in this state, in the server's words.
    pub queue_state_reason: Option<String>,
}

/// The answer of `retrieve_future` when the request failed for good.
///
/// ```
/// use tinkex::types::{RequestErrorCategory, RequestFailedResponse};
///
/// let answer: RequestFailedResponse = serde_json::from_str(r#"{"error":"no such token","category":"user"}"#)?;
/// assert_eq!(answer.category, RequestErrorCategory::User);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RequestFailedResponse {
    /// What went wrong, in the server's words.
    pub error: String,
    /// Whose fault it is; `Unknown` when the server does not say.
    #[serde(default)]
    pub category: RequestErrorCategory,
}

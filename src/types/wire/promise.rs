//! Promises: the server's response to a request whose result comes later.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::types::{QueueState, RequestErrorCategory};

/// The response to a request whose result comes later: the id to poll for the result with [`RetrieveFutureRequest`].
///
/// ```
/// use tinkex::types::wire::{Promise, RetrieveFutureRequest};
///
/// let promise: Promise = serde_json::from_str(r#"{"request_id":"r-1"}"#)?;
/// assert_eq!(promise, Promise::new("r-1"));
/// let request = RetrieveFutureRequest { request_id: promise.request_id.into(), allow_metadata_only: None };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"request_id":"r-1"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Promise {
    /// The id to poll for the result with. Some servers send a number, which is kept as text.
    #[serde(deserialize_with = "super::request_id::deserialize")]
    pub request_id: String,
    /// The id of the model that the request is for. Absent if the server does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// The ids of the sequences that a sample will have, in order. Absent if the server does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_sequence_ids: Option<Vec<String>>,
}

impl Promise {
    /// A promise with this id and nothing else.
    #[must_use]
    pub fn new(request_id: impl Into<String>) -> Self {
        Promise { request_id: request_id.into(), ..Promise::default() }
    }
}

/// Polls for the result of a promise: `POST retrieve_future`. [`Promise`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetrieveFutureRequest<'a> {
    /// The id of the promise.
    #[serde(deserialize_with = "super::request_id::deserialize_cow")]
    pub request_id: Cow<'a, str>,
    /// Whether the service may respond with the size of a large result in place of the result. Left out for services of 2025, which
    /// always send the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_metadata_only: Option<bool>,
}

/// The response of `retrieve_future` while the result is not ready.
///
/// ```
/// use tinkex::types::QueueState;
/// use tinkex::types::wire::TryAgainResponse;
///
/// let json = r#"{"type":"try_again","request_id":"r-1","queue_state":"paused_rate_limit"}"#;
/// let response: TryAgainResponse = serde_json::from_str(json)?;
/// assert_eq!(response.queue_state, Some(QueueState::PausedRateLimit));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "try_again")]
#[non_exhaustive]
pub struct TryAgainResponse {
    /// The id of the promise.
    #[serde(deserialize_with = "super::request_id::deserialize")]
    pub request_id: String,
    /// The state of the queue. None if the server does not say.
    pub queue_state: Option<QueueState>,
    /// The server's explanation of the queue's state.
    pub queue_state_reason: Option<String>,
}

/// The response of `retrieve_future` for a request that has failed and that the server does not retry.
///
/// ```
/// use tinkex::types::RequestErrorCategory;
/// use tinkex::types::wire::RequestFailedResponse;
///
/// let response: RequestFailedResponse = serde_json::from_str(r#"{"error":"no such token","category":"user"}"#)?;
/// assert_eq!(response.category, RequestErrorCategory::User);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RequestFailedResponse {
    /// The server's error message.
    pub error: String,
    /// Who caused the failure. Defaults to [`Unknown`](RequestErrorCategory::Unknown) if the server does not say.
    #[serde(default)]
    pub category: RequestErrorCategory,
}

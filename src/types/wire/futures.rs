//! Samples that are polled together, and those that are given up.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Asks which samples of a sampling session are finished: `POST retrieve_futures`, returns [`RetrieveFuturesResponse`]. Each
/// result is then fetched with [`RetrieveFutureRequest`](super::RetrieveFutureRequest).
///
/// ```
/// use tinkex::types::wire::{FuturesTarget, RetrieveFuturesRequest};
///
/// let target = FuturesTarget { sampling_session_id: "s".into(), cloned_sampler_id: 0 };
/// let request = RetrieveFuturesRequest { target, prev_cursor: 3, timeout: None, retrieved_request_ids: vec!["r".into()] };
/// let json = serde_json::to_value(&request)?;
/// assert_eq!(json["target"]["type"], "sampling_session");
/// assert_eq!(json["retrieved_request_ids"], serde_json::json!(["r"]));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetrieveFuturesRequest<'a> {
    /// Whose samples.
    pub target: FuturesTarget<'a>,
    /// The cursor of the last response, 0 at first: only what finished after it is returned.
    pub prev_cursor: u64,
    /// How many seconds the service may hold the request. None if it decides itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
    /// The promises whose results were fetched since, so that the service can forget them.
    pub retrieved_request_ids: Vec<Cow<'a, str>>,
}

/// Whose samples a [`RetrieveFuturesRequest`] asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "sampling_session")]
pub struct FuturesTarget<'a> {
    /// The sampling session.
    pub sampling_session_id: Cow<'a, str>,
    /// The client's number among those that share the session: its sequence numbers begin with a billion times this.
    pub cloned_sampler_id: u64,
}

/// The response of `retrieve_futures`.
///
/// ```
/// use tinkex::types::wire::RetrieveFuturesResponse;
///
/// let json = r#"{"completions":[{"state":"finished","request_id":"r-1"}],"cursor":4}"#;
/// let response: RetrieveFuturesResponse = serde_json::from_str(json)?;
/// assert_eq!((&*response.completions[0].request_id, response.cursor), ("r-1", 4));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrieveFuturesResponse {
    /// What finished after the cursor of the request.
    pub completions: Vec<FutureCompletion>,
    /// The cursor for the next request.
    pub cursor: u64,
}

/// A promise whose result, or failure, can be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FutureCompletion {
    /// `finished` or `failed`.
    #[serde(default)]
    pub state: String,
    /// The id of the promise.
    #[serde(deserialize_with = "super::request_id::deserialize")]
    pub request_id: String,
    /// The size of the result in bytes. None if the service does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_payload_uncompressed_size: Option<u64>,
}

/// Tells the service that nobody will fetch a result: `POST cancel_future`.
///
/// ```
/// use tinkex::types::wire::CancelFutureRequest;
///
/// let request = CancelFutureRequest { request_id: "r-1".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"request_id":"r-1"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelFutureRequest<'a> {
    /// The id of the promise.
    pub request_id: Cow<'a, str>,
}

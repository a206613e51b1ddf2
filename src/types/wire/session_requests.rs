//! Creating sessions and sampling sessions, and keeping them alive.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::{FinishReason, TokenizerPackage};

/// Creates a session: `POST create_session`, returns [`CreateSessionResponse`].
///
/// ```
/// use tinkex::types::wire::{CreateSessionRequest, CreateSessionResponse};
///
/// let tags = ["nightly".to_owned()];
/// let request = CreateSessionRequest { tags: (&tags[..]).into(), sdk_version: "0.4.1".into(), ..Default::default() };
/// assert_eq!(
///     serde_json::to_string(&request)?,
///     r#"{"type":"create_session","tags":["nightly"],"user_metadata":null,"sdk_version":"0.4.1"}"#
/// );
/// let response: CreateSessionResponse = serde_json::from_str(r#"{"session_id":"s-1","info_message":"welcome"}"#)?;
/// assert_eq!((response.session_id.as_str(), response.info_message.as_deref()), ("s-1", Some("welcome")));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "create_session")]
pub struct CreateSessionRequest<'a> {
    /// Tags to find the session by.
    pub tags: Cow<'a, [String]>,
    /// Metadata to store with the session; null if none.
    pub user_metadata: Option<Cow<'a, BTreeMap<String, String>>>,
    /// The version of the protocol that the client speaks.
    pub sdk_version: Cow<'a, str>,
    /// The project that the session belongs to. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<Cow<'a, str>>,
    /// The name of the session for people. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Cow<'a, str>>,
}

/// The response to [`CreateSessionRequest`], which has an example. The client logs the messages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CreateSessionResponse {
    /// The id of the session.
    pub session_id: String,
    /// A message to log at level info.
    pub info_message: Option<String>,
    /// A message to log at level warn.
    pub warning_message: Option<String>,
    /// A message to log at level error.
    pub error_message: Option<String>,
}

/// Ends a session: `POST sessions/ID/finish`, returns nothing. The first one counts.
///
/// ```
/// use tinkex::types::FinishReason;
/// use tinkex::types::wire::FinishSessionRequest;
///
/// let request = FinishSessionRequest { reason: FinishReason::Errored, detail: Some("out of data".into()) };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"reason":{"type":"errored"},"detail":"out of data"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishSessionRequest<'a> {
    /// Why the session has ended.
    pub reason: FinishReason,
    /// More about it; null if none.
    pub detail: Option<Cow<'a, str>>,
}

/// Keeps a session alive: `POST session_heartbeat`, every 10 s, returns [`HeartbeatResponse`].
///
/// ```
/// use tinkex::types::wire::{HeartbeatRequest, HeartbeatResponse};
///
/// let request = HeartbeatRequest { session_id: "s-1".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"type":"session_heartbeat","session_id":"s-1"}"#);
/// let _response: HeartbeatResponse = serde_json::from_str(r#"{"type":"session_heartbeat"}"#)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "session_heartbeat")]
pub struct HeartbeatRequest<'a> {
    /// The id of the session.
    pub session_id: Cow<'a, str>,
}

/// The response to [`HeartbeatRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "session_heartbeat")]
#[non_exhaustive]
pub struct HeartbeatResponse {}

/// Creates a session to sample in: `POST create_sampling_session`, returns [`CreateSamplingSessionResponse`] without
/// a promise.
///
/// ```
/// use tinkex::types::wire::{CreateSamplingSessionRequest, CreateSamplingSessionResponse};
///
/// let request = CreateSamplingSessionRequest {
///     session_id: "s-1".into(),
///     base_model: Some("Qwen/Qwen3-8B".into()),
///     ..CreateSamplingSessionRequest::default()
/// };
/// let json = serde_json::to_string(&request)?;
/// assert!(json.ends_with(r#""base_model":"Qwen/Qwen3-8B","model_path":null}"#));
/// let response: CreateSamplingSessionResponse = serde_json::from_str(r#"{"sampling_session_id":"s-1:sample:0"}"#)?;
/// assert_eq!(response.sampling_session_id, "s-1:sample:0");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "create_sampling_session")]
pub struct CreateSamplingSessionRequest<'a> {
    /// The id of the session.
    pub session_id: Cow<'a, str>,
    /// The number of the sampling session in the session, from 0.
    pub sampling_session_seq_id: u64,
    /// The base model to sample from; null if none.
    pub base_model: Option<Cow<'a, str>>,
    /// The tinker path of the weights to sample from; null if none.
    pub model_path: Option<Cow<'a, str>>,
}

/// The response to [`CreateSamplingSessionRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CreateSamplingSessionResponse {
    /// The id of the sampling session.
    pub sampling_session_id: String,
    /// The files of its tokenizer, if the service itself has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_package: Option<TokenizerPackage>,
}

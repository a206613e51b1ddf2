//! Sampling in a session that another process has opened.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ClientConfig, ClientDynamicConfig};

/// What a handle of a sampling client has in it: URL-safe base64 of this as JSON, the same as the Python client's.
///
/// ```
/// use tinkex::types::wire::SamplerHandle;
///
/// let handle: SamplerHandle = serde_json::from_str(
///     r#"{
///         "session_id": "s-1", "sampling_session_id": "s-1:sample:0", "base_model": "Qwen/Qwen3-8B",
///         "holder": {"base_url": "http://127.0.0.1:8000", "client_config": {"sample_join_sampling_session": true}}
///     }"#,
/// )?;
/// assert_eq!(handle.sampling_session_id, "s-1:sample:0");
/// assert!(handle.holder.client_config.is_some_and(|config| config.sample_join_sampling_session));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SamplerHandle {
    /// The id of the session, which the process that opened it keeps alive.
    pub session_id: String,
    /// The id of the sampling session.
    pub sampling_session_id: String,
    /// The service.
    pub holder: SamplerHandleHolder,
    /// The name of the base model; null if it is not known.
    pub base_model: Option<String>,
    /// Whether the service keeps data of the samples. Defaults to false.
    #[serde(default)]
    pub record_stability_info: bool,
}

/// The service of a [`SamplerHandle`], which has an example. `Debug` shows neither values of headers nor a key.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SamplerHandleHolder {
    /// The base URL of the service.
    pub base_url: String,
    /// Headers. This client writes none: they may hold secrets.
    #[serde(default)]
    pub default_headers_overrides: BTreeMap<String, String>,
    /// The settings of the service; null if it has none.
    #[serde(default)]
    pub client_config: Option<ClientConfig>,
    /// The settings of the service that may change; null if it has none.
    #[serde(default)]
    pub client_dynamic_config: Option<ClientDynamicConfig>,
    /// Always null: whoever opens the handle has a key.
    #[serde(default)]
    pub api_key: Option<String>,
}

impl fmt::Debug for SamplerHandleHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&String> = self.default_headers_overrides.keys().collect();
        f.debug_struct("SamplerHandleHolder")
            .field("base_url", &self.base_url)
            .field("default_headers_overrides", &headers)
            .field("client_config", &self.client_config)
            .field("client_dynamic_config", &self.client_dynamic_config)
            .field("api_key", &self.api_key.as_ref().map(|_| "..."))
            .finish()
    }
}

/// Asks for the number of a further client of a sampling session: `POST join_sampling_session`, returns
/// [`JoinSamplingSessionResponse`].
///
/// ```
/// use tinkex::types::wire::{JoinSamplingSessionRequest, JoinSamplingSessionResponse};
///
/// let request = JoinSamplingSessionRequest { sampling_session_id: "s-1:sample:0".into() };
/// let json = r#"{"type":"join_sampling_session","sampling_session_id":"s-1:sample:0"}"#;
/// assert_eq!(serde_json::to_string(&request)?, json);
/// let response: JoinSamplingSessionResponse = serde_json::from_str(r#"{"client_counter":1}"#)?;
/// assert_eq!(response.client_counter, 1);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "join_sampling_session")]
pub struct JoinSamplingSessionRequest<'a> {
    /// The id of the sampling session.
    pub sampling_session_id: Cow<'a, str>,
}

/// The response to [`JoinSamplingSessionRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JoinSamplingSessionResponse {
    /// The number of the client, from 1: the client that opened the sampling session has 0.
    pub client_counter: u64,
}

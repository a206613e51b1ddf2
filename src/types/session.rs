//! Sessions and samplers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::TokenizerPackage;

/// A page of the user's sessions: `GET sessions`.
///
/// [`RestClient`](crate::RestClient) fetches the [`SessionResponse`] for each id, and then the
/// [`TrainingRun`](super::TrainingRun)s and [`SamplerResponse`]s that it names.
///
/// ```
/// use tinkex::types::{SamplerResponse, SessionResponse, SessionsListResponse};
///
/// let sessions: SessionsListResponse = serde_json::from_str(r#"{"sessions":["s-1"]}"#)?;
/// assert_eq!(sessions.sessions, ["s-1"]);
/// let session: SessionResponse = serde_json::from_str(r#"{"training_run_ids":["run-1"],"sampler_ids":["s-1:0"]}"#)?;
/// assert_eq!(session.sampler_ids, ["s-1:0"]);
/// let sampler: SamplerResponse = serde_json::from_str(r#"{"sampler_id":"s-1:0","base_model":"Qwen/Qwen3-8B"}"#)?;
/// assert_eq!(sampler.model_path, None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionsListResponse {
    /// The ids of the sessions.
    pub sessions: Vec<String>,
}

/// The training runs and samplers of a session: `GET sessions/{id}`. [`SessionsListResponse`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionResponse {
    /// The ids of the training runs.
    pub training_run_ids: Vec<String>,
    /// The ids of the samplers.
    pub sampler_ids: Vec<String>,
    /// The metadata that the user gave when creating the session.
    pub user_metadata: Option<BTreeMap<String, String>>,
    /// The name that the user gave to the session.
    pub display_name: Option<String>,
}

/// A sampler: `GET samplers/{id}`. [`SessionsListResponse`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SamplerResponse {
    /// The id of the sampler.
    pub sampler_id: String,
    /// The base model.
    pub base_model: String,
    /// The tinker path of the weights. None if the sampler uses the base model.
    pub model_path: Option<String>,
    /// The files of its tokenizer, if the service itself has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_package: Option<TokenizerPackage>,
}

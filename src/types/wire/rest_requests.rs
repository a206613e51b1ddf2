//! The bodies of REST requests, and the responses that only the client itself reads.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Sets when a checkpoint expires: `PUT training_runs/{run}/checkpoints/{id}/ttl`.
///
/// ```
/// use tinkex::types::wire::SetCheckpointTtlRequest;
///
/// assert_eq!(serde_json::to_string(&SetCheckpointTtlRequest { ttl_seconds: None })?, r#"{"ttl_seconds":null}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetCheckpointTtlRequest {
    /// The seconds from now on; null for never. It must be there.
    #[serde(deserialize_with = "Option::deserialize")]
    pub ttl_seconds: Option<u64>,
}

/// Moves a session to a project: `PUT sessions/{id}/project`.
///
/// ```
/// use tinkex::types::wire::AssignSessionProjectRequest;
///
/// let request = AssignSessionProjectRequest { project_id: "p-2".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"project_id":"p-2"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AssignSessionProjectRequest<'a> {
    /// The project.
    pub project_id: Cow<'a, str>,
}

/// Copies a checkpoint to a project: `POST copy_weights`, returns [`CopyWeightsResponse`].
///
/// ```
/// use tinkex::types::wire::CopyWeightsRequest;
///
/// let request = CopyWeightsRequest {
///     destination_project_id: "p-1".into(),
///     source_path: "tinker://run-1/weights/0001".into(),
///     ttl_seconds: None,
/// };
/// let json = r#"{"destination_project_id":"p-1","source_path":"tinker://run-1/weights/0001"}"#;
/// assert_eq!(serde_json::to_string(&request)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CopyWeightsRequest<'a> {
    /// The project to copy to.
    pub destination_project_id: Cow<'a, str>,
    /// The path of the checkpoint.
    pub source_path: Cow<'a, str>,
    /// The seconds after which the copy expires. Not sent if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
}

/// The response to [`CopyWeightsRequest`].
///
/// ```
/// use tinkex::types::wire::CopyWeightsResponse;
///
/// let response: CopyWeightsResponse = serde_json::from_str(r#"{"tinker_path":"tinker://run-2/weights/copied"}"#)?;
/// assert_eq!(response.tinker_path, "tinker://run-2/weights/copied");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CopyWeightsResponse {
    /// The path of the copy.
    pub tinker_path: String,
}

/// The response to `GET sessions/{id}/trace_export`. `Debug` shows no URL.
///
/// ```
/// use tinkex::types::wire::TraceExportResponse;
///
/// let response: TraceExportResponse = serde_json::from_str(r#"{"status":"pending"}"#)?;
/// assert_eq!((&*response.status, response.url), ("pending", None));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceExportResponse {
    /// `pending`, `ready` or `failed`.
    pub status: String,
    /// The signed URL of the trace, once it is ready.
    pub url: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl fmt::Debug for TraceExportResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceExportResponse")
            .field("status", &self.status)
            .field("url", &self.url.as_ref().map(|_| "..."))
            .field("error", &self.error)
            .finish()
    }
}

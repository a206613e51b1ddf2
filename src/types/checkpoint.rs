//! Checkpoints: saved weights.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Cursor, OptimizerConfig, Timestamp};

open_enum! {
    /// The purpose of a checkpoint.
    ///
    /// ```
    /// use tinkex::types::CheckpointType;
    ///
    /// assert_eq!(CheckpointType::Training.as_str(), "training");
    /// assert_eq!(CheckpointType::from("sampler"), CheckpointType::Sampler);
    /// assert!(matches!(CheckpointType::from("archive"), CheckpointType::Other(_)));
    /// ```
    pub enum CheckpointType {
        /// For continuing training: weights and optimizer state.
        Training = "training",
        /// For sampling: weights only.
        Sampler = "sampler",
        /// For use elsewhere: an adapter in a portable format.
        External = "external",
    }
}

/// A saved checkpoint. [`CheckpointsListResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The part of the tinker path after the run: `weights/NAME`, `sampler_weights/NAME` or `external_weights/NAME`.
    pub checkpoint_id: String,
    /// The purpose.
    pub checkpoint_type: CheckpointType,
    /// When the checkpoint was saved.
    pub time: Timestamp,
    /// The tinker path.
    pub tinker_path: String,
    /// The size in bytes.
    pub size_bytes: Option<u64>,
    /// Whether the checkpoint is published. Defaults to false.
    #[serde(default)]
    pub public: bool,
    /// The metadata that the user gave when saving.
    pub user_metadata: Option<BTreeMap<String, String>>,
    /// When the service deletes the checkpoint. None for never, and from services that do not say.
    pub expires_at: Option<Timestamp>,
}

/// A page of the user's checkpoints (`GET checkpoints`), or the checkpoints of one run
/// (`GET training_runs/{run}/checkpoints`).
///
/// ```
/// use tinkex::types::{CheckpointPath, CheckpointType, CheckpointsListResponse};
///
/// let page: CheckpointsListResponse = serde_json::from_str(
///     r#"{
///         "checkpoints": [{
///             "checkpoint_id": "weights/0001",
///             "checkpoint_type": "training",
///             "time": "2025-11-01T10:00:00Z",
///             "tinker_path": "tinker://run-1/weights/0001",
///             "size_bytes": 4096
///         }],
///         "cursor": {"offset": 0, "limit": 100, "total_count": 1}
///     }"#,
/// )
/// .unwrap();
/// let checkpoint = &page.checkpoints[0];
/// assert_eq!(checkpoint.checkpoint_type, CheckpointType::Training);
/// assert_eq!(checkpoint.time.unix_seconds(), 1_761_991_200);
/// assert_eq!(checkpoint.tinker_path.parse::<CheckpointPath>()?.training_run_id(), "run-1");
/// assert!(!checkpoint.public);
/// assert!(page.cursor.is_some_and(|cursor| cursor.offset + 1 == cursor.total_count));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointsListResponse {
    /// The checkpoints.
    pub checkpoints: Vec<Checkpoint>,
    /// The position of the page in the whole list. None if the list is complete.
    pub cursor: Option<Cursor>,
}

/// The URL of a checkpoint's archive, which is valid for a limited time. `Debug` does not show it.
///
/// ```
/// use tinkex::types::CheckpointArchiveUrlResponse;
///
/// let json = r#"{"url":"https://example.com/archive.tar.gz?sig=x","expires":"2025-11-01T10:15:00Z"}"#;
/// let archive: CheckpointArchiveUrlResponse = serde_json::from_str(json)?;
/// assert_eq!(archive.expires.to_string(), "2025-11-01T10:15:00Z");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointArchiveUrlResponse {
    /// The signed URL.
    pub url: String,
    /// When the URL expires.
    pub expires: Timestamp,
}

impl fmt::Debug for CheckpointArchiveUrlResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointArchiveUrlResponse").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A saved checkpoint's path, from [`TrainingClient::save_state`](crate::TrainingClient::save_state) and
/// [`save_weights_for_sampler`](crate::TrainingClient::save_weights_for_sampler).
///
/// ```
/// use tinkex::types::SaveWeightsResponse;
///
/// let response: SaveWeightsResponse = serde_json::from_str(r#"{"path":"tinker://run-1/weights/0001"}"#)?;
/// assert_eq!(response.path, "tinker://run-1/weights/0001");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SaveWeightsResponse {
    /// The checkpoint's tinker path, `tinker://RUN/weights/NAME` or `tinker://RUN/sampler_weights/NAME`.
    pub path: String,
}

/// Confirms that a checkpoint was loaded, from [`TrainingClient::load_state`](crate::TrainingClient::load_state).
///
/// ```
/// use tinkex::types::LoadWeightsResponse;
///
/// let response: LoadWeightsResponse = serde_json::from_str("{}")?;
/// assert_eq!(response.path, None);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LoadWeightsResponse {
    /// The tinker path that was loaded. None if the server does not say.
    pub path: Option<String>,
    /// The id of the model, if the load created it. None if the server does not say.
    pub model_id: Option<String>,
}

/// The path and size of weights outside the service's own format, from
/// [`TrainingClient::save_weights_external`](crate::TrainingClient::save_weights_external).
///
/// ```
/// use tinkex::types::SaveWeightsExternalResponse;
///
/// let json = r#"{"path":"tinker://run-1/external_weights/release-1","size_bytes":4096}"#;
/// let response: SaveWeightsExternalResponse = serde_json::from_str(json)?;
/// assert_eq!(response.size_bytes, Some(4096));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SaveWeightsExternalResponse {
    /// The path of the weights, `tinker://RUN/external_weights/NAME`.
    pub path: String,
    /// The size of the files in bytes. None if the server does not say.
    pub size_bytes: Option<u64>,
}

/// The base model and the adapter of saved weights, from
/// [`RestClient::get_weights_info_by_tinker_path`](crate::RestClient::get_weights_info_by_tinker_path).
///
/// ```
/// use tinkex::types::WeightsInfoResponse;
///
/// let response = r#"{"base_model":"Qwen/Qwen3-8B","is_lora":true,"lora_rank":32,"train_mlp":true}"#;
/// let info: WeightsInfoResponse = serde_json::from_str(response)?;
/// assert_eq!((info.lora_rank, info.train_mlp, info.train_attn), (Some(32), Some(true), None));
/// assert_eq!(info.optimizer_config.name(), "adamw");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WeightsInfoResponse {
    /// The base model.
    pub base_model: String,
    /// Whether the weights are a LoRA adapter.
    pub is_lora: bool,
    /// The rank of the adapter.
    pub lora_rank: Option<u32>,
    /// The optimizer that trained the weights. Defaults to AdamW, the only one of servers that do not say.
    #[serde(default)]
    pub optimizer_config: OptimizerConfig,
    /// Whether the adapter has weights for the unembedding layer. None if the server does not say.
    pub train_unembed: Option<bool>,
    /// Whether the adapter has weights for the MLP layers. None if the server does not say.
    pub train_mlp: Option<bool>,
    /// Whether the adapter has weights for the attention layers. None if the server does not say.
    pub train_attn: Option<bool>,
}

//! Training runs and checkpoints, as the REST part of the API lists them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;

open_enum! {
    /// What a checkpoint is for.
    ///
    /// ```
    /// use tinkex::types::CheckpointType;
    ///
    /// assert_eq!(CheckpointType::Training.as_str(), "training");
    /// assert_eq!(CheckpointType::from("sampler"), CheckpointType::Sampler);
    /// assert!(matches!(CheckpointType::from("archive"), CheckpointType::Other(_)));
    /// ```
    pub enum CheckpointType {
        /// To go on training from: weights and optimizer state.
        Training = "training",
        /// To sample from: weights only.
        Sampler = "sampler",
    }
}

/// A saved checkpoint. [`CheckpointsListResponse`] has an example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Checkpoint {
    /// What follows the run in the tinker path: `weights/NAME` or `sampler_weights/NAME`.
    pub checkpoint_id: String,
    /// What it is for.
    pub checkpoint_type: CheckpointType,
    /// When it was saved.
    pub time: Timestamp,
    /// Its tinker path.
    pub tinker_path: String,
    /// Its size in bytes.
    pub size_bytes: Option<u64>,
    /// Whether it is published. Defaults to false.
    #[serde(default)]
    pub public: bool,
}

/// A training run: `GET training_runs/{run}`.
///
/// ```
/// use tinkex::types::{TrainingRun, TrainingRunsResponse};
///
/// let json = r#"{
///     "training_run_id": "run-1",
///     "base_model": "Qwen/Qwen3-8B",
///     "model_owner": "me",
///     "is_lora": true,
///     "lora_rank": 32,
///     "last_request_time": "2025-11-01T10:00:00Z"
/// }"#;
/// let run: TrainingRun = serde_json::from_str(json)?;
/// assert_eq!((run.lora_rank, run.corrupted, run.last_checkpoint), (Some(32), false, None));
///
/// // A list has them in pages.
/// let page = format!(r#"{{"training_runs":[{json}],"cursor":{{"offset":0,"limit":20,"total_count":1}}}}"#);
/// let page: TrainingRunsResponse = serde_json::from_str(&page)?;
/// assert_eq!(page.training_runs.len() as u64, page.cursor.total_count);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingRun {
    /// The run.
    pub training_run_id: String,
    /// The base model.
    pub base_model: String,
    /// Who owns the run.
    pub model_owner: String,
    /// Whether a LoRA adapter is trained.
    pub is_lora: bool,
    /// Whether the run is damaged and cannot be continued. Defaults to false.
    #[serde(default)]
    pub corrupted: bool,
    /// The rank of the adapter.
    pub lora_rank: Option<u32>,
    /// When the run last had a request.
    pub last_request_time: Timestamp,
    /// The last checkpoint to train from.
    pub last_checkpoint: Option<Checkpoint>,
    /// The last checkpoint to sample from.
    pub last_sampler_checkpoint: Option<Checkpoint>,
    /// What the user attached when the model was created.
    pub user_metadata: Option<BTreeMap<String, String>>,
}

/// Where a page lies in the whole list. [`CheckpointsListResponse`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cursor {
    /// The number of items before the page.
    pub offset: u64,
    /// The most items in a page.
    pub limit: u64,
    /// The number of items in all.
    pub total_count: u64,
}

/// A page of training runs: `GET training_runs`. [`TrainingRun`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingRunsResponse {
    /// The runs.
    pub training_runs: Vec<TrainingRun>,
    /// Where the page lies.
    pub cursor: Cursor,
}

/// A page of checkpoints: `GET checkpoints`, or of one run: `GET training_runs/{run}/checkpoints`.
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
/// assert_eq!(CheckpointPath::parse(&checkpoint.tinker_path)?.training_run_id(), "run-1");
/// assert!(!checkpoint.public);
/// assert!(page.cursor.is_some_and(|cursor| cursor.offset + 1 == cursor.total_count));
/// # Ok::<(), tinkex::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointsListResponse {
    /// The checkpoints.
    pub checkpoints: Vec<Checkpoint>,
    /// Where the page lies; none when the list is whole.
    pub cursor: Option<Cursor>,
}

/// Where the archive of a checkpoint can be fetched for a while.
///
/// ```
/// use tinkex::types::CheckpointArchiveUrlResponse;
///
/// let json = r#"{"url":"https://example.com/archive.tar.gz?sig=x","expires":"2025-11-01T10:15:00Z"}"#;
/// let archive: CheckpointArchiveUrlResponse = serde_json::from_str(json)?;
/// assert_eq!(archive.expires.to_string(), "2025-11-01T10:15:00Z");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointArchiveUrlResponse {
    /// The signed URL.
    pub url: String,
    /// When it stops working.
    pub expires: Timestamp,
}

/// A page of the user's sessions: `GET sessions`.
///
/// Each id leads to a [`SessionResponse`], and that one's to [`TrainingRun`]s and [`SamplerResponse`]s.
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

/// What belongs to a session: `GET sessions/{id}`. [`SessionsListResponse`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionResponse {
    /// The ids of its training runs.
    pub training_run_ids: Vec<String>,
    /// The ids of its samplers.
    pub sampler_ids: Vec<String>,
}

/// A sampler: `GET samplers/{id}`. [`SessionsListResponse`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SamplerResponse {
    /// The sampler.
    pub sampler_id: String,
    /// The base model.
    pub base_model: String,
    /// The tinker path of its weights; none when it samples from the base model.
    pub model_path: Option<String>,
}

/// Asks about weights: `POST weights_info`, answered by [`WeightsInfoResponse`].
///
/// ```
/// use tinkex::types::{WeightsInfoRequest, WeightsInfoResponse};
///
/// let request = WeightsInfoRequest { tinker_path: "tinker://run-1/weights/0001".into() };
/// assert_eq!(serde_json::to_string(&request)?, r#"{"tinker_path":"tinker://run-1/weights/0001"}"#);
/// let answer = r#"{"base_model":"Qwen/Qwen3-8B","is_lora":true,"lora_rank":32}"#;
/// let info: WeightsInfoResponse = serde_json::from_str(answer)?;
/// assert_eq!(info.lora_rank, Some(32));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightsInfoRequest<'a> {
    /// The tinker path of the weights.
    pub tinker_path: Cow<'a, str>,
}

/// The answer to [`WeightsInfoRequest`], which has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WeightsInfoResponse {
    /// The base model.
    pub base_model: String,
    /// Whether the weights are a LoRA adapter.
    pub is_lora: bool,
    /// The rank of the adapter.
    pub lora_rank: Option<u32>,
}

//! Training runs, and pages of lists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Checkpoint, Timestamp};

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
/// // Lists come in pages.
/// let page = format!(r#"{{"training_runs":[{json}],"cursor":{{"offset":0,"limit":20,"total_count":1}}}}"#);
/// let page: TrainingRunsResponse = serde_json::from_str(&page)?;
/// assert_eq!(page.training_runs.len() as u64, page.cursor.total_count);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingRun {
    /// The id of the run.
    pub training_run_id: String,
    /// The base model.
    pub base_model: String,
    /// The owner of the run.
    pub model_owner: String,
    /// Whether the run trains a LoRA adapter.
    pub is_lora: bool,
    /// Whether the run is damaged and cannot be continued. Defaults to false.
    #[serde(default)]
    pub corrupted: bool,
    /// The rank of the adapter.
    pub lora_rank: Option<u32>,
    /// When the server last received a request for the run.
    pub last_request_time: Timestamp,
    /// The last checkpoint to continue training from.
    pub last_checkpoint: Option<Checkpoint>,
    /// The last checkpoint to sample from.
    pub last_sampler_checkpoint: Option<Checkpoint>,
    /// The metadata that the user gave when creating the model.
    pub user_metadata: Option<BTreeMap<String, String>>,
}

/// A page of training runs: `GET training_runs`. [`TrainingRun`] has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingRunsResponse {
    /// The runs.
    pub training_runs: Vec<TrainingRun>,
    /// The position of the page in the whole list.
    pub cursor: Cursor,
}

/// The position of a page in the whole list. [`CheckpointsListResponse`](super::CheckpointsListResponse) has an example.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cursor {
    /// The number of items before the page.
    pub offset: u64,
    /// The maximum number of items in a page.
    pub limit: u64,
    /// The total number of items.
    pub total_count: u64,
}

//! Training runs and checkpoints, as the REST part of the API lists them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;

open_enum! {
    /// What a checkpoint is for.
    pub enum CheckpointType {
        /// To go on training from: weights and optimizer state.
        Training = "training",
        /// To sample from: weights only.
        Sampler = "sampler",
    }
}

/// A saved checkpoint.
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

/// A training run.
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
    /// Whether the run is damaged and can not be continued. Defaults to false.
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
    /// What the user gave along when the model was created.
    pub user_metadata: Option<BTreeMap<String, String>>,
}

/// Where a page lies in the whole list.
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

/// A page of training runs: `GET training_runs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainingRunsResponse {
    /// The runs.
    pub training_runs: Vec<TrainingRun>,
    /// Where the page lies.
    pub cursor: Cursor,
}

/// A page of checkpoints: `GET checkpoints`, or of one run: `GET training_runs/{run}/checkpoints`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointsListResponse {
    /// The checkpoints.
    pub checkpoints: Vec<Checkpoint>,
    /// Where the page lies; none when the list is whole.
    pub cursor: Option<Cursor>,
}

/// Where the archive of a checkpoint can be fetched for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointArchiveUrlResponse {
    /// The signed URL.
    pub url: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// A page of the user's sessions: `GET sessions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionsListResponse {
    /// The ids of the sessions.
    pub sessions: Vec<String>,
}

/// What belongs to a session: `GET sessions/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionResponse {
    /// The ids of its training runs.
    pub training_run_ids: Vec<String>,
    /// The ids of its samplers.
    pub sampler_ids: Vec<String>,
}

/// A sampler: `GET samplers/{id}`.
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
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WeightsInfoRequest<'a> {
    /// The tinker path of the weights.
    pub tinker_path: Cow<'a, str>,
}

/// The answer to [`WeightsInfoRequest`].
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

//! What the server remembers of sessions, runs, samplers and checkpoints, in memory and on disk.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::keys::Owner;
use super::wall;
use crate::types::{Checkpoint, CheckpointPath, LoraConfig, Timestamp, TrainingRun};

/// A session, as its client opened it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SessionRecord {
    pub(super) owner: Owner,
    /// Its place among all sessions, from 1.
    pub(super) number: u64,
    pub(super) created: Timestamp,
    pub(super) tags: Vec<String>,
    pub(super) user_metadata: Option<Value>,
}

/// A training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RunRecord {
    pub(super) owner: Owner,
    pub(super) session_id: String,
    pub(super) created: Timestamp,
    pub(super) base_model: String,
    pub(super) lora: LoraConfig,
    pub(super) user_metadata: Option<BTreeMap<String, String>>,
    pub(super) last_request_time: Timestamp,
}

/// A sampling session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SamplerRecord {
    pub(super) owner: Owner,
    pub(super) session_id: String,
    pub(super) base_model: String,
    pub(super) weights: Weights,
}

/// What a sampling session samples from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Weights {
    Base,
    /// A checkpoint, by its tinker path.
    Checkpoint(String),
    /// Weights that were saved without a name, for this sampling session alone, with the shape of their adapter.
    Snapshot(LoraConfig),
}

/// A checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CheckpointRecord {
    pub(super) owner: Owner,
    pub(super) base_model: String,
    pub(super) lora: LoraConfig,
    pub(super) time: Timestamp,
    pub(super) size_bytes: u64,
    pub(super) public: bool,
    pub(super) expires_at: Option<Timestamp>,
}

impl CheckpointRecord {
    pub(super) fn is_expired(&self, now: &Timestamp) -> bool {
        self.expires_at.as_ref().is_some_and(|end| end <= now)
    }

    /// As the API shows it.
    pub(super) fn view(&self, path: &CheckpointPath) -> CheckpointView {
        CheckpointView {
            checkpoint: Checkpoint {
                checkpoint_id: path.checkpoint_id().to_owned(),
                checkpoint_type: path.checkpoint_type(),
                time: self.time.clone(),
                tinker_path: path.as_str().to_owned(),
                size_bytes: Some(self.size_bytes),
                public: self.public,
            },
            expires_at: self.expires_at.clone(),
        }
    }
}

/// A checkpoint with what later versions of the protocol know of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CheckpointView {
    #[serde(flatten)]
    pub(super) checkpoint: Checkpoint,
    pub(super) expires_at: Option<Timestamp>,
}

impl RunRecord {
    /// As the API shows it, with the latest checkpoints of either kind.
    pub(super) fn view(&self, run: &str, training: Option<Checkpoint>, sampler: Option<Checkpoint>) -> TrainingRun {
        TrainingRun {
            training_run_id: run.to_owned(),
            base_model: self.base_model.clone(),
            model_owner: self.owner.as_str().to_owned(),
            is_lora: true,
            corrupted: false,
            lora_rank: Some(self.lora.rank),
            last_request_time: self.last_request_time.clone(),
            last_checkpoint: training,
            last_sampler_checkpoint: sampler,
            user_metadata: self.user_metadata.clone(),
        }
    }
}

/// The time of day, to the microsecond: Python's clients know no shorter time.
pub(super) fn timestamp() -> Timestamp {
    let now = wall();
    let crumb = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos() % 1000;
    (now - Duration::from_nanos(crumb.into())).into()
}

/// The time in so many seconds; none if there is no such time.
pub(super) fn timestamp_in(seconds: u64) -> Option<Timestamp> {
    // Beyond the year 9999 a time has no form on the wire.
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    wall().checked_add(Duration::from_secs(seconds)).filter(|end| *end <= latest).map(Timestamp::from)
}

//! Records of sessions, training runs, sampling sessions and checkpoints: what a data directory keeps of them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::owner::Owner;
use crate::local::server::time::wall_clock;
use crate::types::wire::FinishSessionRequest;
use crate::types::{Checkpoint, CheckpointPath, LoraConfig, OptimizerConfig, Timestamp, TrainingRun};

/// A client session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(crate) owner: Owner,
    /// Sequential number over all sessions, from 1.
    pub(crate) number: u64,
    pub(crate) created: Timestamp,
    pub(crate) tags: Vec<String>,
    #[serde(default, deserialize_with = "entries")]
    pub(crate) user_metadata: Option<BTreeMap<String, Value>>,
    pub(crate) project_id: Option<String>,
    pub(crate) display_name: Option<String>,
    /// Why the client ended the session, once it has.
    pub(crate) finish: Option<FinishSessionRequest<'static>>,
}

/// The metadata of a session. Earlier servers kept any JSON; what has no entries is dropped.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, Value>>, D::Error> {
    let metadata = Option::<Value>::deserialize(deserializer)?;
    Ok(metadata.and_then(|metadata| serde_json::from_value(metadata).ok()))
}

impl SessionRecord {
    /// The metadata as the API shows it: values that are no text as their JSON, and none if there are none.
    pub(crate) fn metadata(&self) -> Option<BTreeMap<String, String>> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let entries = self.user_metadata.as_ref().filter(|entries| !entries.is_empty())?;
        Some(entries.iter().map(|(key, value)| (key.clone(), text(value))).collect())
    }
}

/// A training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunRecord {
    pub(crate) owner: Owner,
    /// `None` for a copy of weights, which cannot be trained.
    pub(crate) session_id: Option<String>,
    /// The project of a copy. Other runs are in the project of their session.
    #[serde(default)]
    pub(crate) project_id: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) base_model: String,
    pub(crate) lora: LoraConfig,
    #[serde(default)]
    pub(crate) optimizer: OptimizerConfig,
    pub(crate) user_metadata: Option<BTreeMap<String, String>>,
    pub(crate) last_request_time: Timestamp,
}

/// A sampling session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SamplingSessionRecord {
    pub(crate) owner: Owner,
    pub(crate) session_id: String,
    pub(crate) base_model: String,
    pub(crate) weights: Weights,
}

/// The weights that a sampling session samples from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Weights {
    Base,
    /// A checkpoint, by its `tinker://` path.
    Checkpoint(String),
    /// Weights saved without a name for this sampling session alone, with the configuration of their adapter.
    Snapshot(LoraConfig),
    /// The weights that all inflight sampling sessions of a training run share. Each inflight save of the run replaces them.
    Inflight {
        run: String,
        lora: LoraConfig,
    },
}

/// A saved checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckpointRecord {
    pub(crate) owner: Owner,
    pub(crate) base_model: String,
    pub(crate) lora: LoraConfig,
    /// The optimizer of the run that saved it.
    #[serde(default)]
    pub(crate) optimizer: OptimizerConfig,
    pub(crate) time: Timestamp,
    pub(crate) size_bytes: u64,
    pub(crate) public: bool,
    #[serde(default)]
    pub(crate) user_metadata: Option<BTreeMap<String, String>>,
    pub(crate) expires_at: Option<Timestamp>,
}

impl CheckpointRecord {
    pub(crate) fn is_expired(&self, now: &Timestamp) -> bool {
        self.expires_at.as_ref().is_some_and(|end| end <= now)
    }

    /// The checkpoint as the API shows it.
    pub(crate) fn view(&self, path: &CheckpointPath) -> Checkpoint {
        Checkpoint {
            checkpoint_id: path.checkpoint_id().to_owned(),
            checkpoint_type: path.checkpoint_type(),
            time: self.time.clone(),
            tinker_path: path.as_str().to_owned(),
            size_bytes: Some(self.size_bytes),
            public: self.public,
            user_metadata: self.user_metadata.clone(),
            expires_at: self.expires_at.clone(),
        }
    }
}

impl RunRecord {
    /// The run as the API shows it, with its latest checkpoint of each kind.
    pub(crate) fn view(&self, run: &str, training: Option<Checkpoint>, sampler: Option<Checkpoint>) -> TrainingRun {
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

/// The date and time of day.
pub(crate) fn timestamp() -> Timestamp {
    timestamp_of(wall_clock())
}

/// A time, truncated to microseconds: Python's `datetime` has no finer resolution.
pub(crate) fn timestamp_of(time: SystemTime) -> Timestamp {
    let excess = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos() % 1000;
    (time - Duration::from_nanos(excess.into())).into()
}

/// The time that is this much later than now, at the latest the end of the year 9999, where the formats of times end.
pub(crate) fn time_in(time: Duration) -> SystemTime {
    let latest = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    wall_clock().checked_add(time).map_or(latest, |end| end.min(latest))
}

/// The time `seconds` from now.
pub(crate) fn timestamp_in(seconds: u64) -> Timestamp {
    timestamp_of(time_in(Duration::from_secs(seconds)))
}

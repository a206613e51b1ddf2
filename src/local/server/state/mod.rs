//! What the server knows: sessions, training runs, sampling sessions, checkpoints and promises.
//!
//! Everything belongs to the API key that created it. Records are written to the [`Store`] while the [`Tables`] are locked,
//! so that the disk sees changes in the order of the requests.
//!
//! Lock order: the tables first, then a queue, the promises, the usage, the timeline, the audit log or the store; none of these locks
//! the tables, and only the audit log and the usage use the store. An
//! [`AdapterCache`] is locked on a sampling thread before the tables, and never while they are locked.

mod access;
mod adapter_cache;
mod audit_log;
mod housekeeping;
mod owner;
mod promises;
mod records;
mod resting;
mod revoked_keys;
mod run_queue;
mod sequence_log;
mod server_record;
mod server_state;
mod store;
mod tables;
mod tasks;
mod timeline;
mod usage;
mod waiting_batches;

pub(crate) use self::adapter_cache::AdapterCache;
pub(crate) use self::audit_log::{AuditEvent, day};
pub(crate) use self::owner::Owner;
pub(crate) use self::promises::{
    HeldSessionPoll, PollResult, PromiseId, PromiseSettings, PromiseTable, ResultPoll, SamplerClient, StoredResult,
    TaskError, TaskOutput, tagged,
};
pub(crate) use self::records::{
    CheckpointRecord, RunRecord, SamplingSessionRecord, SessionRecord, Weights, time_in, timestamp, timestamp_in,
    timestamp_of,
};
pub(crate) use self::resting::{ModelState, RESTING_RECORD, RestingFiles, RestingModel};
pub(crate) use self::run_queue::{TaskQueue, task_queue};
pub(crate) use self::sequence_log::Fingerprint;
pub(crate) use self::server_record::ServerRecord;
pub(crate) use self::server_state::ServerState;
pub(crate) use self::store::{FolderPath, Store, checkpoint_folder, inflight_folder};
pub(crate) use self::tables::{
    CHECKPOINT_RECORD, CLIENTS_RECORD, INFLIGHT_RECORD, RUN_RECORD, Run, SAMPLER_RECORD, SESSION_RECORD,
    SamplingSession, Session, Tables, check_owner, not_found,
};
pub(crate) use self::tasks::{CheckpointSource, SampleParams, SampleTask, Task};
pub(crate) use self::timeline::{ExportState, Span};
pub(crate) use self::usage::{Hour, UsageKey, UsageKind, storage};

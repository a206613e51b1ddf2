//! Loading weights from the store.

use std::io;
use std::sync::Arc;

use crate::local::adam::Adam;
use crate::local::checkpoint_files::unpack;
use crate::local::model::{Adapter, AdapterOptions};
use crate::local::server::state::{
    AdapterCache, CHECKPOINT_RECORD, FolderPath, INFLIGHT_RECORD, SAMPLER_RECORD, SamplingSessionRecord, ServerState,
    TaskError, Weights, checkpoint_folder, inflight_folder,
};
use crate::types::{CheckpointPath, LoraConfig};

/// The adapter of a sampling session, loaded if it is not cached; `None` for a base model.
pub(super) fn sampling_adapter(
    state: &ServerState,
    cache: &Arc<AdapterCache>,
    sampler_id: &str,
    record: &SamplingSessionRecord,
) -> Result<Option<Arc<Adapter>>, TaskError> {
    let adapter = match &record.weights {
        Weights::Base => return Ok(None),
        Weights::Checkpoint(path) => cache.get_or_load(|| {
            let (adapter, _) = load_checkpoint(state, path)?;
            let owner = state.lock().checkpoints.get(path).map(|checkpoint| checkpoint.owner.clone());
            let owner = owner.as_ref().unwrap_or(&record.owner);
            state.audit_checkpoint("checkpoint_read", path, owner, &record.owner, Some("sample"));
            Ok(adapter)
        })?,
        Weights::Snapshot(lora) => {
            cache.get_or_load(|| Ok(load(state, &["samplers", sampler_id], SAMPLER_RECORD, lora)?.0))?
        }
        Weights::Inflight { run, lora } => {
            cache.get_or_load(|| Ok(load(state, &inflight_folder(run), INFLIGHT_RECORD, lora)?.0))?
        }
    };
    state.adapters.used(cache);
    Ok(Some(adapter))
}

/// The adapter of a checkpoint, with the optimizer state of a training checkpoint.
pub(super) fn load_checkpoint(state: &ServerState, path: &str) -> Result<(Adapter, Option<Adam>), TaskError> {
    let not_found = || TaskError::user(format!("there is no checkpoint {path}"));
    let lora = state.lock().checkpoints.get(path).map(|record| record.lora.clone()).ok_or_else(not_found)?;
    let parsed = path.parse::<CheckpointPath>().map_err(|error| TaskError::user(error.to_string()))?;
    load(state, &checkpoint_folder(&parsed), CHECKPOINT_RECORD, &lora)
}

fn load(
    state: &ServerState,
    folder: FolderPath<'_>,
    record: &str,
    lora: &LoraConfig,
) -> Result<(Adapter, Option<Adam>), TaskError> {
    let files = state.store.load_files(folder, record);
    files.and_then(|files| unpack(&files, adapter_options(lora))).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => TaskError::user(format!("{} no longer exists", folder.join("/"))),
        _ => TaskError::server(format!("failed to read {}: {error}", folder.join("/"))),
    })
}

/// The options of a model's adapter. A seed that the client left out is zero.
pub(super) fn adapter_options(lora: &LoraConfig) -> AdapterOptions {
    AdapterOptions {
        rank: lora.rank as usize,
        seed: lora.seed.unwrap_or_default(),
        train_attn: lora.train_attn,
        train_mlp: lora.train_mlp,
        train_unembed: lora.train_unembed,
    }
}

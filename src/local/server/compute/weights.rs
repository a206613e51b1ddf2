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
pub(crate) fn sampling_adapter(
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
            let folder = ["samplers", sampler_id];
            cache.get_or_load(|| Ok(load(state, &folder, SAMPLER_RECORD, &record.base_model, lora)?.0))?
        }
        Weights::Inflight { run, lora } => {
            let folder = inflight_folder(run);
            cache.get_or_load(|| Ok(load(state, &folder, INFLIGHT_RECORD, &record.base_model, lora)?.0))?
        }
    };
    state.adapters.used(cache);
    Ok(Some(adapter))
}

/// The adapter of a checkpoint, with the optimizer state of a training checkpoint.
pub(super) fn load_checkpoint(state: &ServerState, path: &str) -> Result<(Adapter, Option<Adam>), TaskError> {
    let not_found = || TaskError::user(format!("there is no checkpoint {path}"));
    let record = state.lock().checkpoints.get(path).cloned().ok_or_else(not_found)?;
    let parsed = path.parse::<CheckpointPath>().map_err(|error| TaskError::user(error.to_string()))?;
    load(state, &checkpoint_folder(&parsed), CHECKPOINT_RECORD, &record.base_model, &record.lora)
}

fn load(
    state: &ServerState,
    folder: FolderPath<'_>,
    record: &str,
    base_model: &str,
    lora: &LoraConfig,
) -> Result<(Adapter, Option<Adam>), TaskError> {
    let files = state.store.load_files(folder, record);
    let unpacked = files.and_then(|files| unpack(&files, adapter_options(lora)));
    let (adapter, optimizer) = unpacked.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => TaskError::user(format!("{} no longer exists", folder.join("/"))),
        _ => TaskError::server(format!("failed to read {}: {error}", folder.join("/"))),
    })?;
    let model = state.model(base_model).map_err(|response| TaskError::user(response.detail()))?;
    model.check_adapter(&adapter).map_err(|why| {
        // Another model had this name, before the server was restarted with this one.
        TaskError::user(format!("the weights in {} do not fit {base_model}: {why}", folder.join("/")))
    })?;
    Ok((adapter, optimizer))
}

/// The options of a model's adapter. A seed that the client left out is zero.
pub(crate) fn adapter_options(lora: &LoraConfig) -> AdapterOptions {
    AdapterOptions {
        rank: lora.rank as usize,
        seed: lora.seed.unwrap_or_default(),
        train_attn: lora.train_attn,
        train_mlp: lora.train_mlp,
        train_unembed: lora.train_unembed,
    }
}

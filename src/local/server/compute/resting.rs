//! Models that leave memory and come back.

use std::io;
use std::sync::Arc;

use super::weights::adapter_options;
use crate::local::checkpoint_files::{pack_state, unpack_state};
use crate::local::server::state::{
    ModelState, RESTING_RECORD, RestingFiles, RestingModel, RunRecord, ServerState, TaskError,
};

/// Writes the state of a model to the store, if the store is a directory. A model that cannot be written stays in memory: nothing
/// of it is lost.
pub(super) fn put_away(state: &ServerState, id: &str, record: &RunRecord, model: ModelState) -> RestingModel {
    if !state.store.is_directory() {
        return RestingModel::InMemory(model);
    }
    let ModelState { adapter, gradient, optimizer } = &model;
    let files = RestingFiles::new(&state.store, id);
    let written = pack_state(&record.base_model, adapter, optimizer, gradient)
        .and_then(|packed| state.store.save_files(&files.folder(), packed, RESTING_RECORD, record));
    match written {
        Ok(()) => RestingModel::OnDisk(files),
        Err(error) => {
            log::warn!("{id} stays in memory: it could not be written to the disk: {error}");
            RestingModel::InMemory(model)
        }
    }
}

/// The state of a model that rested on the disk.
pub(super) fn wake(
    state: &ServerState,
    id: &str,
    record: &RunRecord,
    files: &RestingFiles,
) -> Result<ModelState, TaskError> {
    let packed = state.store.load_files(&files.folder(), RESTING_RECORD);
    let unpacked = packed.and_then(|packed| unpack_state(&packed, adapter_options(&record.lora)));
    let failed = |error: io::Error| TaskError::server(format!("failed to read {id} back from the disk: {error}"));
    let (adapter, optimizer, gradient) = unpacked.map_err(failed)?;
    Ok(ModelState { adapter: Arc::new(adapter), gradient, optimizer })
}

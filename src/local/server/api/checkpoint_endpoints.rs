//! Changing checkpoints: delete, publish, expire.

use super::body;
use super::call::{Call, HandlerResult, no_content};
use crate::local::server::http1::Response;
use crate::local::server::state::{CHECKPOINT_RECORD, CheckpointRecord, checkpoint_folder, timestamp_in};
use crate::types::CheckpointPath;
use crate::types::wire::SetCheckpointTtlRequest;

pub(super) fn delete(call: &Call<'_>) -> HandlerResult {
    let path = call.checkpoint_path()?;
    let mut tables = call.state.lock();
    tables.own_checkpoint(path.as_str(), &call.owner)?;
    let failed = |error| Response::error(500, &format!("failed to delete the checkpoint: {error}"));
    call.state.store.remove(&checkpoint_folder(&path)).map_err(failed)?;
    call.state.forget_checkpoint(&mut tables, path.as_str());
    no_content()
}

pub(super) fn publish(call: &Call<'_>) -> HandlerResult {
    call.update_checkpoint(|checkpoint| checkpoint.public = true)
}

pub(super) fn unpublish(call: &Call<'_>) -> HandlerResult {
    call.update_checkpoint(|checkpoint| checkpoint.public = false)
}

pub(super) fn set_ttl(call: &Call<'_>) -> HandlerResult {
    let SetCheckpointTtlRequest { ttl_seconds } = body::parse(call.request)?;
    call.check_ttl(ttl_seconds)?;
    call.update_checkpoint(|checkpoint| checkpoint.expires_at = ttl_seconds.and_then(timestamp_in))
}

impl Call<'_> {
    /// The checkpoint in the request's path.
    pub(super) fn checkpoint_path(&self) -> Result<CheckpointPath, Response> {
        let [run, kind, name] = self.captures()?;
        CheckpointPath::try_from(format!("tinker://{run}/{kind}/{name}"))
            .map_err(|error| Response::error(404, &error.to_string()))
    }

    fn update_checkpoint(&self, update: impl FnOnce(&mut CheckpointRecord)) -> HandlerResult {
        let path = self.checkpoint_path()?;
        let mut tables = self.state.lock();
        let record = tables.own_checkpoint(path.as_str(), &self.owner)?;
        // Changed in memory only once it is on disk.
        let mut updated = record.clone();
        update(&mut updated);
        self.state.write_record(&checkpoint_folder(&path), CHECKPOINT_RECORD, &updated)?;
        *record = updated;
        no_content()
    }
}

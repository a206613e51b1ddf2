//! Changing checkpoints: delete, publish, expire, copy.

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::local::server::api::call::{Call, HandlerResult, no_content, ok};
use crate::local::server::api::{body, decode};
use crate::local::server::http1::Response;
use crate::local::server::state::{
    CHECKPOINT_RECORD, CheckpointRecord, RUN_RECORD, Run, RunRecord, checkpoint_folder, timestamp, timestamp_in,
};
use crate::types::CheckpointPath;
use crate::types::wire::{CopyWeightsRequest, SetCheckpointTtlRequest};

pub(super) fn delete(call: &Call<'_>) -> HandlerResult {
    let path = call.checkpoint_path()?;
    let mut tables = call.state.lock();
    tables.own_checkpoint(path.as_str(), &call.owner)?;
    let failed = |error| Response::temporary(500, &format!("failed to delete the checkpoint: {error}"));
    call.state.store.remove(&checkpoint_folder(&path)).map_err(failed)?;
    call.state.forget_checkpoint(&mut tables, path.as_str());
    call.state.audit_checkpoint("checkpoint_delete", path.as_str(), &call.owner, &call.owner, None);
    no_content()
}

pub(super) fn publish(call: &Call<'_>) -> HandlerResult {
    call.update_checkpoint("checkpoint_publish", |checkpoint| checkpoint.public = true)
}

pub(super) fn unpublish(call: &Call<'_>) -> HandlerResult {
    call.update_checkpoint("checkpoint_unpublish", |checkpoint| checkpoint.public = false)
}

pub(super) fn set_ttl(call: &Call<'_>) -> HandlerResult {
    let SetCheckpointTtlRequest { ttl_seconds } = body::parse(call.request)?;
    call.check_ttl(ttl_seconds)?;
    let expires_at = ttl_seconds.map(timestamp_in);
    call.update_checkpoint("checkpoint_ttl_set", |checkpoint| checkpoint.expires_at = expires_at)
}

/// Copies a checkpoint to a run of its own, which nobody trains. A retry gets the first copy.
pub(super) fn copy(call: &Call<'_>) -> HandlerResult {
    let body: CopyWeightsRequest<'_> = body::parse(call.request)?;
    call.check_ttl(body.ttl_seconds)?;
    decode::check_project_id("destination_project_id", &body.destination_project_id)?;
    let parsed = body.source_path.parse::<CheckpointPath>();
    let source = parsed.map_err(|error| Response::error(404, &error.to_string()))?;
    let readers = call.readers(call.request.header("x-tinker-weights-access-token"));
    let copy_id = call.copy_id()?;
    let copy = format!("tinker://{copy_id}/{}", source.checkpoint_id());
    let copied = || ok(&json!({ "tinker_path": copy }));

    let mut tables = call.state.lock();
    if tables.checkpoints.get(&copy).is_some_and(|first| first.owner == call.owner) {
        return copied();
    }
    let original = tables.readable_checkpoint(source.as_str(), &readers)?;
    let source_owner = original.owner.clone();
    let checkpoint = CheckpointRecord {
        owner: call.owner.clone(),
        time: timestamp(),
        public: false,
        expires_at: body.ttl_seconds.map(timestamp_in),
        ..original.clone()
    };
    let model = call.state.model(&checkpoint.base_model)?;
    let run = RunRecord {
        owner: call.owner.clone(),
        session_id: None,
        project_id: Some(body.destination_project_id.into_owned()),
        created: checkpoint.time.clone(),
        base_model: checkpoint.base_model.clone(),
        lora: checkpoint.lora.clone(),
        optimizer: checkpoint.optimizer.clone(),
        user_metadata: None,
        last_request_time: checkpoint.time.clone(),
    };
    call.state.write_record(&["runs", &copy_id], RUN_RECORD, &run)?;
    let [_, _, kind, name] = checkpoint_folder(&source);
    let folder = ["runs", copy_id.as_str(), kind, name];
    let failed = |error| Response::temporary(500, &format!("failed to copy the checkpoint: {error}"));
    call.state
        .store
        .copy_files(&checkpoint_folder(&source), &folder, CHECKPOINT_RECORD, &checkpoint)
        .map_err(failed)?;
    tables.checkpoints.insert(copy.clone(), checkpoint);
    tables.runs.insert(copy_id, Run::new(run, model, None));
    call.state.audit_checkpoint("checkpoint_read", source.as_str(), &source_owner, &call.owner, Some("copy"));
    call.state.audit_checkpoint("checkpoint_create", &copy, &call.owner, &call.owner, Some("copy"));
    copied()
}

impl Call<'_> {
    /// The run of a copy of weights. Retries of a request have the same idempotency key, and so the same run.
    fn copy_id(&self) -> Result<String, Response> {
        let mut id = [0; 8];
        match self.request.header("x-idempotency-key") {
            Some(key) => {
                let request = [self.owner.as_str().as_bytes(), key.as_bytes(), &self.request.body].join(&b'\n');
                id.copy_from_slice(&Sha256::digest(&request)[..8]);
            }
            None => getrandom::fill(&mut id).map_err(|error| Response::temporary(500, &error.to_string()))?,
        }
        Ok(format!("copy-{:016x}", u64::from_be_bytes(id)))
    }

    /// The checkpoint in the request's path.
    pub(super) fn checkpoint_path(&self) -> Result<CheckpointPath, Response> {
        let [run, kind, name] = self.captures()?;
        CheckpointPath::try_from(format!("tinker://{run}/{kind}/{name}"))
            .map_err(|error| Response::error(404, &error.to_string()))
    }

    /// Changes a checkpoint of the key, and writes that to the audit log.
    fn update_checkpoint(&self, event: &str, update: impl FnOnce(&mut CheckpointRecord)) -> HandlerResult {
        let path = self.checkpoint_path()?;
        let mut tables = self.state.lock();
        let record = tables.own_checkpoint(path.as_str(), &self.owner)?;
        // Changed in memory only once it is on disk.
        let mut updated = record.clone();
        update(&mut updated);
        self.state.write_record(&checkpoint_folder(&path), CHECKPOINT_RECORD, &updated)?;
        *record = updated;
        self.state.audit_checkpoint(event, path.as_str(), &self.owner, &self.owner, None);
        no_content()
    }
}

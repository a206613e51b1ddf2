//! Listing and describing what the server stores: training runs, checkpoints, sessions and sampling sessions.

use std::slice::from_ref;

use serde_json::json;

use super::body::{self, Page};
use super::call::{Call, HandlerResult, ok};
use crate::local::server::http1::Response;
use crate::local::server::state::{CheckpointRecord, Owner, Tables, Weights, check_owner, not_found, timestamp};
use crate::types::wire::WeightsInfoRequest;
use crate::types::{
    Checkpoint, CheckpointPath, CheckpointType, Cursor, SamplerResponse, SessionResponse, SessionsListResponse,
    TrainingRun, TrainingRunsResponse,
};

/// The runs of the API key, newest first.
pub(super) fn training_runs(call: &Call<'_>) -> HandlerResult {
    let page = Page::parse(call.request, 20)?;
    let tables = call.state.lock();
    let mut runs: Vec<_> = tables.runs.iter().filter(|(_, run)| run.record.owner == call.owner).collect();
    runs.sort_by(|(a, left), (b, right)| (&right.record.created, b).cmp(&(&left.record.created, a)));
    let total = runs.len();
    let training_runs =
        page.of(runs).into_iter().map(|(id, _)| tables.training_run(id, &call.owner)).collect::<Result<_, _>>()?;
    ok(&TrainingRunsResponse { training_runs, cursor: cursor(page, total) })
}

pub(super) fn training_run(call: &Call<'_>) -> HandlerResult {
    let [run] = call.captures()?;
    ok(&call.state.lock().training_run(run, &call.owner)?)
}

pub(super) fn checkpoints_of_run(call: &Call<'_>) -> HandlerResult {
    let [run] = call.captures()?;
    let tables = call.state.lock();
    tables.training_run(run, &call.owner)?;
    let checkpoints = tables.checkpoints_of(&call.owner, Some(run));
    ok(&json!({ "checkpoints": checkpoints, "cursor": null }))
}

/// The checkpoints of all runs of the API key, newest first.
pub(super) fn checkpoints(call: &Call<'_>) -> HandlerResult {
    let page = Page::parse(call.request, 100)?;
    let mut checkpoints = call.state.lock().checkpoints_of(&call.owner, None);
    checkpoints.reverse();
    let total = checkpoints.len();
    ok(&json!({ "checkpoints": page.of(checkpoints), "cursor": cursor(page, total) }))
}

/// The sessions of the API key, newest first.
pub(super) fn sessions(call: &Call<'_>) -> HandlerResult {
    let page = Page::parse(call.request, 20)?;
    let tables = call.state.lock();
    let mut sessions: Vec<_> =
        tables.sessions.iter().filter(|(_, session)| session.record.owner == call.owner).collect();
    sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.record.number));
    let sessions = page.of(sessions).into_iter().map(|(id, _)| id.clone()).collect();
    ok(&SessionsListResponse { sessions })
}

pub(super) fn session(call: &Call<'_>) -> HandlerResult {
    let [id] = call.captures()?;
    let tables = call.state.lock();
    let session = tables.sessions.get(id).ok_or_else(|| not_found("session", id))?;
    check_owner(&session.record.owner, &call.owner, id)?;
    let mut training_run_ids: Vec<_> = tables
        .runs
        .iter()
        .filter(|(_, run)| run.record.session_id.as_deref() == Some(id))
        .map(|(id, _)| id.clone())
        .collect();
    let samplers = tables.samplers.iter().filter(|(_, sampler)| sampler.record.session_id == id);
    let mut sampler_ids: Vec<_> = samplers.map(|(id, _)| id.clone()).collect();
    training_run_ids.sort();
    sampler_ids.sort();
    ok(&SessionResponse { training_run_ids, sampler_ids, ..SessionResponse::default() })
}

pub(super) fn sampler(call: &Call<'_>) -> HandlerResult {
    let [id] = call.captures()?;
    let mut tables = call.state.lock();
    let record = &tables.sampler(id, &call.owner)?.record;
    let model_path = match &record.weights {
        Weights::Checkpoint(path) => Some(path.clone()),
        Weights::Base | Weights::Snapshot(_) | Weights::Inflight { .. } => None,
    };
    ok(&SamplerResponse { sampler_id: id.to_owned(), base_model: record.base_model.clone(), model_path })
}

pub(super) fn weights_info(call: &Call<'_>) -> HandlerResult {
    let WeightsInfoRequest { tinker_path } = body::parse(call.request)?;
    let tables = call.state.lock();
    let CheckpointRecord { base_model, lora, optimizer, .. } =
        tables.readable_checkpoint(&tinker_path, from_ref(&call.owner))?;
    ok(&json!({
        "base_model": base_model, "is_lora": true, "lora_rank": lora.rank, "optimizer_config": optimizer,
        "train_unembed": lora.train_unembed, "train_mlp": lora.train_mlp, "train_attn": lora.train_attn,
    }))
}

fn cursor(page: Page, total: usize) -> Cursor {
    Cursor { offset: page.offset, limit: page.limit, total_count: total as u64 }
}

impl Tables {
    /// A training run as the API shows it. Does not keep its session alive.
    fn training_run(&self, id: &str, owner: &Owner) -> Result<TrainingRun, Response> {
        let run = self.runs.get(id).ok_or_else(|| not_found("training run", id))?;
        check_owner(&run.record.owner, owner, id)?;
        let checkpoints = self.checkpoints_of(owner, Some(id));
        let last = |kind: CheckpointType| {
            checkpoints.iter().rev().find(|checkpoint| checkpoint.checkpoint_type == kind).cloned()
        };
        Ok(run.record.view(id, last(CheckpointType::Training), last(CheckpointType::Sampler)))
    }

    /// The checkpoints of an owner, or of one of their runs, oldest first.
    fn checkpoints_of(&self, owner: &Owner, run: Option<&str>) -> Vec<Checkpoint> {
        let now = timestamp();
        let own = self.checkpoints.iter().filter(|(_, record)| record.owner == *owner && !record.is_expired(&now));
        let mut checkpoints: Vec<_> = own
            .filter_map(|(path, record)| Some((path.parse::<CheckpointPath>().ok()?, record)))
            .filter(|(path, _)| run.is_none_or(|run| path.training_run_id() == run))
            .collect();
        checkpoints.sort_by(|(a, left), (b, right)| (&left.time, a.as_str()).cmp(&(&right.time, b.as_str())));
        checkpoints.into_iter().map(|(path, record)| record.view(&path)).collect()
    }
}

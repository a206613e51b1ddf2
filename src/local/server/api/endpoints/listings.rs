//! Listing and describing what the server stores: training runs, checkpoints, sessions and sampling sessions.

use std::slice::from_ref;

use serde_json::json;

use crate::local::server::api::body;
use crate::local::server::api::call::{Call, HandlerResult, ok};
use crate::local::server::api::query::Page;
use crate::local::server::http1::Response;
use crate::local::server::state::{CheckpointRecord, Owner, Tables, Weights, check_owner, not_found};
use crate::types::wire::WeightsInfoRequest;
use crate::types::{
    AccessScope, CheckpointType, Cursor, SamplerResponse, SessionResponse, SessionsListResponse, TrainingRun,
    TrainingRunsResponse,
};

/// The runs that the API key sees, newest first.
pub(super) fn training_runs(call: &Call<'_>) -> HandlerResult {
    let page = Page::parse(call.request, 20)?;
    let (scope, project) = (call.access_scope()?, call.parameter("project_id")?);
    let tables = call.state.lock();
    let is_listed = |id: &str| {
        let is_of_project = project.as_deref().is_none_or(|project| tables.project_of_run(id) == project);
        is_of_project && tables.sees_run(id, &call.owner, &scope)
    };
    let mut runs: Vec<_> = tables.runs.iter().filter(|(id, _)| is_listed(id)).collect();
    runs.sort_by(|(a, left), (b, right)| (&right.record.created, b).cmp(&(&left.record.created, a)));
    let total = runs.len();
    let training_runs = page
        .of(runs)
        .into_iter()
        .map(|(id, _)| tables.training_run(id, &call.owner, &scope))
        .collect::<Result<_, _>>()?;
    ok(&TrainingRunsResponse { training_runs, cursor: cursor(page, total) })
}

pub(super) fn training_run(call: &Call<'_>) -> HandlerResult {
    let ([run], scope) = (call.captures()?, call.access_scope()?);
    ok(&call.state.lock().training_run(run, &call.owner, &scope)?)
}

/// The checkpoints of a run that the API key may read, oldest first.
pub(super) fn checkpoints_of_run(call: &Call<'_>) -> HandlerResult {
    let [run] = call.captures()?;
    let tables = call.state.lock();
    tables.training_run(run, &call.owner, &AccessScope::Accessible)?;
    let checkpoints = tables.readable_checkpoints(run, &call.owner).into_iter();
    let checkpoints: Vec<_> = checkpoints.map(|(path, record)| record.view(&path)).collect();
    ok(&json!({ "checkpoints": checkpoints, "cursor": null }))
}

/// The checkpoints of all runs of the API key, newest first.
pub(super) fn checkpoints(call: &Call<'_>) -> HandlerResult {
    let page = Page::parse(call.request, 100)?;
    let tables = call.state.lock();
    let mut checkpoints: Vec<_> = tables.own_checkpoints(&call.owner).collect();
    checkpoints.sort_by(|(a, left), (b, right)| (&right.time, b.as_str()).cmp(&(&left.time, a.as_str())));
    let total = checkpoints.len();
    let checkpoints: Vec<_> = page.of(checkpoints).into_iter().map(|(path, record)| record.view(&path)).collect();
    ok(&json!({ "checkpoints": checkpoints, "cursor": cursor(page, total) }))
}

/// The sessions that the API key sees, newest first.
pub(super) fn sessions(call: &Call<'_>) -> HandlerResult {
    let page = Page::parse(call.request, 20)?;
    let scope = call.access_scope()?;
    let tables = call.state.lock();
    let mut sessions = tables.visible_sessions(&call.owner, &scope);
    sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.record.number));
    let sessions = page.of(sessions).into_iter().map(|(id, _)| id.clone()).collect();
    ok(&SessionsListResponse { sessions })
}

/// A session with its runs and sampling sessions. Of another key's session, only the runs that the API key sees.
pub(super) fn session(call: &Call<'_>) -> HandlerResult {
    let ([id], scope) = (call.captures()?, call.access_scope()?);
    let tables = call.state.lock();
    let session = tables.sessions.get(id).ok_or_else(|| not_found("session", id))?;
    let of_session = tables.runs.keys().filter(|run| tables.session_of_run(run) == Some(id));
    let mut training_run_ids: Vec<_> =
        of_session.filter(|run| tables.sees_run(run, &call.owner, &scope)).cloned().collect();
    let is_own = session.record.owner == call.owner;
    if training_run_ids.is_empty() || scope == AccessScope::Owned {
        check_owner(&session.record.owner, &call.owner, id)?;
    }
    let samplers = tables.samplers.iter().filter(|(_, sampler)| is_own && sampler.record.session_id == id);
    let mut sampler_ids: Vec<_> = samplers.map(|(id, _)| id.clone()).collect();
    training_run_ids.sort();
    sampler_ids.sort();
    let (user_metadata, display_name) = match is_own {
        true => (session.record.metadata(), session.record.display_name.clone()),
        false => (None, None),
    };
    ok(&SessionResponse { training_run_ids, sampler_ids, user_metadata, display_name })
}

pub(super) fn sampler(call: &Call<'_>) -> HandlerResult {
    let [id] = call.captures()?;
    let mut tables = call.state.lock();
    let record = &tables.sampler(id, &call.owner)?.record;
    let model_path = match &record.weights {
        Weights::Checkpoint(path) => Some(path.clone()),
        Weights::Base | Weights::Snapshot(_) | Weights::Inflight { .. } => None,
    };
    ok(&SamplerResponse {
        sampler_id: id.to_owned(),
        base_model: record.base_model.clone(),
        model_path,
        tokenizer_package: call.state.tokenizer_package(&record.base_model),
    })
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
    fn training_run(&self, id: &str, owner: &Owner, scope: &AccessScope) -> Result<TrainingRun, Response> {
        let run = self.runs.get(id).ok_or_else(|| not_found("training run", id))?;
        if !self.sees_run(id, owner, scope) {
            check_owner(&run.record.owner, owner, id)?;
        }
        let checkpoints = self.readable_checkpoints(id, owner);
        let last = |kind: CheckpointType| {
            let last = checkpoints.iter().rev().find(|(path, _)| path.checkpoint_type() == kind);
            last.map(|(path, record)| record.view(path))
        };
        Ok(run.record.view(id, last(CheckpointType::Training), last(CheckpointType::Sampler)))
    }
}

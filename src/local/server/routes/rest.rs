//! Lists and single looks: training runs, checkpoints, sessions, samplers.

use serde::Deserialize;
use serde_json::json;

use super::{Answer, Call, done, respond};
use crate::local::server::http::Response;
use crate::local::server::input::{self, Page};
use crate::local::server::keys::Owner;
use crate::local::server::records::{CheckpointRecord, CheckpointView, Weights, timestamp, timestamp_in};
use crate::local::server::state::{CHECKPOINT, Tables};
use crate::local::server::weights::place;
use crate::types::wire::WeightsInfoRequest;
use crate::types::{
    CheckpointPath, CheckpointType, Cursor, SamplerResponse, SessionResponse, SessionsListResponse, TrainingRun,
    TrainingRunsResponse,
};

/// Newest first.
pub(super) fn training_runs(call: &Call<'_>) -> Result<Answer, Response> {
    let page = Page::of(call.request, 20)?;
    let tables = call.state.lock();
    let mut runs: Vec<_> = tables.runs.iter().filter(|(_, run)| run.record.owner == call.owner).collect();
    runs.sort_by(|(a, left), (b, right)| (&right.record.created, b).cmp(&(&left.record.created, a)));
    let total = runs.len();
    let training_runs =
        page.cut(runs).into_iter().map(|(id, _)| tables.view(id, &call.owner)).collect::<Result<_, _>>()?;
    respond(&TrainingRunsResponse { training_runs, cursor: cursor(page, total) })
}

pub(super) fn training_run(call: &Call<'_>) -> Result<Answer, Response> {
    let [run] = call.named()?;
    respond(&call.state.lock().view(run, &call.owner)?)
}

pub(super) fn checkpoints_of_run(call: &Call<'_>) -> Result<Answer, Response> {
    let [run] = call.named()?;
    let tables = call.state.lock();
    tables.view(run, &call.owner)?;
    let checkpoints = tables.checkpoints_of(&call.owner, Some(run));
    respond(&json!({ "checkpoints": checkpoints, "cursor": null }))
}

/// Newest first.
pub(super) fn checkpoints(call: &Call<'_>) -> Result<Answer, Response> {
    let page = Page::of(call.request, 100)?;
    let mut checkpoints = call.state.lock().checkpoints_of(&call.owner, None);
    checkpoints.reverse();
    let total = checkpoints.len();
    respond(&json!({ "checkpoints": page.cut(checkpoints), "cursor": cursor(page, total) }))
}

pub(super) fn delete_checkpoint(call: &Call<'_>) -> Result<Answer, Response> {
    let path = call.checkpoint_path()?;
    let mut tables = call.state.lock();
    tables.checkpoint(path.as_str(), &call.owner, false)?;
    let unwritable = |error| Response::detail(500, &format!("the checkpoint could not be deleted: {error}"));
    call.state.store.remove(&place(&path)).map_err(unwritable)?;
    tables.checkpoints.remove(path.as_str());
    done()
}

pub(super) fn publish(call: &Call<'_>) -> Result<Answer, Response> {
    call.change_checkpoint(|checkpoint| checkpoint.public = true)
}

pub(super) fn unpublish(call: &Call<'_>) -> Result<Answer, Response> {
    call.change_checkpoint(|checkpoint| checkpoint.public = false)
}

#[derive(Deserialize)]
struct TimeToLive {
    ttl_seconds: Option<u64>,
}

/// None means for ever.
pub(super) fn set_time_to_live(call: &Call<'_>) -> Result<Answer, Response> {
    let TimeToLive { ttl_seconds } = input::body(call.request)?;
    call.change_checkpoint(|checkpoint| checkpoint.expires_at = ttl_seconds.and_then(timestamp_in))
}

/// Newest first.
pub(super) fn sessions(call: &Call<'_>) -> Result<Answer, Response> {
    let page = Page::of(call.request, 20)?;
    let tables = call.state.lock();
    let mut sessions: Vec<_> =
        tables.sessions.iter().filter(|(_, session)| session.record.owner == call.owner).collect();
    sessions.sort_by_key(|(_, session)| std::cmp::Reverse(session.record.number));
    let sessions = page.cut(sessions).into_iter().map(|(id, _)| id.clone()).collect();
    respond(&SessionsListResponse { sessions })
}

pub(super) fn session(call: &Call<'_>) -> Result<Answer, Response> {
    let [id] = call.named()?;
    let tables = call.state.lock();
    let found = tables.sessions.get(id).ok_or_else(|| Response::detail(404, &format!("there is no session {id:?}")))?;
    if found.record.owner != call.owner {
        return Err(Response::detail(403, &format!("{id} belongs to another API key")));
    }
    let mut training_run_ids: Vec<_> =
        tables.runs.iter().filter(|(_, run)| run.record.session_id == id).map(|(id, _)| id.clone()).collect();
    let samplers = tables.samplers.iter().filter(|(_, sampler)| sampler.record.session_id == id);
    let mut sampler_ids: Vec<_> = samplers.map(|(id, _)| id.clone()).collect();
    training_run_ids.sort();
    sampler_ids.sort();
    respond(&SessionResponse { training_run_ids, sampler_ids })
}

pub(super) fn sampler(call: &Call<'_>) -> Result<Answer, Response> {
    let [id] = call.named()?;
    let mut tables = call.state.lock();
    let record = &tables.sampler(id, &call.owner)?.record;
    let model_path = match &record.weights {
        Weights::Checkpoint(path) => Some(path.clone()),
        Weights::Base | Weights::Snapshot(_) => None,
    };
    respond(&SamplerResponse { sampler_id: id.to_owned(), base_model: record.base_model.clone(), model_path })
}

pub(super) fn weights_info(call: &Call<'_>) -> Result<Answer, Response> {
    let WeightsInfoRequest { tinker_path } = input::body(call.request)?;
    let mut tables = call.state.lock();
    let CheckpointRecord { base_model, lora, .. } = tables.checkpoint(&tinker_path, &call.owner, true)?;
    respond(&json!({
        "base_model": base_model, "is_lora": true, "lora_rank": lora.rank,
        "train_unembed": lora.train_unembed, "train_mlp": lora.train_mlp, "train_attn": lora.train_attn,
    }))
}

fn cursor(page: Page, total: usize) -> Cursor {
    Cursor { offset: page.offset, limit: page.limit, total_count: total as u64 }
}

impl Call<'_> {
    /// What the path names, for routes with so many places.
    pub(super) fn named<const N: usize>(&self) -> Result<[&str; N], Response> {
        let names: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        names.try_into().map_err(|_| Response::detail(404, "Not Found"))
    }

    /// The checkpoint that the path names.
    pub(super) fn checkpoint_path(&self) -> Result<CheckpointPath, Response> {
        let [run, kind, name] = self.named()?;
        CheckpointPath::try_from(format!("tinker://{run}/{kind}/{name}"))
            .map_err(|error| Response::detail(404, &error.to_string()))
    }

    fn change_checkpoint(&self, change: impl FnOnce(&mut CheckpointRecord)) -> Result<Answer, Response> {
        let path = self.checkpoint_path()?;
        let mut tables = self.state.lock();
        let record = tables.checkpoint(path.as_str(), &self.owner, false)?;
        let mut changed = record.clone();
        change(&mut changed);
        self.state.record(&place(&path), CHECKPOINT, &changed)?;
        *record = changed;
        done()
    }
}

impl Tables {
    /// A training run as the API shows it. Looking at it is no sign of life.
    fn view(&self, id: &str, owner: &Owner) -> Result<TrainingRun, Response> {
        let run =
            self.runs.get(id).ok_or_else(|| Response::detail(404, &format!("there is no training run {id:?}")))?;
        if run.record.owner != *owner {
            return Err(Response::detail(403, &format!("{id} belongs to another API key")));
        }
        let checkpoints = self.checkpoints_of(owner, Some(id));
        let last = |kind: CheckpointType| {
            let latest = checkpoints.iter().rev().find(|view| view.checkpoint.checkpoint_type == kind);
            latest.map(|view| view.checkpoint.clone())
        };
        Ok(run.record.view(id, last(CheckpointType::Training), last(CheckpointType::Sampler)))
    }

    /// The checkpoints of an owner, or of one run, oldest first.
    fn checkpoints_of(&self, owner: &Owner, run: Option<&str>) -> Vec<CheckpointView> {
        let now = timestamp();
        let theirs = self.checkpoints.iter().filter(|(_, record)| record.owner == *owner && !record.is_expired(&now));
        let mut checkpoints: Vec<_> = theirs
            .filter_map(|(path, record)| Some((path.parse::<CheckpointPath>().ok()?, record)))
            .filter(|(path, _)| run.is_none_or(|run| path.training_run_id() == run))
            .collect();
        checkpoints.sort_by(|(a, left), (b, right)| (&left.time, a.as_str()).cmp(&(&right.time, b.as_str())));
        checkpoints.into_iter().map(|(path, record)| record.view(&path)).collect()
    }
}

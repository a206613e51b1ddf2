//! What was used, with invented prices: each token costs the same on every model, and a restart changes no price.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use crate::local::server::api::body::bad_request;
use crate::local::server::api::call::{Call, HandlerResult, ok};
use crate::local::server::state::{Hour, Owner, Tables, UsageKey, UsageKind, storage, timestamp};
use crate::rules::billing_period::check_billing_period;
use crate::types::{
    BillingEventInfo, BillingEventType, BillingUsageEvent, BillingUsageResponse, BillingUsageSession,
    CurrentCheckpointStorageUsageItem, CurrentCheckpointStorageUsageResponse,
};

/// US dollars for a gigabyte and month of 720 hours.
const STORAGE_RATE: f64 = 0.1;

const GIGABYTE: f64 = 1e9;
const HOURS_OF_MONTH: f64 = 720.0;
const MILLISECONDS_OF_HOUR: f64 = 3_600_000.0;

/// US dollars for a million tokens.
fn token_rate(kind: UsageKind) -> Option<f64> {
    match kind {
        UsageKind::Training => Some(1.0),
        UsageKind::Prefill => Some(0.5),
        UsageKind::CachedPrefill => Some(0.05),
        UsageKind::Sample => Some(1.5),
        UsageKind::Checkpoint | UsageKind::Storage => None,
    }
}

/// What the key used from one hour until before another one, in the order of the hours, then with most tokens first.
pub(super) fn usage(call: &Call<'_>) -> HandlerResult {
    let (start, end) = (call.required_time("starting_on")?, call.required_time("ending_before")?);
    let [from, to] = [&start, &end].map(|time| (time.unix_seconds(), time.subsec_nanos()));
    check_billing_period(from, to).map_err(|error| bad_request(error.to_string()))?;
    if start > timestamp() {
        return Err(bad_request("starting_on is in the future: nothing was used yet"));
    }
    let hours = Hour::of(&start)..Hour::of(&end);
    let tables = call.state.lock();
    let mut amounts = call.state.usage.of(&call.owner, &hours);
    tables.add_storage(&call.owner, &hours, &mut amounts);
    let mut data: Vec<_> = amounts.into_iter().map(|((hour, key), amount)| event(&tables, hour, key, amount)).collect();
    data.sort_by(|a, b| (&a.bucket_start, b.event_info.token_count).cmp(&(&b.bucket_start, a.event_info.token_count)));
    let ids = data.iter().filter_map(|event| event.session_id.clone());
    let sessions = ids.filter_map(|id| tables.sessions.get(&id).map(|session| (id, session)));
    let sessions = sessions.map(|(id, session)| (id, BillingUsageSession { user_metadata: session.record.metadata() }));
    ok(&BillingUsageResponse { sessions: sessions.collect(), data, cost_data_through: None })
}

fn event(tables: &Tables, hour: Hour, key: UsageKey, amount: u64) -> BillingUsageEvent {
    let mut event_info = BillingEventInfo {
        event_type: match key.kind {
            UsageKind::Training => BillingEventType::Training,
            UsageKind::Prefill | UsageKind::CachedPrefill => BillingEventType::SamplingPrefill,
            UsageKind::Sample => BillingEventType::SamplingSample,
            UsageKind::Checkpoint => BillingEventType::Checkpoint,
            UsageKind::Storage => BillingEventType::Storage,
        },
        token_count: None,
        cached: None,
        count: None,
        free: None,
        gigabyte_hours: None,
    };
    let rate = token_rate(key.kind);
    let mut storage_rate = None;
    let mut cost = rate.map(|rate| rate * amount as f64 / 1e6);
    match key.kind {
        UsageKind::Training | UsageKind::Sample => event_info.token_count = Some(amount),
        UsageKind::Prefill | UsageKind::CachedPrefill => {
            event_info.token_count = Some(amount);
            event_info.cached = Some(key.kind == UsageKind::CachedPrefill);
        }
        UsageKind::Checkpoint => event_info.count = Some(amount),
        UsageKind::Storage => {
            let gigabyte_hours = amount as f64 / MILLISECONDS_OF_HOUR / GIGABYTE;
            // All storage is charged for. Clients before 0.38 refuse an event that says so with `free`.
            event_info.gigabyte_hours = Some(gigabyte_hours);
            storage_rate = Some(STORAGE_RATE);
            cost = Some(STORAGE_RATE * gigabyte_hours / HOURS_OF_MONTH);
        }
    }
    BillingUsageEvent {
        bucket_start: hour.start(),
        bucket_end: hour.next().start(),
        base_model: Some(key.base_model),
        user_id: Some(key.owner.as_str().to_owned()),
        user_name: None,
        project_id: key.session_id.as_deref().map(|id| tables.project_of_session(id).to_owned()),
        session_id: key.session_id,
        estimated_cost_usd: cost,
        effective_rate_usd_per_million_tokens: rate,
        effective_rate_usd_per_gigabyte_month: storage_rate,
        event_info,
    }
}

/// The storage that the key's checkpoints take, by project.
pub(super) fn checkpoint_storage(call: &Call<'_>) -> HandlerResult {
    let project = call.parameter("project_id")?;
    let tables = call.state.lock();
    let mut projects: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (path, checkpoint) in tables.own_checkpoints(&call.owner) {
        let of_project = projects.entry(tables.project_of_run(path.training_run_id())).or_default();
        *of_project = (of_project.0 + 1, of_project.1 + checkpoint.size_bytes);
    }
    projects.retain(|name, _| project.as_deref().is_none_or(|project| project == *name));
    let item = |(project, (checkpoint_count, size_bytes)): (&str, (u64, u64))| CurrentCheckpointStorageUsageItem {
        project_id: Some(project.to_owned()),
        org_user_urn: Some(call.owner.as_str().to_owned()),
        user_email: None,
        user_name: None,
        checkpoint_count,
        size_bytes,
        size_gigabytes: size_bytes as f64 / GIGABYTE,
        estimated_monthly_cost_usd: Some(size_bytes as f64 / GIGABYTE * STORAGE_RATE),
    };
    ok(&CurrentCheckpointStorageUsageResponse {
        effective_rate_usd_per_gigabyte_month: Some(STORAGE_RATE),
        data: projects.into_iter().map(item).collect(),
    })
}

impl Tables {
    /// Adds the storage of the checkpoints that exist, up to now.
    fn add_storage(&self, owner: &Owner, hours: &Range<Hour>, amounts: &mut HashMap<(Hour, UsageKey), u64>) {
        let now = timestamp();
        for (path, checkpoint) in self.own_checkpoints(owner) {
            let key = self.storage_key(path.training_run_id(), checkpoint);
            for (hour, amount) in storage(checkpoint.size_bytes, &checkpoint.time, &now, hours) {
                let total = amounts.entry((hour, key.clone())).or_default();
                *total = total.saturating_add(amount);
            }
        }
    }
}

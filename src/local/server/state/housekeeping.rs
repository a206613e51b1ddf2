//! What is removed or put away while the server runs, so that a long run does not fill memory and disk.

use std::collections::BTreeSet;
use std::time::Instant;

use super::owner::Owner;
use super::promises::{PollResult, PromiseId};
use super::records::Weights;
use super::run_queue::TaskQueue;
use super::server_state::ServerState;
use super::store::inflight_folder;
use super::tables::{REMOVED_SAMPLERS_RECORD, Run, SamplingSession, Tables};
use crate::local::server::http1::Response;

/// How many sampling sessions on unnamed saves a session keeps: those that were used last.
const MAX_UNNAMED: usize = 64;
/// With many training runs, how many it keeps for each of them: a sweep samples from each in turn.
const UNNAMED_PER_RUN: usize = 4;
/// How many other sampling sessions a session keeps: those that were used last.
const MAX_SAMPLERS: usize = 1024;

/// How many training runs there may be in all for each one in memory.
const RUNS_PER_LOADED: usize = 16;

impl ServerState {
    /// Makes room for one more run in memory, if there is none: the idle run that was used least recently rests. 429 if each is at
    /// work.
    pub(crate) fn make_room(&self, tables: &mut Tables) -> Result<(), Response> {
        let loaded = tables.runs.values().filter(|run| run.queue.is_some()).count();
        if loaded < self.max_models {
            return Ok(());
        }
        let is_idle = |run: &&mut Run| run.queue.as_ref().is_some_and(TaskQueue::is_idle);
        let idle = tables.runs.values_mut().filter(is_idle).min_by_key(|run| run.last_used);
        let Some(run) = idle else {
            let detail = format!("{loaded} models are in memory and at work, the maximum: try again later");
            return Err(Response::temporary(429, &detail));
        };
        run.resting = run.queue.take().map(TaskQueue::put_away);
        Ok(())
    }

    /// Checks that there may be one more run.
    pub(crate) fn check_runs(&self, tables: &Tables) -> Result<(), Response> {
        let runs = tables.runs.values().filter(|run| run.has_model()).count();
        let limit = self.max_models.saturating_mul(RUNS_PER_LOADED);
        if runs < limit {
            return Ok(());
        }
        let what = "unload one first (unload_model), or end a session";
        Err(Response::error(400, &format!("there are {runs} models that are not unloaded, the maximum: {what}")))
    }

    /// Adds a sampling session whose record is in the store. Removes those of the same session that exceed the limits.
    pub(crate) fn add_sampler(&self, tables: &mut Tables, id: String, sampler: SamplingSession) {
        let (session_id, is_unnamed) = (sampler.record.session_id.clone(), is_unnamed(&sampler));
        tables.samplers.insert(id.clone(), sampler);
        if is_unnamed && tables.sessions.get(&session_id).is_none_or(|session| session.last_seen.is_none()) {
            // Saved by a task that was queued when the session ended.
            self.remove_inflight_weights(tables, &session_id);
            self.remove_samplers(tables, &session_id, &[id]);
            return;
        }
        let alike = tables
            .samplers
            .iter()
            .filter(|(_, sampler)| sampler.record.session_id == session_id && self::is_unnamed(sampler) == is_unnamed);
        let uses = alike
            .map(|(id, sampler)| (sampler.last_used, self.promises.has_pending_samples(id), id.as_str()))
            .collect();
        let limit =
            if is_unnamed { MAX_UNNAMED.max(UNNAMED_PER_RUN * tables.models_of(&session_id)) } else { MAX_SAMPLERS };
        let excess = unused(uses, limit);
        let excess: Vec<String> = excess.into_iter().map(str::to_owned).collect();
        self.remove_samplers(tables, &session_id, &excess);
    }

    /// Ends a session, if it has not ended: its models are unloaded, its samples cancelled, and its unnamed saves
    /// removed.
    pub(crate) fn end_session(&self, tables: &mut Tables, session_id: &str) {
        self.drop_samples(&self.promises.cancel_session(session_id));
        tables.end_session(session_id);
        self.remove_inflight_weights(tables, session_id);
        let own = tables.samplers.iter().filter(|(_, sampler)| sampler.record.session_id == session_id);
        let snapshots: Vec<String> = own.filter(|(_, sampler)| is_unnamed(sampler)).map(|(id, _)| id.clone()).collect();
        self.remove_samplers(tables, session_id, &snapshots);
    }

    /// Ends the sessions that have finished and whose unnamed saves are still there: the server was killed before it had removed
    /// them.
    pub(super) fn complete_ends(&self) {
        let mut tables = self.lock();
        let unnamed = tables.samplers.values().filter(|sampler| is_unnamed(sampler));
        let sessions: BTreeSet<String> = unnamed.map(|sampler| sampler.record.session_id.clone()).collect();
        for id in sessions {
            if tables.sessions.get(&id).is_none_or(|session| session.last_seen.is_none()) {
                self.end_session(&mut tables, &id);
            }
        }
    }

    /// Removes the weights that the inflight sampling sessions of a session's runs shared.
    fn remove_inflight_weights(&self, tables: &Tables, session_id: &str) {
        for (id, _) in tables.runs.iter().filter(|(_, run)| run.record.session_id.as_deref() == Some(session_id)) {
            if let Err(error) = self.store.remove(&inflight_folder(id)) {
                log::warn!("failed to remove the inflight weights of {id}: {error}");
            }
        }
    }

    /// The number of entries in all tables, and of files and their kilobytes in a store in memory.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> usize {
        let tables = self.lock();
        let sessions = tables.sessions.values().map(|session| 1 + session.models.len() + session.samplers.len());
        let runs = tables.runs.values().map(|run| 1 + run.requests.len());
        let samplers = tables.samplers.values().map(|sampler| 1 + sampler.requests.len());
        let (files, bytes) = self.store.in_memory_usage();
        let tables = [
            tables.checkpoints.len(),
            tables.reserved.len(),
            self.promises.len(),
            self.samples.len(),
            files,
            bytes / 1024,
        ];
        sessions.chain(runs).chain(samplers).chain(tables).sum()
    }

    /// Takes samples that failed, or that nobody wants, out of the queue.
    pub(super) fn drop_samples(&self, promises: &[PromiseId]) {
        for id in self.samples.remove(promises) {
            self.timeline.finished(id, true);
        }
    }

    /// Cancels a sample, which leaves the queue, or is no longer computed. Returns whether the promise is that of a sample.
    pub(crate) fn cancel_sample(&self, request_id: &str, owner: &Owner) -> Result<bool, PollResult> {
        let (id, is_sample) = self.promises.cancel(request_id, owner)?;
        self.drop_samples(&[id]);
        Ok(is_sample)
    }

    /// Removes sampling sessions and their own weights. Their numbers stay used, also after a restart.
    fn remove_samplers(&self, tables: &mut Tables, session_id: &str, ids: &[String]) {
        if ids.is_empty() {
            return;
        }
        if let Some(session) = tables.sessions.get_mut(session_id) {
            let numbers =
                ids.iter().filter_map(|id| id.strip_prefix(session_id)?.strip_prefix(":sample:")?.parse().ok());
            numbers.for_each(|number| session.samplers.forget(number));
            let removed = session.samplers.forgotten();
            // Before the folders: a number whose folder is gone must be known as used.
            let written = self.store.write_record(&["sessions", session_id], REMOVED_SAMPLERS_RECORD, removed);
            if let Err(error) = written {
                log::warn!("{session_id}: no sampling session is removed: {error}");
                return;
            }
        }
        for id in ids {
            tables.samplers.remove(id);
            if let Err(error) = self.store.remove(&["samplers", id]) {
                log::warn!("failed to remove the files of {id}: {error}");
            }
        }
    }
}

fn is_unnamed(sampler: &SamplingSession) -> bool {
    matches!(sampler.record.weights, Weights::Snapshot(_) | Weights::Inflight { .. })
}

/// Those to remove, so that `limit` stay: the ones that were not used for longest. None that is in use, nor the newest.
fn unused<T>(mut uses: Vec<(Instant, bool, T)>, limit: usize) -> Vec<T> {
    let excess = uses.len().saturating_sub(limit);
    uses.sort_by_key(|(last_used, ..)| *last_used);
    uses.pop();
    uses.into_iter().filter(|(_, is_in_use, _)| !is_in_use).map(|(.., item)| item).take(excess).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::local::server::time::now;

    #[test]
    fn the_longest_unused_are_removed() {
        let start = now();
        let uses = |ages: &[(u64, bool)]| {
            let uses = ages.iter().map(|(age, in_use)| (start - Duration::from_secs(*age), *in_use, *age));
            uses.collect::<Vec<_>>()
        };
        for (ages, limit, expected) in [
            (&[(1, false), (3, false), (2, false)][..], 3, &[][..]),
            (&[(1, false), (3, false), (2, false)], 2, &[3]),
            (&[(1, false), (3, true), (2, false)], 2, &[2]),
            (&[(1, false), (3, true), (2, true)], 1, &[]),
            (&[(1, false), (3, false), (2, false)], 0, &[3, 2]),
        ] {
            assert_eq!(unused(uses(ages), limit), expected, "{ages:?} {limit}");
        }
    }
}

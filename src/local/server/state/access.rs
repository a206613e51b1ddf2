//! Who may see what, and to which project it belongs.

use std::collections::HashSet;

use super::owner::Owner;
use super::records::{CheckpointRecord, timestamp};
use super::tables::{Session, Tables};
use super::usage::{UsageKey, UsageKind};
use crate::types::{AccessScope, CheckpointPath};

/// The project of everything that was created without one.
const DEFAULT_PROJECT: &str = "default";

impl Tables {
    /// The checkpoints of an owner, in the order of their paths.
    pub(crate) fn own_checkpoints<'a>(
        &'a self,
        owner: &'a Owner,
    ) -> impl Iterator<Item = (CheckpointPath, &'a CheckpointRecord)> {
        let now = timestamp();
        let own = self.checkpoints.iter().filter(move |(_, record)| record.owner == *owner && !record.is_expired(&now));
        own.filter_map(|(path, record)| Some((path.parse::<CheckpointPath>().ok()?, record)))
    }

    /// The checkpoints of a run, in the order of their names.
    fn checkpoints_of_run(&self, run: &str) -> impl Iterator<Item = (CheckpointPath, &CheckpointRecord)> {
        let (now, prefix) = (timestamp(), format!("tinker://{run}/"));
        let of_run = self.checkpoints.range(prefix.clone()..).take_while(move |(path, _)| path.starts_with(&prefix));
        let existing = of_run.filter(move |(_, record)| !record.is_expired(&now));
        existing.filter_map(|(path, record)| Some((path.parse::<CheckpointPath>().ok()?, record)))
    }

    /// The checkpoints of a run that a key may read: those of its own runs, and published ones. Oldest first.
    pub(crate) fn readable_checkpoints(&self, run: &str, owner: &Owner) -> Vec<(CheckpointPath, &CheckpointRecord)> {
        let readable = |record: &CheckpointRecord| record.public || record.owner == *owner;
        let mut checkpoints: Vec<_> = self.checkpoints_of_run(run).filter(|(_, record)| readable(record)).collect();
        checkpoints.sort_by(|(a, left), (b, right)| (&left.time, a.as_str()).cmp(&(&right.time, b.as_str())));
        checkpoints
    }

    /// Whether a key sees a run: its own, or in the wide scope one of another key with a published checkpoint.
    pub(crate) fn sees_run(&self, id: &str, owner: &Owner, scope: &AccessScope) -> bool {
        self.runs.get(id).is_some_and(|run| {
            run.record.owner == *owner
                || (*scope == AccessScope::Accessible && self.checkpoints_of_run(id).any(|(_, record)| record.public))
        })
    }

    /// The sessions that a key sees: its own, and those of the runs that it sees.
    pub(crate) fn visible_sessions(&self, owner: &Owner, scope: &AccessScope) -> Vec<(&String, &Session)> {
        let seen = self.runs.keys().filter(|id| self.sees_run(id, owner, scope));
        let seen: HashSet<&str> = seen.filter_map(|id| self.session_of_run(id)).collect();
        let is_visible = |id: &str, session: &Session| session.record.owner == *owner || seen.contains(id);
        self.sessions.iter().filter(|(id, session)| is_visible(id, session)).collect()
    }

    /// The session that a run was created in.
    pub(crate) fn session_of_run(&self, run: &str) -> Option<&str> {
        self.runs.get(run)?.record.session_id.as_deref()
    }

    pub(crate) fn project_of_session(&self, session: &str) -> &str {
        self.sessions.get(session).and_then(|session| session.record.project_id.as_deref()).unwrap_or(DEFAULT_PROJECT)
    }

    /// The project of a run: its own, or that of its session.
    pub(crate) fn project_of_run(&self, run: &str) -> &str {
        let own = self.runs.get(run).and_then(|run| run.record.project_id.as_deref());
        own.or_else(|| Some(self.project_of_session(self.session_of_run(run)?))).unwrap_or(DEFAULT_PROJECT)
    }

    /// What the storage of a checkpoint of this run counts as.
    pub(crate) fn storage_key(&self, run: &str, checkpoint: &CheckpointRecord) -> UsageKey {
        UsageKey {
            owner: checkpoint.owner.clone(),
            session_id: self.session_of_run(run).map(str::to_owned),
            base_model: checkpoint.base_model.clone(),
            kind: UsageKind::Storage,
        }
    }
}

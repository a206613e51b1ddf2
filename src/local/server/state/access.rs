//! Who may see what, and to which project it belongs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::owner::Owner;
use super::records::{CheckpointRecord, timestamp};
use super::tables::Tables;
use super::usage::{UsageKey, UsageKind};
use crate::types::CheckpointPath;

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

    /// The session that a run was created in.
    pub(crate) fn session_of_run(&self, run: &str) -> Option<&str> {
        self.runs.get(run).map(|run| run.record.session_id.as_str())
    }

    pub(crate) fn project_of_session(&self, _session: &str) -> &str {
        DEFAULT_PROJECT
    }

    pub(crate) fn project_of_run(&self, run: &str) -> &str {
        self.session_of_run(run).map_or(DEFAULT_PROJECT, |session| self.project_of_session(session))
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

/// Metadata as texts: what is not a text, which only `create_session` allows, is written as JSON.
pub(crate) fn text_metadata(metadata: Option<&Value>) -> Option<BTreeMap<String, String>> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let entries = metadata?.as_object()?.iter();
    Some(entries.map(|(name, value)| (name.clone(), text(value))).collect())
}

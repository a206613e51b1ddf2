//! The state that all threads share, and its recovery from the store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

use super::adapter_cache::LoadedAdapters;
use super::audit_log::{AuditEvent, AuditLog};
use super::owner::Owner;
use super::promises::PromiseTable;
use super::records::{RunRecord, SamplingSessionRecord, Weights, timestamp};
use super::resting::resting_folder;
use super::revoked_keys::RevokedKeys;
use super::sequence_log::SequenceLog;
use super::store::{FolderPath, Store, checkpoint_folder};
use super::tables::{
    CHECKPOINT_RECORD, CLIENTS_RECORD, REMOVED_SAMPLERS_RECORD, RUN_RECORD, Run, SAMPLER_RECORD, SESSION_RECORD,
    SamplingSession, Session, Tables,
};
use super::tasks::SampleQueue;
use super::timeline::Timeline;
use super::usage::Usage;
use super::waiting_batches::WaitingBatches;
use crate::local::model::Model;
use crate::local::server::flags::Flags;
use crate::local::server::http1::Response;
use crate::local::server::tokenizer_packages::TokenizerPackages;
use crate::types::{AuditEventType, AuditLogEntry, CheckpointPath, TokenizerPackage};

/// The state of a server.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub(crate) models: Vec<Arc<dyn Model>>,
    /// What clients may load of the models' tokenizers.
    pub(crate) tokenizers: TokenizerPackages,
    /// What the server announces to its clients.
    pub(crate) flags: Flags,
    pub(crate) promises: PromiseTable,
    pub(crate) store: Arc<Store>,
    pub(crate) adapters: LoadedAdapters,
    pub(crate) samples: SampleQueue,
    pub(crate) batches: WaitingBatches,
    pub(crate) revoked_keys: RevokedKeys,
    pub(crate) usage: Usage,
    pub(crate) timeline: Timeline,
    audit_log: AuditLog,
    /// Maximum number of training runs in memory; the others rest.
    pub(crate) max_models: usize,
    /// How long a session lives without a heartbeat or another request.
    session_time: Duration,
    tables: Mutex<Tables>,
    stopping: AtomicBool,
}

impl ServerState {
    /// Recovers the state from the store.
    pub(crate) fn recover(
        models: Vec<Arc<dyn Model>>,
        mut flags: Flags,
        promises: PromiseTable,
        store: Store,
        max_models: usize,
        session_time: Duration,
    ) -> io::Result<Self> {
        let revoked_keys = RevokedKeys::read(&store)?;
        let (usage, audit_log) = (Usage::recover(&store)?, AuditLog::recover(&store)?);
        let mut tables = Tables::new();
        for id in store.list(&["sessions"])? {
            if let Some(record) = store.read_record(&["sessions", &id], SESSION_RECORD)? {
                let removed = store.read_record(&["sessions", &id], REMOVED_SAMPLERS_RECORD)?.unwrap_or_default();
                let samplers = SequenceLog::recovered(removed);
                tables.sessions.insert(id, Session { samplers, ..Session::new(record) });
            }
        }
        let model = |id: &str, name: &str| {
            let model = models.iter().find(|model| model.name() == name).cloned();
            if model.is_none() {
                log::warn!("{id} is not recovered: the server has no base model {name:?}");
            }
            model
        };
        for id in store.list(&["runs"])? {
            let Some(record) = store.read_record::<RunRecord>(&["runs", &id], RUN_RECORD)? else { continue };
            for kind in ["weights", "sampler_weights", "external_weights"] {
                for name in store.list(&["runs", &id, kind])? {
                    if let Some(record) = store.read_record(&["runs", &id, kind, &name], CHECKPOINT_RECORD)? {
                        tables.checkpoints.insert(format!("tinker://{id}/{kind}/{name}"), record);
                    }
                }
            }
            store.remove(&resting_folder(&id))?;
            if let Some(model) = model(&id, &record.base_model) {
                tables.runs.insert(id, Run::new(record, model, None));
            }
        }
        for id in store.list(&["samplers"])? {
            let Some(record) = store.read_record::<SamplingSessionRecord>(&["samplers", &id], SAMPLER_RECORD)? else {
                continue;
            };
            if tables.is_removed(&id) {
                store.remove(&["samplers", &id])?;
            } else if let Some(model) = model(&id, &record.base_model) {
                let run = match &record.weights {
                    Weights::Inflight { run, .. } => tables.runs.get(run),
                    _ => None,
                };
                let adapter = run.map_or_else(Arc::default, |run| run.inflight.clone());
                let joined = store.read_record(&["samplers", &id], CLIENTS_RECORD)?.unwrap_or_default();
                let sampler = SamplingSession::new(record, model, adapter);
                tables.samplers.insert(id, SamplingSession { joined, ..sampler });
            }
        }
        let stopping = AtomicBool::new(false);
        let tokenizers = TokenizerPackages::new(&models);
        flags.client_config.tokenizer_packages = !tokenizers.is_empty();
        let state = ServerState {
            tokenizers,
            models,
            flags,
            promises,
            store: Arc::new(store),
            adapters: LoadedAdapters::default(),
            samples: SampleQueue::default(),
            batches: WaitingBatches::default(),
            revoked_keys,
            usage,
            timeline: Timeline::new(),
            audit_log,
            max_models,
            session_time,
            tables: Mutex::new(tables),
            stopping,
        };
        state.complete_ends();
        Ok(state)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock()
    }

    /// Ends the sessions whose heartbeats stopped and frees their memory; removes expired checkpoints and evicts expired
    /// results.
    pub(crate) fn reap(&self, now: Instant) {
        self.drop_samples(&self.promises.evict_expired(now));
        self.usage.write_now_and_then(&self.store, now);
        let mut tables = self.lock();
        self.remove_expired_checkpoints(&mut tables);
        for id in tables.silent_sessions(now, self.session_time) {
            self.end_session(&mut tables, &id);
            log::info!("{id} ended: no heartbeat for {:?}", self.session_time);
        }
    }

    fn remove_expired_checkpoints(&self, tables: &mut Tables) {
        for path in tables.expired_checkpoints(&timestamp()) {
            self.forget_checkpoint(tables, &path);
            let removed = path.parse::<CheckpointPath>().map(|path| self.store.remove(&checkpoint_folder(&path)));
            match removed {
                Ok(Ok(())) => log::info!("removed expired checkpoint {path}"),
                Ok(Err(error)) => log::warn!("failed to remove the files of expired checkpoint {path}: {error}"),
                Err(error) => log::warn!("{error}"),
            }
        }
    }

    /// Removes a checkpoint from the tables, also from sampling sessions on it, and counts the storage that it took.
    pub(crate) fn forget_checkpoint(&self, tables: &mut Tables, path: &str) {
        let Some(record) = tables.checkpoints.remove(path) else { return };
        tables.unload_checkpoint(path);
        let Ok(path) = path.parse::<CheckpointPath>() else { return };
        let now = timestamp();
        let end = record.expires_at.as_ref().map_or(&now, |expires| expires.min(&now));
        self.usage.count_storage(
            &tables.storage_key(path.training_run_id(), &record),
            record.size_bytes,
            &record.time,
            end,
        );
    }

    /// Writes an event to the audit log.
    pub(crate) fn audit(&self, event: AuditEvent) {
        self.audit_log.add(&self.store, event);
    }

    /// Writes to the audit log what someone did with a checkpoint, and what for.
    pub(crate) fn audit_checkpoint(&self, event: &str, path: &str, owner: &Owner, who: &Owner, purpose: Option<&str>) {
        let run = path.strip_prefix("tinker://").and_then(|path| path.split('/').next()).unwrap_or_default();
        let details = [("tinker_path", path), ("model_id", run)].into_iter().chain(Some("purpose").zip(purpose));
        self.audit(AuditEvent::new(event, owner, who, details));
    }

    /// The events of a day that an owner may read, oldest first.
    pub(crate) fn audit_log(&self, owner: &Owner, of: &AuditEventType, day: &str) -> Vec<AuditLogEntry> {
        self.audit_log.of_day(owner, of, day)
    }

    /// The base model with this name.
    pub(crate) fn model(&self, name: &str) -> Result<Arc<dyn Model>, Response> {
        let model = self.models.iter().find(|model| model.name() == name).cloned();
        model.ok_or_else(|| {
            let names: Vec<_> = self.models.iter().map(|model| model.name()).collect();
            Response::error(404, &format!("there is no base model {name:?}: this server has {}", names.join(", ")))
        })
    }

    /// What clients are told of a model's tokenizer, if the server has its files.
    pub(crate) fn tokenizer_package(&self, model_name: &str) -> Option<TokenizerPackage> {
        self.tokenizers.of_model(model_name).map(|served| served.package.clone())
    }

    /// Writes a record; 500 if that fails.
    pub(crate) fn write_record(
        &self,
        folder: FolderPath<'_>,
        name: &str,
        record: &impl Serialize,
    ) -> Result<(), Response> {
        self.store.write_record(folder, name, record).map_err(|error| {
            log::error!("failed to write {}: {error}", folder.join("/"));
            Response::temporary(500, &format!("failed to write a record: {error}"))
        })
    }

    /// Makes every worker end after its current task; queued tasks are dropped.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.usage.write(&self.store);
        self.samples.close();
        self.lock().close_queues();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::promises::PromiseSettings;
    use super::super::records::SessionRecord;
    use super::*;
    use crate::local::server::time::now;

    #[test]
    fn a_session_without_heartbeats_ends() {
        let (session_time, owner) = (Duration::from_secs(600), Owner::of_key("tml-test"));
        let promises = PromiseTable::new(PromiseSettings::default(), 0);
        let state =
            ServerState::recover(Vec::new(), Flags::default(), promises, Store::in_memory(), 1, session_time).unwrap();
        for id in ["silent", "alive"] {
            let created = timestamp();
            let record = SessionRecord {
                owner: owner.clone(),
                number: 1,
                created,
                tags: Vec::new(),
                user_metadata: None,
                project_id: None,
                display_name: None,
                finish: None,
            };
            let mut session = Session::new(record);
            session.last_seen = now().checked_sub(session_time / 2);
            state.lock().sessions.insert(id.to_owned(), session);
        }
        assert!(state.lock().session("alive", &owner).is_ok());
        state.reap(now() + session_time / 2);
        assert!(state.lock().session("alive", &owner).is_ok());
        assert_eq!(
            state.lock().session("silent", &owner).map(|_| ()).unwrap_err().detail(),
            "silent has ended: no heartbeat arrived in time"
        );
    }
}

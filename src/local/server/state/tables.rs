//! The tables of sessions, training runs, sampling sessions and checkpoints, with access checks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::adapter_cache::AdapterCache;
use super::owner::Owner;
use super::promises::PromiseId;
use super::records::{CheckpointRecord, RunRecord, SamplingSessionRecord, SessionRecord, Weights, timestamp};
use super::resting::RestingModel;
use super::run_queue::TaskQueue;
use super::sequence_log::{Fingerprint, SequenceLog};
use crate::local::model::{KvNamespace, Model};
use crate::local::server::http1::Response;
use crate::local::server::time::now;
use crate::types::{CheckpointPath, CheckpointType, Timestamp};

pub(crate) const SESSION_RECORD: &str = "session.json";
pub(crate) const RUN_RECORD: &str = "run.json";
pub(crate) const SAMPLER_RECORD: &str = "sampler.json";
/// The numbers of the sampling sessions that were removed, next to [`SESSION_RECORD`].
pub(super) const REMOVED_SAMPLERS_RECORD: &str = "removed_samplers.json";
/// How many clients share a sampling session, next to [`SAMPLER_RECORD`].
pub(crate) const CLIENTS_RECORD: &str = "clients.json";
pub(crate) const INFLIGHT_RECORD: &str = "inflight.json";
pub(crate) const CHECKPOINT_RECORD: &str = "checkpoint.json";

/// All tables, behind one lock.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) sessions: HashMap<String, Session>,
    pub(crate) runs: HashMap<String, Run>,
    pub(crate) samplers: HashMap<String, SamplingSession>,
    /// By `tinker://` path.
    pub(crate) checkpoints: BTreeMap<String, CheckpointRecord>,
    /// The `tinker://` paths of checkpoints that are being saved, with the number of saves.
    pub(super) reserved: HashMap<String, usize>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) record: SessionRecord,
    pub(crate) models: SequenceLog<PromiseId>,
    pub(crate) samplers: SequenceLog<String>,
    /// Time of the last heartbeat or other request; `None` once the session has ended.
    pub(super) last_seen: Option<Instant>,
}

/// A training run, which the protocol calls a model.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) record: RunRecord,
    pub(crate) model: Arc<dyn Model>,
    /// The queue of the run's worker; `None` while the run rests, once it is unloaded, and after a restart.
    pub(crate) queue: Option<TaskQueue>,
    /// Has or gets the model of a run that rests.
    pub(crate) resting: Option<Receiver<RestingModel>>,
    /// Time of the last request.
    pub(super) last_used: Instant,
    pub(crate) requests: SequenceLog<PromiseId>,
    /// The weights that the run's inflight sampling sessions share.
    pub(crate) inflight: Arc<AdapterCache>,
    /// The promise of the first `unload_model` request.
    pub(crate) unload: Option<PromiseId>,
}

/// A sampling session: weights, and the log of requests to them.
#[derive(Debug)]
pub(crate) struct SamplingSession {
    pub(crate) record: SamplingSessionRecord,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) adapter: Arc<AdapterCache>,
    /// Where the model keeps keys and values of its prompts. No other sampling session sees them, also if it has the same
    /// weights; for inflight weights, the service promises that.
    pub(crate) namespace: KvNamespace,
    pub(crate) requests: SequenceLog<PromiseId>,
    /// Number of clients that joined; the first client of the session is not counted.
    pub(crate) joined: u64,
    /// Time of the last sample, or of opening.
    pub(super) last_used: Instant,
}

impl Tables {
    pub(super) fn new() -> Self {
        Tables {
            sessions: HashMap::new(),
            runs: HashMap::new(),
            samplers: HashMap::new(),
            checkpoints: BTreeMap::new(),
            reserved: HashMap::new(),
        }
    }

    /// A live session. Keeps it alive, like a heartbeat.
    pub(crate) fn session(&mut self, id: &str, owner: &Owner) -> Result<&mut Session, Response> {
        let session = self.sessions.get_mut(id).ok_or_else(|| not_found("session", id))?;
        check_owner(&session.record.owner, owner, id)?;
        if session.record.finish.is_some() {
            return Err(Response::error(410, &format!("{id} has finished: its client ended it; create a new session")));
        }
        if session.last_seen.is_none() {
            return Err(Response::error(404, &format!("{id} has ended: no heartbeat arrived in time")));
        }
        session.last_seen = Some(now());
        Ok(session)
    }

    /// A training run, loaded or not. Keeps its session alive, like a heartbeat.
    pub(crate) fn run(&mut self, id: &str, owner: &Owner) -> Result<&mut Run, Response> {
        let run = self.runs.get_mut(id).ok_or_else(|| not_found("model", id))?;
        check_owner(&run.record.owner, owner, id)?;
        run.record.last_request_time = timestamp();
        run.last_used = now();
        let session = run.record.session_id.as_deref().and_then(|id| self.sessions.get_mut(id));
        if let Some(session) = session.filter(|session| session.last_seen.is_some()) {
            session.last_seen = Some(now());
        }
        Ok(run)
    }

    pub(crate) fn sampler(&mut self, id: &str, owner: &Owner) -> Result<&mut SamplingSession, Response> {
        if self.is_removed(id) {
            let reason = "was removed: its session has ended, or has used many others since";
            return Err(Response::error(410, &format!("{id} {reason}; save the weights with a name to keep them")));
        }
        let sampler = self.samplers.get_mut(id).ok_or_else(|| not_found("sampling session", id))?;
        check_owner(&sampler.record.owner, owner, id)?;
        Ok(sampler)
    }

    /// Whether this sampling session existed and was removed.
    pub(super) fn is_removed(&self, id: &str) -> bool {
        let parts = id
            .rsplit_once(":sample:")
            .and_then(|(session, seq)| Some((self.sessions.get(session)?, seq.parse().ok()?)));
        parts.is_some_and(|(session, seq)| session.samplers.forgotten().contains(seq))
    }

    /// A checkpoint that one of these may read: their own, or a published one.
    pub(crate) fn readable_checkpoint(&self, path: &str, readers: &[Owner]) -> Result<&CheckpointRecord, Response> {
        let record = self.checkpoints.get(path).filter(|record| !record.is_expired(&timestamp()));
        let record = record.ok_or_else(|| not_found("checkpoint", path))?;
        if record.public || readers.contains(&record.owner) { Ok(record) } else { Err(forbidden(path)) }
    }

    /// A checkpoint that the owner may change: their own. 409 while it is being overwritten, which its clients wait for.
    pub(crate) fn own_checkpoint(&mut self, path: &str, owner: &Owner) -> Result<&mut CheckpointRecord, Response> {
        let record = self.checkpoints.get_mut(path).filter(|record| !record.is_expired(&timestamp()));
        let record = record.ok_or_else(|| not_found("checkpoint", path))?;
        check_owner(&record.owner, owner, path)?;
        if self.reserved.contains_key(path) {
            return Err(Response::temporary(
                409,
                &format!("checkpoint {path} is being overwritten: wait for the save"),
            ));
        }
        Ok(record)
    }

    /// Reserves the path of a checkpoint until it is saved or saving fails; 400 if it is taken and may not be overwritten.
    pub(crate) fn reserve_checkpoint(&mut self, path: &CheckpointPath, overwrite: bool) -> Result<(), Response> {
        let what = match path.checkpoint_type() {
            CheckpointType::Training => "use another name, delete that checkpoint, or save with overwrite",
            _ => "use another name, or delete that checkpoint",
        };
        let path = path.as_str();
        if !overwrite && (self.checkpoints.contains_key(path) || self.reserved.contains_key(path)) {
            return Err(Response::error(400, &format!("checkpoint {path} already exists: {what}")));
        }
        *self.reserved.entry(path.to_owned()).or_default() += 1;
        Ok(())
    }

    /// The checkpoints that have expired and are not being overwritten.
    pub(super) fn expired_checkpoints(&self, now: &Timestamp) -> Vec<String> {
        let expired = self
            .checkpoints
            .iter()
            .filter(|(path, record)| record.is_expired(now) && !self.reserved.contains_key(*path));
        expired.map(|(path, _)| path.clone()).collect()
    }

    /// Takes back one reservation.
    pub(crate) fn release_checkpoint(&mut self, path: &CheckpointPath) {
        let Some(saves) = self.reserved.get_mut(path.as_str()) else { return };
        *saves -= 1;
        if *saves == 0 {
            self.reserved.remove(path.as_str());
        }
    }

    /// The sessions that were not seen for `session_time` and have not ended.
    pub(super) fn silent_sessions(&self, now: Instant, session_time: Duration) -> Vec<String> {
        let is_silent =
            |session: &Session| session.last_seen.is_some_and(|seen| now.duration_since(seen) >= session_time);
        self.sessions.iter().filter(|(_, session)| is_silent(session)).map(|(id, _)| id.clone()).collect()
    }

    /// The number of a session's training runs that have a model.
    pub(super) fn models_of(&self, session_id: &str) -> usize {
        let of_session = self.runs.values().filter(|run| run.record.session_id.as_deref() == Some(session_id));
        of_session.filter(|run| run.has_model()).count()
    }

    /// Ends a session: unloads its training runs, after the tasks that are queued, and frees the adapters of its sampling
    /// sessions.
    pub(super) fn end_session(&mut self, id: &str) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.last_seen = None;
        for run in self.runs.values_mut().filter(|run| run.record.session_id.as_deref() == Some(id)) {
            (run.queue, run.resting) = (None, None);
            (run.inflight, run.requests) = (Arc::default(), SequenceLog::default());
        }
        for sampler in self.samplers.values_mut().filter(|sampler| sampler.record.session_id == id) {
            sampler.requests = SequenceLog::default();
            sampler.unload();
        }
    }

    /// Makes the sampling sessions on a checkpoint load it again: it is replaced or removed.
    pub(crate) fn unload_checkpoint(&mut self, path: &str) {
        let is_of_path = |weights: &Weights| matches!(weights, Weights::Checkpoint(of) if of == path);
        let samplers = self.samplers.values_mut().filter(|sampler| is_of_path(&sampler.record.weights));
        samplers.for_each(SamplingSession::unload);
    }

    /// Ends every worker, by dropping its queue.
    pub(super) fn close_queues(&mut self) {
        self.runs.values_mut().for_each(|run| run.queue = None);
    }
}

/// The error for an id that does not exist.
pub(crate) fn not_found(what: &str, id: &str) -> Response {
    Response::error(404, &format!("there is no {what} {id:?}"))
}

/// Checks that a resource belongs to the API key of a request.
pub(crate) fn check_owner(owner: &Owner, key: &Owner, id: &str) -> Result<(), Response> {
    if owner == key { Ok(()) } else { Err(forbidden(id)) }
}

fn forbidden(id: &str) -> Response {
    Response::error(403, &format!("{id} belongs to another API key"))
}

impl Session {
    pub(crate) fn new(record: SessionRecord) -> Self {
        let last_seen = record.finish.is_none().then(now);
        Session { record, models: SequenceLog::default(), samplers: SequenceLog::default(), last_seen }
    }

    /// Whether it has not ended.
    pub(crate) fn is_active(&self) -> bool {
        self.last_seen.is_some()
    }

    /// The id of the sampling session with this sequence number; each number names one.
    pub(crate) fn sampler_id(
        &mut self,
        session_id: &str,
        seq: u64,
        fingerprint: Fingerprint,
    ) -> Result<String, Response> {
        if let Some(first) = self.samplers.find(Some(seq), fingerprint)? {
            return Ok(first.clone());
        }
        let id = format!("{session_id}:sample:{seq}");
        self.samplers.record(Some(seq), fingerprint, id.clone());
        Ok(id)
    }
}

impl SamplingSession {
    pub(crate) fn new(record: SamplingSessionRecord, model: Arc<dyn Model>, adapter: Arc<AdapterCache>) -> Self {
        let (namespace, requests) = (KvNamespace::new(), SequenceLog::default());
        SamplingSession { record, model, adapter, namespace, requests, joined: 0, last_used: now() }
    }

    /// Forgets the weights, and what was computed with them. Samples that have begun finish with them.
    fn unload(&mut self) {
        (self.adapter, self.namespace) = (Arc::default(), KvNamespace::new());
    }

    /// Notes that a sample was requested.
    pub(crate) fn touch(&mut self) {
        self.last_used = now();
    }
}

impl Run {
    pub(crate) fn new(record: RunRecord, model: Arc<dyn Model>, queue: Option<TaskQueue>) -> Self {
        let (requests, inflight) = (SequenceLog::default(), Arc::default());
        Run { record, model, queue, resting: None, last_used: now(), requests, inflight, unload: None }
    }

    /// Whether it can be trained: its model is in memory, or rests.
    pub(super) fn has_model(&self) -> bool {
        self.queue.is_some() || self.resting.is_some()
    }

    /// The queue of the run's worker, `None` if the run rests; 404 if the run has no model any more, 400 if it is a copy of weights.
    pub(crate) fn queue(&self) -> Result<Option<&TaskQueue>, Response> {
        if self.record.session_id.is_none() {
            let reason = "this run is a copy of weights, which cannot be trained: create a model from its checkpoint";
            return Err(Response::error(400, reason));
        }
        if !self.has_model() {
            let reason = "the model is not in memory: it was unloaded, its session ended, or the server was restarted";
            return Err(Response::error(404, reason));
        }
        Ok(self.queue.as_ref())
    }
}

//! What the server knows: sessions, training runs, sampling sessions and checkpoints.
//!
//! Everything belongs to the API key that it was made with. Records are written to the [`Store`] under the lock, so
//! that the disk has them in the order of the requests.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use parking_lot::{Mutex, MutexGuard};

use super::http::{Request, Response};
use super::keys::Owner;
use super::now;
use super::promises::{PromiseId, Promises};
use super::records::{CheckpointRecord, RunRecord, SamplerRecord, SessionRecord, timestamp};
use super::store::{Place, Store};
use super::weights::{Loaded, place};
use super::work::{SampleJob, TaskQueue};
use crate::local::model::Model;
use crate::types::CheckpointPath;

pub(super) const SESSION: &str = "session.json";
pub(super) const RUN: &str = "run.json";
pub(super) const SAMPLER: &str = "sampler.json";
pub(super) const CHECKPOINT: &str = "checkpoint.json";

#[derive(Debug)]
pub(super) struct State {
    pub(super) models: Vec<Arc<dyn Model>>,
    pub(super) promises: Promises,
    pub(super) store: Store,
    /// How many training runs may be in memory.
    pub(super) max_models: usize,
    /// How long a session lives without a sign of life.
    session_time: Duration,
    tables: Mutex<Tables>,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) sessions: HashMap<String, Session>,
    pub(super) runs: HashMap<String, Run>,
    pub(super) samplers: HashMap<String, Sampler>,
    /// By their tinker path.
    pub(super) checkpoints: BTreeMap<String, CheckpointRecord>,
    /// The tinker paths of checkpoints that are being saved.
    pub(super) reserved: HashSet<String>,
    /// To the sampling threads; none once the server is stopping.
    sampling: Option<Sender<SampleJob>>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) record: SessionRecord,
    pub(super) models: Numbered<PromiseId>,
    pub(super) samplers: Numbered<String>,
    /// When it last gave a sign of life; none once it was given up.
    alive: Option<Instant>,
}

/// A training run, which the protocol calls a model.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) record: RunRecord,
    pub(super) model: Arc<dyn Model>,
    /// To its worker; none once it is unloaded, and none after a restart.
    pub(super) queue: Option<TaskQueue>,
    pub(super) requests: Numbered<PromiseId>,
    pub(super) unloaded: Option<PromiseId>,
}

/// A sampling session: weights that stay as they are, and a count of the requests to them.
#[derive(Debug)]
pub(super) struct Sampler {
    pub(super) record: SamplerRecord,
    pub(super) model: Arc<dyn Model>,
    pub(super) weights: Arc<Loaded>,
    pub(super) requests: Numbered<PromiseId>,
}

/// What was answered to each sequence number, and to which request.
#[derive(Debug)]
pub(super) struct Numbered<T>(HashMap<u64, (Fingerprint, T)>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Numbered(HashMap::new())
    }
}

impl<T> Numbered<T> {
    /// The first answer to this number, if it was used; a refusal, if it was used for another request.
    pub(super) fn repeated(&self, seq: Option<u64>, print: Fingerprint) -> Result<Option<&T>, Response> {
        match seq.and_then(|seq| self.0.get(&seq)) {
            None => Ok(None),
            Some((first, answer)) if *first == print => Ok(Some(answer)),
            Some(_) => Err(Response::detail(409, "this sequence number was used for another request")),
        }
    }

    pub(super) fn record(&mut self, seq: Option<u64>, print: Fingerprint, answer: T) {
        if let Some(seq) = seq {
            self.0.insert(seq, (print, answer));
        }
    }
}

/// Tells requests apart by path and body. Attempts of one request have the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(request: &Request) -> Self {
        let mut hasher = DefaultHasher::new();
        (&request.path, &request.body).hash(&mut hasher);
        Fingerprint(hasher.finish())
    }
}

impl State {
    /// The state that the store was left in.
    pub(super) fn new(
        models: Vec<Arc<dyn Model>>,
        promises: Promises,
        store: Store,
        max_models: usize,
        session_time: Duration,
        sampling: Sender<SampleJob>,
    ) -> io::Result<Self> {
        let tables = Tables { sampling: Some(sampling), ..Tables::default() };
        let stopping = AtomicBool::new(false);
        let state = State { models, promises, store, max_models, session_time, tables: Mutex::new(tables), stopping };
        state.recover()?;
        Ok(state)
    }

    fn recover(&self) -> io::Result<()> {
        let mut tables = self.tables.lock();
        for id in self.store.names(&["sessions"])? {
            if let Some(record) = self.store.recorded(&["sessions", &id], SESSION)? {
                tables.sessions.insert(id, Session::new(record));
            }
        }
        for id in self.store.names(&["runs"])? {
            let Some(record) = self.store.recorded::<RunRecord>(&["runs", &id], RUN)? else { continue };
            for kind in ["weights", "sampler_weights"] {
                for name in self.store.names(&["runs", &id, kind])? {
                    if let Some(record) = self.store.recorded(&["runs", &id, kind, &name], CHECKPOINT)? {
                        tables.checkpoints.insert(format!("tinker://{id}/{kind}/{name}"), record);
                    }
                }
            }
            match self.model(&record.base_model) {
                Ok(model) => drop(tables.runs.insert(id, Run::new(record, model, None))),
                Err(_) => log::warn!("{id} is left out: the server has no base model {:?}", record.base_model),
            }
        }
        for id in self.store.names(&["samplers"])? {
            let Some(record) = self.store.recorded::<SamplerRecord>(&["samplers", &id], SAMPLER)? else { continue };
            match self.model(&record.base_model) {
                Ok(model) => drop(tables.samplers.insert(id, Sampler::new(record, model, Loaded::default()))),
                Err(_) => log::warn!("{id} is left out: the server has no base model {:?}", record.base_model),
            }
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock()
    }

    /// Gives up the sessions that have been silent for too long, and frees what they hold; removes the checkpoints and
    /// forgets the results whose time is over.
    pub(super) fn reap(&self, now: Instant) {
        self.promises.forget(now);
        let mut tables = self.lock();
        self.remove_expired(&mut tables);
        let Tables { sessions, runs, samplers, .. } = &mut *tables;
        for (id, session) in sessions {
            if session.alive.is_none_or(|seen| now.duration_since(seen) < self.session_time) {
                continue;
            }
            log::info!("{id} gave no sign of life for {:?} and is given up", self.session_time);
            session.alive = None;
            runs.values_mut().filter(|run| run.record.session_id == *id).for_each(|run| run.queue = None);
            let theirs = samplers.values_mut().filter(|sampler| sampler.record.session_id == *id);
            theirs.for_each(|sampler| sampler.weights = Arc::default());
        }
    }

    fn remove_expired(&self, tables: &mut Tables) {
        let now = timestamp();
        let expired = tables.checkpoints.iter().filter(|(_, record)| record.is_expired(&now));
        for path in expired.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            tables.checkpoints.remove(&path);
            let removed = path.parse::<CheckpointPath>().map(|path| self.store.remove(&place(&path)));
            match removed {
                Ok(Ok(())) => log::info!("{path} is removed: its time is over"),
                Ok(Err(error)) => log::warn!("the files of {path}, whose time is over, could not be removed: {error}"),
                Err(error) => log::warn!("{error}"),
            }
        }
    }

    /// The base model of this name.
    pub(super) fn model(&self, name: &str) -> Result<Arc<dyn Model>, Response> {
        let model = self.models.iter().find(|model| model.name() == name).cloned();
        model.ok_or_else(|| Response::detail(404, &format!("there is no base model {name:?}")))
    }

    /// Writes a record.
    pub(super) fn record(&self, place: Place<'_>, name: &str, record: &impl serde::Serialize) -> Result<(), Response> {
        self.store.record(place, name, record).map_err(|error| {
            log::error!("{} could not be written: {error}", place.join("/"));
            Response::detail(500, &format!("the server could not write its records: {error}"))
        })
    }

    /// Tells every worker to end; what is still queued is dropped.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let mut tables = self.lock();
        tables.sampling = None;
        tables.runs.values_mut().for_each(|run| run.queue = None);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Tables {
    /// A session that is alive, which this is a sign of.
    pub(super) fn session(&mut self, id: &str, owner: &Owner) -> Result<&mut Session, Response> {
        let session = self.sessions.get_mut(id).ok_or_else(|| missing("session", id))?;
        owned(&session.record.owner, owner, id)?;
        if session.alive.is_none() {
            return Err(Response::detail(404, &format!("{id} has ended: it gave no sign of life")));
        }
        session.alive = Some(now());
        Ok(session)
    }

    /// A training run, also one that is unloaded.
    pub(super) fn run(&mut self, id: &str, owner: &Owner) -> Result<&mut Run, Response> {
        let run = self.runs.get_mut(id).ok_or_else(|| missing("model", id))?;
        owned(&run.record.owner, owner, id)?;
        run.record.last_request_time = timestamp();
        if let Some(session) = self.sessions.get_mut(&run.record.session_id).filter(|session| session.alive.is_some()) {
            session.alive = Some(now());
        }
        Ok(run)
    }

    pub(super) fn sampler(&mut self, id: &str, owner: &Owner) -> Result<&mut Sampler, Response> {
        let sampler = self.samplers.get_mut(id).ok_or_else(|| missing("sampling session", id))?;
        owned(&sampler.record.owner, owner, id)?;
        Ok(sampler)
    }

    /// A checkpoint of the owner's, or (where reading is enough) one that is published.
    pub(super) fn checkpoint(
        &mut self,
        path: &str,
        owner: &Owner,
        readable: bool,
    ) -> Result<&mut CheckpointRecord, Response> {
        let now = timestamp();
        let found = self.checkpoints.get_mut(path).filter(|record| !record.is_expired(&now));
        let record = found.ok_or_else(|| missing("checkpoint", path))?;
        if !(readable && record.public) {
            owned(&record.owner, owner, path)?;
        }
        Ok(record)
    }

    /// The path of a new checkpoint, whose name is taken from now on.
    pub(super) fn reserve(&mut self, run: &str, kind: &str, name: &str) -> Result<CheckpointPath, Response> {
        let path = format!("tinker://{run}/{kind}/{name}");
        if self.checkpoints.contains_key(&path) || !self.reserved.insert(path.clone()) {
            return Err(Response::detail(409, &format!("the checkpoint {path} exists already")));
        }
        path.parse::<CheckpointPath>().map_err(|error| Response::detail(400, &error.to_string()))
    }

    /// Queues a job for the sampling threads.
    pub(super) fn sample(&self, job: SampleJob) -> Result<(), Response> {
        let sent = self.sampling.as_ref().is_some_and(|queue| queue.send(job).is_ok());
        if sent { Ok(()) } else { Err(Response::detail(503, "the server is stopping")) }
    }
}

fn missing(what: &str, id: &str) -> Response {
    Response::detail(404, &format!("there is no {what} {id:?}"))
}

fn owned(owner: &Owner, by: &Owner, id: &str) -> Result<(), Response> {
    if owner == by { Ok(()) } else { Err(Response::detail(403, &format!("{id} belongs to another API key"))) }
}

impl Session {
    pub(super) fn new(record: SessionRecord) -> Self {
        Session { record, models: Numbered::default(), samplers: Numbered::default(), alive: Some(now()) }
    }

    /// The id of a sampling session by its number, which is given out once.
    pub(super) fn number_sampler(&mut self, session: &str, seq: u64, print: Fingerprint) -> Result<String, Response> {
        if let Some(first) = self.samplers.repeated(Some(seq), print)? {
            return Ok(first.clone());
        }
        let id = format!("{session}:sample:{seq}");
        self.samplers.record(Some(seq), print, id.clone());
        Ok(id)
    }
}

impl Sampler {
    pub(super) fn new(record: SamplerRecord, model: Arc<dyn Model>, weights: Loaded) -> Self {
        Sampler { record, model, weights: Arc::new(weights), requests: Numbered::default() }
    }
}

impl Run {
    pub(super) fn new(record: RunRecord, model: Arc<dyn Model>, queue: Option<TaskQueue>) -> Self {
        Run { record, model, queue, requests: Numbered::default(), unloaded: None }
    }

    pub(super) fn queue(&self) -> Result<&TaskQueue, Response> {
        let gone = "the model is not in memory: it was unloaded, its session ended, or the server was restarted";
        self.queue.as_ref().ok_or_else(|| Response::detail(404, gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_what_a_session_lives_by() {
        let (life, owner) = (Duration::from_secs(600), Owner::of("tml-test"));
        let (sampling, _jobs) = crossbeam_channel::unbounded();
        let promises = Promises::new(Duration::ZERO, 0);
        let state = State::new(Vec::new(), promises, Store::in_memory(), 1, life, sampling).unwrap();
        for id in ["silent", "alive"] {
            let created = timestamp();
            let record =
                SessionRecord { owner: owner.clone(), number: 1, created, tags: Vec::new(), user_metadata: None };
            let mut session = Session::new(record);
            session.alive = now().checked_sub(life / 2);
            state.lock().sessions.insert(id.to_owned(), session);
        }
        assert!(state.lock().session("alive", &owner).is_ok());
        state.reap(now() + life / 2);
        assert!(state.lock().session("alive", &owner).is_ok());
        assert_eq!(
            state.lock().session("silent", &owner).map(|_| ()).unwrap_err().words(),
            "silent has ended: it gave no sign of life"
        );
    }
}

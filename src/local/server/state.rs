//! What the server knows: sessions, training runs, sampling sessions and checkpoints.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Sender;
use parking_lot::{Mutex, MutexGuard};

use super::http::{Request, Response};
use super::promises::{PromiseId, Promises};
use super::work::{SampleJob, TaskQueue};
use crate::local::adam::Adam;
use crate::local::model::{Adapter, Model};

#[derive(Debug)]
pub(super) struct State {
    pub(super) models: Vec<Arc<dyn Model>>,
    pub(super) promises: Promises,
    tables: Mutex<Tables>,
    stopping: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    sessions_opened: u64,
    pub(super) sessions: HashMap<String, Session>,
    pub(super) runs: HashMap<String, Run>,
    pub(super) samplers: HashMap<String, Sampler>,
    /// By their tinker path.
    pub(super) checkpoints: HashMap<String, Checkpoint>,
    /// To the sampling threads; none once the server is stopping.
    sampling: Option<Sender<SampleJob>>,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) models: Numbered<PromiseId>,
    pub(super) samplers: Numbered<String>,
}

/// A training run, which the protocol calls a model.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) session_id: String,
    pub(super) model: Arc<dyn Model>,
    pub(super) lora_rank: usize,
    /// To its worker; none once it is unloaded.
    pub(super) queue: Option<TaskQueue>,
    pub(super) requests: Numbered<PromiseId>,
    pub(super) unloaded: Option<PromiseId>,
    /// Checkpoints that exist or will, as each name is given once.
    pub(super) checkpoints: HashSet<String>,
}

/// A sampling session: weights that stay as they are, and a count of the requests to them.
#[derive(Debug)]
pub(super) struct Sampler {
    pub(super) model: Arc<dyn Model>,
    /// None means the base model.
    pub(super) adapter: Option<Arc<Adapter>>,
    pub(super) requests: Numbered<PromiseId>,
}

#[derive(Clone, Debug)]
pub(super) struct Checkpoint {
    pub(super) model: Arc<dyn Model>,
    pub(super) adapter: Arc<Adapter>,
    /// Only training checkpoints have it.
    pub(super) optimizer: Option<Adam>,
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
    pub(super) fn new(models: Vec<Arc<dyn Model>>, promises: Promises, sampling: Sender<SampleJob>) -> Self {
        let tables = Tables { sampling: Some(sampling), ..Tables::default() };
        State { models, promises, tables: Mutex::new(tables), stopping: AtomicBool::new(false) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock()
    }

    /// The base model of this name.
    pub(super) fn model(&self, name: &str) -> Result<Arc<dyn Model>, Response> {
        let model = self.models.iter().find(|model| model.name() == name).cloned();
        model.ok_or_else(|| Response::detail(404, &format!("there is no base model {name:?}")))
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
    pub(super) fn open_session(&mut self) -> String {
        self.sessions_opened += 1;
        let id = format!("session-{}", self.sessions_opened);
        self.sessions.insert(id.clone(), Session::default());
        id
    }

    pub(super) fn session(&mut self, id: &str) -> Result<&mut Session, Response> {
        self.sessions.get_mut(id).ok_or_else(|| Response::detail(404, &format!("there is no session {id:?}")))
    }

    /// A training run, also one that is unloaded.
    pub(super) fn run(&mut self, id: &str) -> Result<&mut Run, Response> {
        self.runs.get_mut(id).ok_or_else(|| Response::detail(404, &format!("there is no model {id:?}")))
    }

    pub(super) fn sampler(&mut self, id: &str) -> Result<&mut Sampler, Response> {
        self.samplers.get_mut(id).ok_or_else(|| Response::detail(404, &format!("there is no sampling session {id:?}")))
    }

    /// Queues a job for the sampling threads.
    pub(super) fn sample(&self, job: SampleJob) -> Result<(), Response> {
        let sent = self.sampling.as_ref().is_some_and(|queue| queue.send(job).is_ok());
        if sent { Ok(()) } else { Err(Response::detail(503, "the server is stopping")) }
    }
}

impl Session {
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
    pub(super) fn new(model: Arc<dyn Model>, adapter: Option<Arc<Adapter>>) -> Self {
        Sampler { model, adapter, requests: Numbered::default() }
    }
}

impl Run {
    pub(super) fn new(session: &str, model: Arc<dyn Model>, lora_rank: usize, queue: TaskQueue) -> Self {
        Run {
            session_id: session.to_owned(),
            model,
            lora_rank,
            queue: Some(queue),
            requests: Numbered::default(),
            unloaded: None,
            checkpoints: HashSet::new(),
        }
    }

    pub(super) fn queue(&self) -> Result<&TaskQueue, Response> {
        self.queue.as_ref().ok_or_else(|| Response::detail(404, "the model was unloaded"))
    }

    /// The path of a new checkpoint, whose name is taken from now on.
    pub(super) fn name_checkpoint(&mut self, run: &str, kind: &str, name: &str) -> Result<String, Response> {
        let path = format!("tinker://{run}/{kind}/{name}");
        if !self.checkpoints.insert(path.clone()) {
            return Err(Response::detail(409, &format!("the checkpoint {path} exists already")));
        }
        Ok(path)
    }
}

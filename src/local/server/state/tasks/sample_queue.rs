//! The queue of the sampling workers.

use std::collections::{BTreeMap, HashMap};

use parking_lot::{Condvar, Mutex};

use super::super::promises::PromiseId;
use super::SampleTask;
use crate::local::model::Model;
use crate::local::server::http1::Response;

/// More samples than this do not wait: their memory would grow without end.
const MAX_QUEUED: usize = 10_000;

/// Most workers. Each waits for its sample, which a model may compute together with others.
const MAX_WORKERS: usize = 64;

/// Samples that wait for a worker, in the order of their promises.
#[derive(Debug, Default)]
pub(crate) struct SampleQueue {
    tasks: Mutex<Tasks>,
    /// Signaled when a task can run, and when the queue is closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tasks {
    waiting: BTreeMap<PromiseId, SampleTask>,
    /// How many samples of each model run.
    running: HashMap<String, usize>,
    /// How many workers there are, and how many of them have no sample.
    workers: usize,
    idle: usize,
    is_closed: bool,
}

impl Tasks {
    /// Whether another sample of the model may run.
    fn has_room(&self, model: &dyn Model) -> bool {
        self.running.get(model.name()).is_none_or(|&running| running < model.concurrent_samples().max(1))
    }

    fn take_next(&mut self) -> Option<SampleTask> {
        let next = self.waiting.iter().find(|(_, task)| self.has_room(&*task.model)).map(|(&id, _)| id);
        let task = self.waiting.remove(&next?)?;
        *self.running.entry(task.model.name().to_owned()).or_default() += 1;
        Some(task)
    }
}

impl SampleQueue {
    /// Whether another sample may wait; 429 if too many do.
    pub(crate) fn check_room(&self) -> Result<(), Response> {
        let waiting = self.tasks.lock().waiting.len();
        if waiting < MAX_QUEUED {
            return Ok(());
        }
        Err(Response::temporary(429, &format!("{waiting} samples are waiting, the maximum: try again later")))
    }

    /// Adds a sample; 503 if the server is stopping.
    pub(crate) fn push(&self, task: SampleTask) -> Result<(), Response> {
        let mut tasks = self.tasks.lock();
        if tasks.is_closed {
            return Err(Response::temporary(503, "the server is stopping"));
        }
        let can_run = tasks.has_room(&*task.model);
        tasks.waiting.insert(task.promise, task);
        if can_run {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Counts a new worker, unless one has nothing to do, or there are too many, or the queue is closed.
    pub(crate) fn needs_worker(&self) -> bool {
        let mut tasks = self.tasks.lock();
        let needs = tasks.idle == 0 && tasks.workers < MAX_WORKERS && !tasks.is_closed;
        if needs {
            tasks.workers += 1;
            tasks.idle += 1;
        }
        needs
    }

    /// Uncounts a worker that could not be started.
    pub(crate) fn worker_failed(&self) {
        let mut tasks = self.tasks.lock();
        tasks.workers -= 1;
        tasks.idle -= 1;
    }

    /// Takes the first sample whose model computes fewer than it can at once, and blocks until there is one. `None` once the
    /// queue is closed.
    pub(crate) fn pop(&self) -> Option<SampleTask> {
        let mut tasks = self.tasks.lock();
        while !tasks.is_closed {
            if let Some(task) = tasks.take_next() {
                tasks.idle -= 1;
                return Some(task);
            }
            self.changed.wait(&mut tasks);
        }
        None
    }

    /// Notes that a sample of this model, which [`pop`](SampleQueue::pop) has returned, is done, and its worker has nothing to do.
    pub(crate) fn done(&self, model: &dyn Model) {
        let mut tasks = self.tasks.lock();
        tasks.idle += 1;
        if let Some(running) = tasks.running.get_mut(model.name()) {
            *running -= 1;
        }
    }

    /// Removes samples that are no longer wanted. Returns those that no worker had begun.
    pub(crate) fn remove(&self, promises: &[PromiseId]) -> Vec<PromiseId> {
        if promises.is_empty() {
            return Vec::new();
        }
        let mut tasks = self.tasks.lock();
        promises.iter().copied().filter(|id| tasks.waiting.remove(id).is_some()).collect()
    }

    /// Drops all samples, and makes the workers end.
    pub(crate) fn close(&self) {
        let mut tasks = self.tasks.lock();
        tasks.waiting.clear();
        tasks.is_closed = true;
        self.changed.notify_all();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.tasks.lock().waiting.len()
    }
}

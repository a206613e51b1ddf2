//! The queue of the sampling workers.

use std::collections::BTreeMap;

use parking_lot::{Condvar, Mutex};

use super::super::promises::PromiseId;
use super::SampleTask;
use crate::local::server::http1::Response;

/// More samples than this do not wait: their memory would grow without end.
const MAX_QUEUED: usize = 10_000;

/// Samples that wait for a worker, in the order of their promises.
#[derive(Debug, Default)]
pub(crate) struct SampleQueue {
    tasks: Mutex<Tasks>,
    /// Signaled when a task is added, and when the queue is closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tasks {
    waiting: BTreeMap<PromiseId, SampleTask>,
    is_closed: bool,
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
        tasks.waiting.insert(task.promise, task);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes the first sample, and blocks until there is one. `None` once the queue is closed.
    pub(crate) fn pop(&self) -> Option<SampleTask> {
        let mut tasks = self.tasks.lock();
        while !tasks.is_closed {
            if let Some((_, task)) = tasks.waiting.pop_first() {
                return Some(task);
            }
            self.changed.wait(&mut tasks);
        }
        None
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

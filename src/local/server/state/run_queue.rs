//! The queue of a training run's worker, and what becomes of the model when the worker ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::promises::PromiseId;
use super::resting::RestingModel;
use super::tasks::Task;

/// The sending side of a run's queue. Its worker ends when this is dropped.
#[derive(Debug)]
pub(crate) struct TaskQueue {
    tasks: Sender<(PromiseId, Task)>,
    status: Arc<Status>,
    /// Gets the model from a worker that ends because of [`put_away`](TaskQueue::put_away).
    resting: Receiver<RestingModel>,
}

#[derive(Debug, Default)]
struct Status {
    /// Tasks that are queued or executed.
    unfinished: AtomicUsize,
    /// Whether the model is used again.
    is_kept: AtomicBool,
}

/// The worker's side of a run's queue.
#[derive(Debug)]
pub(crate) struct TaskReceiver {
    tasks: Receiver<(PromiseId, Task)>,
    status: Arc<Status>,
    resting: Sender<RestingModel>,
}

/// The two sides of a new queue.
pub(crate) fn task_queue() -> (TaskQueue, TaskReceiver) {
    let (tasks, received) = unbounded();
    let (left, resting) = bounded(1);
    let status = Arc::new(Status::default());
    (TaskQueue { tasks, status: status.clone(), resting }, TaskReceiver { tasks: received, status, resting: left })
}

impl TaskQueue {
    /// Queues a task. Nothing happens if the server is stopping: otherwise a worker outlives its queue.
    pub(crate) fn send(&self, promise: PromiseId, task: Task) {
        self.status.unfinished.fetch_add(1, Ordering::Relaxed);
        // Fails only when the server is stopping.
        let _ = self.tasks.send((promise, task));
    }

    /// The number of tasks that wait.
    pub(crate) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether no task waits or is executed.
    pub(super) fn is_idle(&self) -> bool {
        self.status.unfinished.load(Ordering::Acquire) == 0
    }

    /// Ends the worker and keeps the model, which arrives here.
    pub(super) fn put_away(self) -> Receiver<RestingModel> {
        self.status.is_kept.store(true, Ordering::Release);
        self.resting
    }
}

impl TaskReceiver {
    /// The next task; `None` once the queue is dropped and empty.
    pub(crate) fn next(&self) -> Option<(PromiseId, Task)> {
        self.tasks.recv().ok()
    }

    /// A task has been executed. To be called before its result is told: a client that has it may create another model at once.
    pub(crate) fn finished(&self) {
        self.status.unfinished.fetch_sub(1, Ordering::Release);
    }

    /// Where the model goes, if it is used again.
    pub(crate) fn resting(self) -> Option<Sender<RestingModel>> {
        self.status.is_kept.load(Ordering::Acquire).then_some(self.resting)
    }
}

//! The batch that all samples of a model join, on the threads of their callers.

use std::collections::HashMap;
use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::{self, ThreadId};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::super::Transformer;
use super::admission::Limits;
use super::job::{Finished, Job, Panic};
use super::prompt_cache::PromptCache;
use super::running::{Running, Ticket};

/// Jobs that run together. One of the threads that wait for them does a round for all at a time; jobs join between two rounds.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) limits: Limits,
    state: Mutex<State>,
    /// Signaled when jobs are over.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Jobs so far.
    joined: Ticket,
    arrivals: Vec<(Ticket, Job)>,
    /// `None` while a thread does a round.
    running: Option<Running>,
    /// The thread that does a round.
    worker: Option<ThreadId>,
    over: HashMap<Ticket, Result<Finished, Panic>>,
}

impl Batch {
    pub(super) fn new(limits: Limits) -> Self {
        let state = State { running: Some(Running::default()), ..State::default() };
        Batch { limits, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The number of jobs that have joined since the last round began.
    #[cfg(test)]
    pub(super) fn arrivals(&self) -> usize {
        self.state.lock().arrivals.len()
    }

    /// Runs a job with all others. Blocks until it is over, and does rounds meanwhile if no other thread does.
    ///
    /// # Panics
    ///
    /// Within a round, which would wait for itself for ever. The panic ends the job that the round is at.
    pub(super) fn run(&self, model: &Transformer, cache: &PromptCache, job: Job) -> Finished {
        let this = thread::current().id();
        let mut state = self.state.lock();
        let is_inside = state.worker == Some(this);
        if is_inside {
            drop(state);
            panic!(
                "a listener or a source of adapters samples from the model that waits for it: do it on another thread, later"
            );
        }
        let ticket = state.joined;
        state.joined += 1;
        state.arrivals.push((ticket, job));
        let result = loop {
            if let Some(result) = state.over.remove(&ticket) {
                break result;
            }
            let Some(mut running) = state.running.take() else {
                self.changed.wait(&mut state);
                continue;
            };
            running.join(take(&mut state.arrivals));
            state.worker = Some(this);
            let over = MutexGuard::unlocked(&mut state, || {
                let round = catch_unwind(AssertUnwindSafe(|| running.round(model, cache, self.limits)));
                // Otherwise those who wait would do so for ever.
                round.unwrap_or_else(|panic| running.abandon(&panic))
            });
            (state.running, state.worker) = (Some(running), None);
            if !over.is_empty() {
                state.over.extend(over);
                self.changed.notify_all();
            }
        };
        drop(state);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }
}

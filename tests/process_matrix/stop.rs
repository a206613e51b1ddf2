//! A server that is stopped, and goes on.

use std::sync::{Arc, Condvar, Mutex};

use crate::cell::PATIENCE;

/// Whether the server is stopped, and how many requests it has still to run.
#[derive(Default)]
pub struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_stopped: bool,
    held: usize,
}

impl Stop {
    /// Stops the server with a request that it has to run.
    pub fn begin(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_stopped = true;
        state.held += 1;
    }

    /// Goes on: the first request is run.
    pub fn end(&self) {
        let mut state = self.state.lock().unwrap();
        state.is_stopped = false;
        state.held -= 1;
        self.changed.notify_all();
    }

    /// Holds another request while the server is stopped.
    pub fn hold(self: &Arc<Self>) -> Option<Held> {
        let mut state = self.state.lock().unwrap();
        if !state.is_stopped {
            return None;
        }
        state.held += 1;
        drop(self.changed.wait_while(state, |state| state.is_stopped).unwrap());
        Some(Held(Arc::clone(self)))
    }

    /// Waits until everything that was held is run.
    pub fn wait_for_the_rest(&self) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, PATIENCE, |state| state.held > 0).unwrap();
        assert!(!waited.1.timed_out(), "the server has not gone on");
    }
}

/// A request that is run when this drops.
pub struct Held(Arc<Stop>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().held -= 1;
        self.0.changed.notify_all();
    }
}

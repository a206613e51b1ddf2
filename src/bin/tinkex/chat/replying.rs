//! What Ctrl-C stops: the reply that is sampled, or else what is typed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tinkex::types::SampleResponse;
use tinkex::{ErrorKind, Pending, Result};

/// A reply is waited for until it is there or is stopped.
const LONG: Duration = Duration::from_secs(3600);

/// What the program does.
#[derive(Clone, Default)]
pub(super) struct Replying(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    /// It waits for what is typed; whether that was given up.
    #[default]
    Typing,
    GivenUp,
    /// A reply is about to be sampled.
    Asking,
    Waiting(Arc<Pending<SampleResponse>>),
    Stopped,
}

impl Replying {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ctrl-C. Returns whether what is typed was given up.
    pub(super) fn stop(&self) -> bool {
        let mut state = self.lock();
        match std::mem::take(&mut *state) {
            State::Typing | State::GivenUp => {
                *state = State::GivenUp;
                true
            }
            State::Waiting(pending) => {
                pending.cancel();
                *state = State::Stopped;
                false
            }
            State::Asking | State::Stopped => {
                *state = State::Stopped;
                false
            }
        }
    }

    /// Whether what was typed was given up, since this was last asked.
    pub(super) fn take_given_up(&self) -> bool {
        let mut state = self.lock();
        let is_given_up = matches!(*state, State::GivenUp);
        *state = State::Typing;
        is_given_up
    }

    /// Submits a sample and waits for it; `None` if it was stopped.
    pub(super) fn wait(
        &self,
        submit: impl FnOnce() -> Result<Pending<SampleResponse>>,
    ) -> Option<Result<SampleResponse>> {
        *self.lock() = State::Asking;
        let result = submit().and_then(|pending| {
            let pending = Arc::new(pending);
            {
                let mut state = self.lock();
                match *state {
                    State::Asking => *state = State::Waiting(Arc::clone(&pending)),
                    _ => pending.cancel(),
                }
            }
            loop {
                if let Some(result) = pending.wait_timeout(LONG) {
                    return result;
                }
            }
        });
        let state = std::mem::take(&mut *self.lock());
        match (state, result) {
            (State::Stopped, Err(error)) if error.kind() == ErrorKind::Cancelled => None,
            (_, result) => Some(result),
        }
    }
}

//! Whether a call blocks, and how a submitted call becomes a [`Pending`].

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::call_state::{CallHandle, Received};
use super::handle::PollerHandle;
use super::{Collect, Pending};
use crate::clock::{Clock, Deadline};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::threads::OnFull;
use crate::types::PromiseResult;

/// Whether a call blocks. This decides how long it may take, and what happens when its queue is full.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CallMode {
    /// It returns the result, or fails at this deadline.
    Blocking { end: Option<Instant>, began: Instant },
    /// It returns a [`Pending`]. Each wait on it may take this long.
    Submitting(Option<Duration>, OnFull),
}

impl CallMode {
    /// A call that returns the result, up to `timeout` from now.
    pub(crate) fn blocking(clock: &Clock, timeout: Option<Duration>) -> Self {
        let end = Deadline::of_operation(clock, timeout).map(|deadline| deadline.at);
        CallMode::Blocking { end, began: clock.now() }
    }

    /// A call that returns a [`Pending`].
    pub(crate) fn submitting(timeout: Option<Duration>) -> Self {
        CallMode::Submitting(timeout, OnFull::Fail)
    }

    /// The same, but while its queue is full it waits, up to `timeout` from now.
    pub(crate) fn submitting_with_room(clock: &Clock, timeout: Option<Duration>) -> Self {
        let deadline = Deadline::of_operation(clock, timeout);
        CallMode::Submitting(timeout, OnFull::WaitUntil(deadline.map(|deadline| deadline.at)))
    }

    /// The end of a blocking call.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        match self {
            CallMode::Blocking { end, .. } => end.map(|at| Deadline { at, limit: Limit::Operation }),
            CallMode::Submitting(..) => None,
        }
    }

    pub(crate) fn blocks(&self) -> bool {
        matches!(self, CallMode::Blocking { .. })
    }

    pub(crate) fn on_full(&self) -> OnFull {
        match self {
            CallMode::Blocking { end, .. } => OnFull::WaitUntil(*end),
            CallMode::Submitting(_, on_full) => *on_full,
        }
    }

    /// How long the call, or the wait for it, has lasted when it times out.
    pub(super) fn elapsed(&self, clock: &Clock) -> Duration {
        match self {
            CallMode::Blocking { began, .. } => clock.now().saturating_duration_since(*began),
            CallMode::Submitting(timeout, _) => timeout.unwrap_or_default(),
        }
    }

    /// The deadline of a wait that starts now.
    pub(super) fn wait_deadline(&self, clock: &Clock) -> Option<Instant> {
        match self {
            CallMode::Blocking { end, .. } => *end,
            CallMode::Submitting(timeout, _) => timeout.and_then(|timeout| clock.now().checked_add(timeout)),
        }
    }
}

/// A call that was submitted, or is about to be.
pub(crate) struct SubmittedCall<R> {
    pub(crate) handle: CallHandle<R>,
    pub(crate) operation: &'static str,
    pub(crate) mode: CallMode,
    pub(crate) poller: PollerHandle,
    /// What must live until the result is ready.
    pub(crate) keep_alive: Arc<dyn Any + Send + Sync>,
}

impl<R: PromiseResult> SubmittedCall<R> {
    /// A pending result. `combine` turns the results of the requests into it, on the thread that waits.
    pub(crate) fn pending<T>(self, combine: impl FnOnce(Vec<Received<R>>) -> Result<T> + Send + 'static) -> Pending<T> {
        let SubmittedCall { handle, operation, mode, poller, keep_alive } = self;
        let collect: Collect<T> = Box::new(move |state| {
            let results = state.lock().take()?;
            combine(results)
        });
        let collect = Mutex::new(Some(collect));
        Pending { operation, state: handle.state, collect, mode, poller, _keep_alive: keep_alive }
    }

    /// A pending result of a single request.
    pub(crate) fn pending_one(self) -> Pending<R> {
        self.pending(|results| Ok(single(results)?.result))
    }
}

/// The result of a call of a single request.
pub(crate) fn single<R>(results: Vec<Received<R>>) -> Result<Received<R>> {
    results.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Decode, "the result is missing"))
}

//! Results that are still pending.
//!
//! The server responds to most requests with a promise. [`Pending`] is the caller's side of it, [`call_state`] what it shares with
//! the requests of the call. A [`PollerHandle`] hands promises to the [`poller`], which polls them until their results are
//! ready. [`PollingSession`] is what the clients share.

mod call_mode;
mod call_state;
mod handle;
mod job;
mod messages;
mod observe;
mod poll;
mod poller;
mod polling_session;
mod reply_sender;
mod resubmit;
mod trouble;
mod wait_many;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use parking_lot::Mutex;

pub(crate) use call_mode::{CallMode, SubmittedCall, single};
pub(crate) use call_state::{CallHandle, Completer, Received};
pub(crate) use handle::PollerHandle;
pub(crate) use messages::{PollClient, TrackedPromise};
#[cfg(test)]
pub(crate) use poller::Poller;
pub(crate) use polling_session::PollingSession;
pub(crate) use resubmit::Resubmission;
pub(crate) use wait_many::Waker;
pub use wait_many::{AsCompleted, as_completed, wait_all, wait_any};

use crate::clock::Monitor;
use crate::error::{Error, ErrorKind, Limit, Result};
use call_state::{CallState, LastWord, Submission};

/// The result of a submitted call, which the service has yet to deliver.
///
/// It is not a `std::future::Future`: nothing has to drive it. The request is sent and its result polled in the background,
/// whether or not anyone waits. A `Pending` keeps its session and its client alive.
///
/// In a fork of the process that submitted the call it is ready with an error: see [`ServiceClient`](crate::ServiceClient).
///
/// Dropping a `Pending` stops the polls. It withdraws a sample that is not sent yet, and cancels one that is if the service allows
/// that, but does not withdraw a training step: a submitted step
/// still takes place, provided that its client or the `Pending` lives until it is sent.
///
/// # Examples
///
/// Submit first, collect later:
///
/// ```no_run
/// # fn main() -> Result<(), tinkex::Error> {
/// use tinkex::types::{AdamParams, Batch, LossFn};
/// # let trainer: tinkex::TrainingClient = unimplemented!();
/// # let batch: Batch = unimplemented!();
///
/// let forward_backward = trainer.submit_forward_backward(&batch, LossFn::CrossEntropy)?;
/// let step = trainer.submit_optim_step(AdamParams::default())?;
/// println!("{:?}", forward_backward.wait()?.metrics);
/// step.wait()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a `Pending` abandons its result; call `wait`"]
#[doc(alias = "APIFuture")]
pub struct Pending<T> {
    operation: &'static str,
    state: Arc<Monitor<CallState>>,
    collect: Mutex<Option<Collect<T>>>,
    mode: CallMode,
    poller: PollerHandle,
    /// What must live until the result is ready.
    _keep_alive: Arc<dyn Any + Send + Sync>,
}

/// Combines the results of the call's requests.
type Collect<T> = Box<dyn FnOnce(&Monitor<CallState>) -> Result<T> + Send>;

impl<T> Pending<T> {
    /// Waits for the result. Blocks up to the client's [`timeout_operation`](crate::ConfigBuilder::timeout_operation), counted
    /// from this call, or without limit if there is none.
    ///
    /// # Errors
    ///
    /// Any error that ended the request: see [`ErrorKind`]. After [`Limit::Operation`] the request may still take effect: the
    /// error has its [`request_id`](Error::request_id), and [`ServiceClient::pending`](crate::ServiceClient::pending) waits for
    /// the result again.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(step: tinkex::Pending<tinkex::types::OptimStepResponse>) -> tinkex::Result<()> {
    /// println!("{:?}", step.wait()?.metrics);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "result")]
    pub fn wait(self) -> Result<T> {
        if !self.wait_until(self.wait_deadline()) {
            self.expire();
        }
        self.take()
    }

    /// Waits up to `timeout`, and returns `None` if the result is not ready yet; it can then be waited for again. The result is
    /// returned once: a call after that returns an error of kind [`InvalidInput`](ErrorKind::InvalidInput).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(step: tinkex::Pending<tinkex::types::OptimStepResponse>) -> tinkex::Result<()> {
    /// match step.wait_timeout(std::time::Duration::from_secs(10)) {
    ///     Some(result) => println!("{:?}", result?.metrics),
    ///     None => println!("not yet"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T>> {
        let deadline = self.poller.clock().now().checked_add(timeout);
        self.wait_until(deadline).then(|| self.take())
    }

    /// The result, if it is ready. Does not block, except for the last step of calls that return a client.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(step: tinkex::Pending<tinkex::types::OptimStepResponse>) -> tinkex::Result<()> {
    /// if let Some(result) = step.try_get() {
    ///     println!("{:?}", result?.metrics);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_get(&self) -> Option<Result<T>> {
        self.is_ready().then(|| self.take())
    }

    /// Whether the result, or an error, is ready.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(step: tinkex::Pending<tinkex::types::OptimStepResponse>) -> tinkex::Result<()> {
    /// println!("{}", if step.is_ready() { "done" } else { "not yet" });
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_own() || self.state.lock().is_ready()
    }

    /// Whether this is the process that submitted the call. In a fork nothing moves, and a lock may never be released.
    fn is_own(&self) -> bool {
        self.poller.process().is_current()
    }

    /// Cancels the call, also while another thread waits for it: the wait ends with [`Cancelled`](ErrorKind::Cancelled). A result
    /// that is ready can still be taken.
    ///
    /// A request that is not sent yet is withdrawn. One that was sent may take effect, but it is no longer retried, and its result
    /// no longer polled; a service that wants to know is told that a sample is given up. Of a batch in several requests, either
    /// all are sent or none.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(pending: tinkex::Pending<tinkex::types::SampleResponse>, on_interrupt: fn(Box<dyn Fn() + Send>)) {
    /// let pending = std::sync::Arc::new(pending);
    /// let interrupted = std::sync::Arc::clone(&pending);
    /// on_interrupt(Box::new(move || interrupted.cancel()));
    /// # }
    /// ```
    pub fn cancel(&self) {
        if !self.is_own() {
            return;
        }
        let error = Error::new(ErrorKind::Cancelled, "cancelled by the program").with_operation(self.operation);
        self.state.lock().fail(error);
        self.state.notify_all();
        self.abandon();
    }

    /// The id of the server's promise, once there is one. For a batch in several requests, that of the first without a result.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(step: tinkex::Pending<tinkex::types::OptimStepResponse>) -> tinkex::Result<()> {
    /// println!("{:?}", step.request_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn request_id(&self) -> Option<String> {
        let id = self.is_own().then(|| self.state.lock().request_id())?;
        id.map(|id| id.to_string())
    }

    /// A channel to wait for this result along with others, in `crossbeam_channel::select!`. When the result is ready, the
    /// channel has one message and is disconnected after it, so every receiver becomes ready.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(fast: tinkex::Pending<u32>, slow: tinkex::Pending<u32>) -> Result<(), tinkex::Error> {
    /// crossbeam_channel::select! {
    ///     recv(fast.ready()) -> _ => println!("{}", fast.wait()?),
    ///     recv(slow.ready()) -> _ => println!("{}", slow.wait()?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ready(&self) -> Receiver<()> {
        if !self.is_own() {
            return bounded(0).1;
        }
        self.state.lock().ready()
    }

    /// Fails in a fork.
    fn check_process(&self) -> Result<()> {
        self.poller.process().check().map_err(|error| error.with_operation(self.operation))
    }

    /// The deadline of a wait that starts now.
    fn wait_deadline(&self) -> Option<Instant> {
        self.mode.wait_deadline(self.poller.clock())
    }

    /// Waits up to the deadline. Returns whether the result is ready.
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        if !self.is_own() {
            return true;
        }
        let mut state = self.state.lock();
        if state.is_ready() {
            return true;
        }
        state.start_waiting().for_each(|ticket| self.poller.set_waited(ticket, true));
        let mut expired = false;
        while !state.is_ready() && !expired {
            expired = self.poller.clock().wait_until(&self.state, &mut state, deadline);
        }
        state.stop_waiting().for_each(|ticket| self.poller.set_waited(ticket, false));
        state.is_ready()
    }

    /// Ends the call with a timeout, unless it has a result.
    fn expire(&self) {
        let elapsed = self.mode.elapsed(self.poller.clock());
        let mut state = self.state.lock();
        let (reason, tries) = match state.last_word() {
            Some(LastWord { reason, tries }) => (reason, tries),
            None => ("no result yet".into(), 0),
        };
        let error = Error::timeout(Limit::Operation)
            .with_last_word(Limit::Operation, &reason, tries, elapsed)
            .with_operation(self.operation)
            .with_effect(state.was_written());
        let error = match state.request_id() {
            Some(id) => error.with_request_id(id).with_hint("wait for the result again with ServiceClient::pending"),
            None => error,
        };
        state.fail(error);
        drop(state);
        self.state.notify_all();
    }

    /// Stops the polls, and withdraws what is not sent yet.
    fn abandon(&self) {
        if !self.is_own() {
            return;
        }
        let mut state = self.state.lock();
        let expired = state.error().is_some_and(Error::is_timeout);
        state.abandon().for_each(|ticket| self.poller.abandon(ticket, expired));
        let submissions = state.take_submissions();
        // Without the lock: cancelling takes the lock of the monitor on which the request may be waiting.
        drop(state);
        submissions.iter().for_each(Submission::end);
    }

    fn take(&self) -> Result<T> {
        self.check_process()?;
        if let Some(error) = self.state.lock().error() {
            return Err(error.clone());
        }
        let collect = self.collect.lock().take();
        let collect = collect.ok_or_else(|| {
            Error::invalid_input("the result has already been taken")
                .with_hint("keep what the first wait_timeout or try_get returned")
                .with_operation(self.operation)
        })?;
        collect(&self.state).map_err(|error| error.with_operation(self.operation))
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("operation", &self.operation)
            .field("request_id", &self.request_id())
            .field("is_ready", &self.is_ready())
            .finish_non_exhaustive()
    }
}

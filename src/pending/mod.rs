//! Results that have not come yet.
//!
//! The server answers most requests with a promise. [`Pending`] is the caller's side of it, [`slots`] where results come
//! together, [`ask`] hands promises to the [`poller`], which asks for their results.

mod ask;
mod many;
mod poll_job;
mod poller;
mod queue_watch;
mod reach;
mod resubmit;
mod slots;

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

pub(crate) use ask::{PollGroup, PollerHandle, Promised};
pub use many::{wait_all, wait_any};
pub(crate) use poller::Poller;
pub(crate) use resubmit::Resubmit;
pub(crate) use slots::{Part, Slots};

use crate::clock::{Clock, Deadline, Monitor};
use crate::error::{Error, ErrorKind, Limit, Result};
use crate::threads::OnFull;
use slots::Board;

/// A result that the service has yet to deliver.
///
/// It is not a `std::future::Future`: nothing has to drive it. The request is on its way and the result is asked for in the
/// background, whether or not somebody waits. Dropping a `Pending` stops the asking, but does not take the request back: a
/// submitted training step is carried out, as long as its client or the `Pending` lives until it was sent. A `Pending` keeps
/// its session and its client alive.
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
#[must_use = "dropping a `Pending` gives its result up; call `wait`"]
#[doc(alias = "APIFuture")]
pub struct Pending<T> {
    operation: &'static str,
    board: Arc<Monitor<Board>>,
    collect: Mutex<Option<Collect<T>>>,
    clock: Clock,
    manner: Manner,
    /// What must live until the result is there.
    _alive: Arc<dyn Any + Send + Sync>,
}

/// Makes the result of what is on the board.
type Collect<T> = Box<dyn FnOnce(&Monitor<Board>) -> Result<T> + Send>;

/// Whether a call blocks, and what follows from that: how long it may take, and what it does when its queue is full.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// It returns when it is done, or ends at this instant.
    Blocking(Option<Instant>),
    /// It returns at once; what it returns can be waited for, each time so long.
    Submitting(Option<Duration>),
}

impl Manner {
    /// A call that returns when it is done.
    pub(crate) fn blocking(clock: &Clock, timeout: Option<Duration>) -> Self {
        Manner::Blocking(timeout.and_then(|timeout| clock.now().checked_add(timeout)))
    }

    /// A call that returns at once.
    pub(crate) fn submitting(timeout: Option<Duration>) -> Self {
        Manner::Submitting(timeout)
    }

    /// The end of a blocking call.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        match self {
            Manner::Blocking(at) => at.map(|at| Deadline { at, limit: Limit::Operation }),
            Manner::Submitting(_) => None,
        }
    }

    pub(crate) fn blocks(&self) -> bool {
        matches!(self, Manner::Blocking(_))
    }

    pub(crate) fn room(&self) -> OnFull {
        match self {
            Manner::Blocking(at) => OnFull::WaitUntil(*at),
            Manner::Submitting(_) => OnFull::Fail,
        }
    }

    fn wait_until(&self, clock: &Clock) -> Option<Instant> {
        match self {
            Manner::Blocking(at) => *at,
            Manner::Submitting(timeout) => timeout.and_then(|timeout| clock.now().checked_add(timeout)),
        }
    }
}

/// How a call's parts become its result, and what it needs meanwhile.
pub(crate) struct Outcome<R> {
    pub(crate) slots: Slots<R>,
    pub(crate) operation: &'static str,
    pub(crate) clock: Clock,
    pub(crate) manner: Manner,
    pub(crate) alive: Arc<dyn Any + Send + Sync>,
}

impl<R: DeserializeOwned + Send + 'static> Outcome<R> {
    /// A pending result, made of the parts' results on the thread that waits for it.
    pub(crate) fn pending<T>(self, combine: impl FnOnce(Vec<R>) -> Result<T> + Send + 'static) -> Pending<T> {
        let Outcome { slots, operation, clock, manner, alive } = self;
        let collect: Collect<T> = Box::new(move |board| {
            let results = board.lock().take()?;
            combine(results)
        });
        Pending { operation, board: slots.board, collect: Mutex::new(Some(collect)), clock, manner, _alive: alive }
    }

    /// A pending result of a single part.
    pub(crate) fn pending_one(self) -> Pending<R> {
        self.pending(the_one)
    }
}

/// The result of a call of a single part.
pub(crate) fn the_one<R>(results: Vec<R>) -> Result<R> {
    results.into_iter().next().ok_or_else(|| Error::new(ErrorKind::Decode, "the result is missing"))
}

impl<T> Pending<T> {
    /// Waits for the result, as long as it takes or until the client's
    /// [`timeout_operation`](crate::ConfigBuilder::timeout_operation) ends, counted from this call on.
    ///
    /// # Errors
    ///
    /// Whatever ended the request: see [`ErrorKind`]. After a [`Limit::Operation`] the request may still be carried out:
    /// the error has its [`request_id`](Error::request_id), and
    /// [`ServiceClient::pending`](crate::ServiceClient::pending) asks for the result again.
    #[doc(alias = "result")]
    pub fn wait(self) -> Result<T> {
        if !self.wait_until(self.manner.wait_until(&self.clock)) {
            self.expire();
        }
        self.take()
    }

    /// Waits for the result for so long; `None` when it has not come, and then it can be waited for again. A result is taken
    /// once: asking again after it was returned is an error of kind [`InvalidInput`](ErrorKind::InvalidInput).
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T>> {
        let deadline = self.clock.now().checked_add(timeout);
        self.wait_until(deadline).then(|| self.take())
    }

    /// The result if it is there; does not block, except for the last step of calls that return a client.
    pub fn try_get(&self) -> Option<Result<T>> {
        self.is_ready().then(|| self.take())
    }

    /// Whether the result, or an error, is there.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.board.lock().is_ready()
    }

    /// Gives the call up. A request that was not sent yet is taken back; one that was sent may be carried out, but its
    /// result is no longer asked for. Of a batch in several requests, all are sent or none.
    pub fn cancel(self) {
        self.board
            .lock()
            .fail(Error::new(ErrorKind::Cancelled, "cancelled by the program").with_operation(self.operation));
    }

    /// The id of the server's promise, once it is known. Of a batch in several chunks, the first whose result is open.
    #[must_use]
    pub fn request_id(&self) -> Option<String> {
        self.board.lock().request_id().map(|id| id.to_string())
    }

    /// A channel to wait for the result with others, in `crossbeam_channel::select!`. When the result is there, the channel
    /// has one message and is disconnected after it, so that every receiver is ready.
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
        self.board.lock().ready()
    }

    /// Says whether the result came by then.
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        let mut board = self.board.lock();
        if board.is_ready() {
            return true;
        }
        board.waited(true);
        let mut expired = false;
        while !board.is_ready() && !expired {
            expired = self.clock.wait_until(&self.board, &mut board, deadline);
        }
        board.waited(false);
        board.is_ready()
    }

    /// The time for it is over: without a result, the call ends with an error that says how to go on.
    fn expire(&self) {
        let mut board = self.board.lock();
        let error = Error::timeout(Limit::Operation).with_operation(self.operation).with_effect(board.was_written());
        let error = match board.request_id() {
            Some(id) => error.with_request_id(id).with_hint("ask for the result again with ServiceClient::pending"),
            None => error,
        };
        board.fail(error);
        drop(board);
        self.board.notify_all();
    }

    fn take(&self) -> Result<T> {
        if let Some(error) = self.board.lock().error() {
            return Err(error.clone());
        }
        let collect = self.collect.lock().take();
        let collect = collect.ok_or_else(|| {
            Error::invalid_input("the result was taken before")
                .with_hint("keep what the first wait_timeout or try_get returned")
                .with_operation(self.operation)
        })?;
        collect(&self.board).map_err(|error| error.with_operation(self.operation))
    }
}

impl<T> Drop for Pending<T> {
    fn drop(&mut self) {
        let submissions = self.board.lock().abandon();
        submissions.iter().for_each(|request| request.cancel());
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

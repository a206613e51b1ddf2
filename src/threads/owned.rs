//! A thread with one owner.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use log::{error, warn};
use parking_lot::Mutex;

use super::thread_options::{NOT_STARTED_HINT, ThreadOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::process::Process;

/// A thread whose owner can wait for its end, up to a deadline. The owner first makes it end by other means: it drops the
/// sender of the thread's channel, or closes the connections that the thread uses.
#[derive(Debug)]
pub(crate) struct OwnedThread {
    name: String,
    id: ThreadId,
    process: Process,
    handle: Mutex<Option<JoinHandle<()>>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl OwnedThread {
    /// Starts a thread, registered with the clock while it runs. A panic in it is logged.
    ///
    /// # Errors
    ///
    /// The system cannot start another thread ([`ErrorKind::Io`]).
    pub(crate) fn spawn(options: &ThreadOptions, name: &str, run: impl FnOnce() + Send + 'static) -> Result<Self> {
        let (alive, ended) = bounded::<()>(0);
        let (clock, own_name) = (options.clock.clone(), name.to_owned());
        let thread = move || {
            let _alive = alive;
            let _own = clock.own_thread();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                error!("the {own_name} thread panicked: {}", panic_text(&*panic));
            }
        };
        let handle = options.builder(name).spawn(thread).map_err(|error| {
            Error::new(ErrorKind::Io, format!("the {name} thread could not be started"))
                .with_hint(NOT_STARTED_HINT)
                .with_source(error)
        })?;
        let (name, id, process) = (name.to_owned(), handle.thread().id(), Process::current());
        Ok(OwnedThread { name, id, process, handle: Mutex::new(Some(handle)), ended })
    }

    /// Waits for the end of the thread, in real time, and returns whether it came before the deadline. The thread can still
    /// be joined afterwards. In a fork there is no thread.
    pub(crate) fn ends_by(&self, deadline: Instant) -> bool {
        !self.process.is_current()
            || thread::current().id() == self.id
            || self.ended.recv_deadline(deadline).is_err_and(|e| e.is_disconnected())
    }

    /// Joins the thread, in real time. If it does not end before the deadline (a name lookup, a TCP connect), it is left
    /// running with a warning. Does nothing on the thread itself, which would deadlock, the second time, or in
    /// a fork.
    pub(crate) fn join_by(&self, deadline: Instant) {
        if !self.process.is_current() {
            return;
        }
        let Some(handle) = self.handle.lock().take() else { return };
        if thread::current().id() == self.id {
            return;
        }
        if self.ended.recv_deadline(deadline).is_err_and(|error| error.is_timeout()) {
            warn!("the {} thread did not end in time and is left running", self.name);
        } else if handle.join().is_err() {
            error!("the {} thread panicked while it stopped", self.name);
        }
    }
}

/// In a fork the handle is forgotten: it would detach whichever new thread got the memory of the old one.
impl Drop for OwnedThread {
    fn drop(&mut self) {
        if !self.process.is_current() {
            mem::forget(self.handle.get_mut().take());
        }
    }
}

/// The message of a panic, if it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use crossbeam_channel::unbounded;

    use super::super::thread_options::test_options;
    use super::*;
    use crate::clock::Clock;

    const FAR: Duration = Duration::from_secs(3600);

    fn spawn(run: impl FnOnce() + Send + 'static) -> OwnedThread {
        OwnedThread::spawn(&test_options(Clock::system()), "test", run).unwrap()
    }

    #[test]
    fn failure_to_start_says_what_to_do() {
        let options = ThreadOptions { stack_size: 1 << 47, ..test_options(Clock::system()) };
        let error = OwnedThread::spawn(&options, "test", || {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.hint().unwrap().contains("thread_stack_size"), "{error}");
    }

    #[test]
    fn joining_itself_does_nothing() {
        let (give, given) = bounded::<Arc<OwnedThread>>(1);
        let (done, is_done) = bounded(1);
        let thread = Arc::new(spawn(move || {
            given.recv().unwrap().join_by(Clock::system().now() + FAR);
            done.send(()).unwrap();
        }));
        give.send(thread).unwrap();
        is_done.recv_timeout(Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn join_gives_up_at_the_deadline() {
        let (release, released) = unbounded::<()>();
        let thread = spawn(move || released.recv().unwrap_or_default());
        thread.join_by(Clock::system().now());
        thread.join_by(Clock::system().now() + FAR);
        drop(release);
        thread.ended.recv().unwrap_err();
    }

    #[test]
    fn a_panicked_thread_is_joined() {
        let thread = spawn(|| panic!("on purpose"));
        thread.join_by(Clock::system().now() + FAR);
        assert!(thread.handle.lock().is_none());
    }
}

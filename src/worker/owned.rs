//! A thread with one owner.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use log::{error, warn};
use parking_lot::Mutex;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};

/// A thread that its owner can wait for, within bounds. The owner makes it end by other means first: dropping the sender of
/// its channel, or closing the connections it uses.
#[derive(Debug)]
pub(crate) struct OwnedThread {
    name: String,
    id: ThreadId,
    handle: Mutex<Option<JoinHandle<()>>>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
}

impl OwnedThread {
    /// Starts a thread with the configured stack. It stays known to the clock while it runs; a panic in it is logged.
    pub(crate) fn spawn(config: &Config, name: &str, run: impl FnOnce() + Send + 'static) -> Result<Self> {
        let (alive, ended) = bounded::<()>(0);
        let clock = config.clock().clone();
        let name = format!("tinkex-{name}");
        let own_name = name.clone();
        let handle = thread::Builder::new()
            .name(name.clone())
            .stack_size(config.thread_stack_size())
            .spawn(move || {
                let _alive = alive;
                let _own = clock.own_thread();
                if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                    error!("the thread {own_name} panicked: {}", panic_text(&*panic));
                }
            })
            .map_err(|error| {
                Error::new(ErrorKind::Io, format!("the thread {name} could not be started"))
                    .with_hint("the system is out of threads or memory; lower thread_stack_size or the thread limits")
                    .with_source(error)
            })?;
        Ok(OwnedThread { name, id: handle.thread().id(), handle: Mutex::new(Some(handle)), ended })
    }

    /// Waits for the end of the thread, in real time, and says whether it came by then. It may be joined after that.
    pub(crate) fn ends_by(&self, deadline: Instant) -> bool {
        thread::current().id() == self.id || self.ended.recv_deadline(deadline).is_err_and(|e| e.is_disconnected())
    }

    /// Waits for the end of the thread, in real time; one that does not end by then (a name lookup, a TCP connect) is left
    /// behind with a warning. Does nothing on the thread itself, or the second time.
    pub(crate) fn join_by(&self, deadline: Instant) {
        let Some(handle) = self.handle.lock().take() else { return };
        if thread::current().id() == self.id {
            return;
        }
        if self.ended.recv_deadline(deadline).is_err_and(|error| error.is_timeout()) {
            warn!("the thread {} did not end in time and is left behind", self.name);
        } else if handle.join().is_err() {
            error!("the thread {} panicked at its end", self.name);
        }
    }
}

/// The text of a panic, where it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crossbeam_channel::unbounded;
    use std::sync::Arc;
    use std::time::Duration;

    const FAR: Duration = Duration::from_secs(3600);

    fn config(stack: usize) -> Config {
        let builder = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1").thread_stack_size(stack);
        builder.build_with(|_| None).unwrap()
    }

    fn spawn(run: impl FnOnce() + Send + 'static) -> OwnedThread {
        OwnedThread::spawn(&config(256 * 1024), "test", run).unwrap()
    }

    #[test]
    fn a_thread_that_can_not_be_started_is_an_error_that_says_what_to_do() {
        let error = OwnedThread::spawn(&config(1 << 47), "test", || {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.hint().unwrap().contains("thread_stack_size"), "{error}");
    }

    #[test]
    fn a_thread_that_is_joined_by_itself_goes_on() {
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
    fn a_thread_that_does_not_end_in_time_is_left_behind() {
        let (release, released) = unbounded::<()>();
        let thread = spawn(move || released.recv().unwrap_or_default());
        thread.join_by(Clock::system().now());
        thread.join_by(Clock::system().now() + FAR);
        drop(release);
        thread.ended.recv().unwrap_err();
    }

    #[test]
    fn a_thread_that_panicked_is_joined_like_any_other() {
        let thread = spawn(|| panic!("told to"));
        thread.join_by(Clock::system().now() + FAR);
        assert!(thread.handle.lock().is_none());
    }
}

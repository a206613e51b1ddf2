//! A group of threads that grows with the work and shrinks without it.
//!
//! Not the crate threadpool: it neither grows on demand, nor ends idle threads, nor reports a dropped job
//! (`docs/decisions/0008`).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use log::{error, warn};

use crate::clock::{Clock, Monitor};
use crate::error::{Error, ErrorKind};
use crate::process::Process;

use super::owned::panic_text;
use super::thread_options::{NOT_STARTED_HINT, ThreadOptions};

/// Runs jobs on up to `max` threads. A thread is started when there are more queued jobs than idle threads, and ends after
/// being idle for a while.
///
/// A job that panics, or that is still queued when the pool closes, is dropped: a job must report its own failure in `Drop`.
pub(crate) struct Pool<J> {
    state: Arc<Monitor<State<J>>>,
    options: ThreadOptions,
    name: &'static str,
    process: Process,
    max: usize,
    run: Arc<dyn Fn(J) + Send + Sync>,
}

struct State<J> {
    queue: VecDeque<J>,
    idle: usize,
    threads: Vec<ThreadId>,
    closed: bool,
}

impl<J: Send + 'static> Pool<J> {
    pub(crate) fn new(
        options: &ThreadOptions,
        name: &'static str,
        max: usize,
        run: impl Fn(J) + Send + Sync + 'static,
    ) -> Self {
        let state = State { queue: VecDeque::new(), idle: 0, threads: Vec::new(), closed: false };
        let process = Process::current();
        Pool { state: Monitor::new(state), options: options.clone(), name, process, max, run: Arc::new(run) }
    }

    /// Queues a job. Returns it with an error if the pool is closed, or has no thread and cannot start one, and in a fork.
    pub(crate) fn submit(&self, job: J) -> Result<(), (J, Error)> {
        if let Err(error) = self.process.check() {
            return Err((job, error));
        }
        let mut state = self.state.lock();
        if state.closed {
            return Err((job, Error::closed()));
        }
        state.queue.push_back(job);
        let mut not_started = None;
        if state.idle < state.queue.len() && state.threads.len() < self.max {
            match self.grow() {
                Ok(thread) => state.threads.push(thread),
                Err(error) if state.threads.is_empty() => {
                    if let Some(job) = state.queue.pop_back() {
                        let error = Error::new(ErrorKind::Io, format!("no {} thread could be started", self.name))
                            .with_hint(NOT_STARTED_HINT)
                            .with_source(error);
                        return Err((job, error));
                    }
                }
                Err(error) => not_started = Some((error, state.threads.len())),
            }
        }
        drop(state);
        self.state.notify_one();
        // Log without the lock: the program's logger may do anything, even close the client.
        if let Some((error, threads)) = not_started {
            warn!("could not start another {} thread, continuing with {threads}: {error}", self.name);
        }
        Ok(())
    }

    /// Waits, in real time, for the threads of a closed pool to end. Does nothing on one of them, which would deadlock, or in a
    /// fork.
    pub(crate) fn join_by(&self, deadline: Instant) {
        if !self.process.is_current() {
            return;
        }
        let mut state = self.state.lock();
        if state.threads.contains(&thread::current().id()) {
            return;
        }
        let system = Clock::system();
        while !state.threads.is_empty() && !system.wait_until(&self.state, &mut state, Some(deadline)) {}
        if !state.threads.is_empty() {
            let (threads, name) = (state.threads.len(), self.name);
            drop(state);
            warn!("{threads} {name} threads did not end in time and are left running");
        }
    }

    fn grow(&self) -> std::io::Result<ThreadId> {
        let (state, run) = (Arc::clone(&self.state), Arc::clone(&self.run));
        let (clock, retention, name) = (self.options.clock.clone(), self.options.idle_retention, self.name);
        self.options
            .builder(name)
            .spawn(move || {
                let _own = clock.own_thread();
                while let Some(job) = next(&state, &clock, retention) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(job))) {
                        error!("a {name} job panicked: {}", panic_text(&*panic));
                    }
                }
            })
            .map(|handle| handle.thread().id())
    }
}

impl<J> Pool<J> {
    /// Refuses new jobs; the threads end once the queued ones are done. Does nothing in a fork.
    pub(crate) fn finish(&self) {
        if !self.process.is_current() {
            return;
        }
        self.state.lock().closed = true;
        self.state.notify_all();
    }

    /// Refuses new jobs and drops the queued ones; each thread ends after its current job. Does nothing in a fork.
    pub(crate) fn close(&self) {
        if !self.process.is_current() {
            return;
        }
        let queued = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.queue)
        };
        self.state.notify_all();
        drop(queued);
    }

    /// The current number of threads.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.state.lock().threads.len()
    }
}

/// The next job for a thread of the pool. `None` if the thread must end; it is then no longer counted.
fn next<J: Send + 'static>(monitor: &Arc<Monitor<State<J>>>, clock: &Clock, retention: Duration) -> Option<J> {
    let mut state = monitor.lock();
    let retire_at = clock.now() + retention;
    loop {
        if let Some(job) = state.queue.pop_front() {
            return Some(job);
        }
        let expired = !state.closed && {
            state.idle += 1;
            let expired = clock.wait_until(monitor, &mut state, Some(retire_at));
            state.idle -= 1;
            expired
        };
        if (state.closed || expired) && state.queue.is_empty() {
            let own = thread::current().id();
            state.threads.retain(|thread| *thread != own);
            // `join_by` waits for the last thread of a closed pool.
            let is_joined = state.closed;
            drop(state);
            if is_joined {
                monitor.notify_all();
            }
            return None;
        }
    }
}

impl<J> Drop for Pool<J> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<J> std::fmt::Debug for Pool<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("name", &self.name).field("max", &self.max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::super::thread_options::test_options;
    use super::*;
    use crate::clock::ManualClock;

    /// A job that signals its start, and ends on a signal.
    type Gated = (Sender<()>, Receiver<()>);

    fn gated_pool(manual: &ManualClock, max: usize) -> Pool<Gated> {
        Pool::new(&test_options(manual.clock()), "test", max, |(began, release): Gated| {
            began.send(()).unwrap();
            release.recv().unwrap();
        })
    }

    #[test]
    fn threads_start_on_demand_then_retire_when_idle() {
        let manual = ManualClock::new();
        let pool = gated_pool(&manual, 2);
        let (began, begins) = unbounded();
        let (release, released) = unbounded();
        assert_eq!(pool.threads(), 0);
        for expected in [1, 2, 2] {
            pool.submit((began.clone(), released.clone())).unwrap();
            assert_eq!(pool.threads(), expected);
        }
        begins.recv().unwrap();
        begins.recv().unwrap();
        assert!(begins.try_recv().is_err());
        for _ in 0..3 {
            release.send(()).unwrap();
        }
        begins.recv().unwrap();
        manual.until_waiting(|waits| waits.len() == 2);
        manual.advance(Duration::from_secs(15));
        assert_eq!(pool.threads(), 0);
    }

    #[test]
    fn a_panicking_job_does_not_end_its_thread() {
        let manual = ManualClock::new();
        let (done, dones) = unbounded();
        let pool = Pool::new(&test_options(manual.clock()), "test", 1, move |job: u32| {
            assert_ne!(job, 0, "job 0 panics");
            done.send(job).unwrap();
        });
        pool.submit(0).unwrap();
        pool.submit(1).unwrap();
        assert_eq!(dones.recv().unwrap(), 1);
        assert_eq!(pool.threads(), 1);
    }

    /// No system has room for such a stack, so that no thread starts.
    const NO_THREAD: usize = 1 << 47;

    #[test]
    fn a_pool_that_cannot_grow_goes_on() {
        let mut pool = gated_pool(&ManualClock::new(), 2);
        let (began, begins) = unbounded();
        let (release, released) = unbounded();
        pool.submit((began.clone(), released.clone())).unwrap();
        begins.recv().unwrap();
        pool.options.stack_size = NO_THREAD;
        pool.submit((began, released)).unwrap();
        assert_eq!(pool.threads(), 1);
        for _ in 0..2 {
            release.send(()).unwrap();
        }
        begins.recv().unwrap();
    }

    #[test]
    fn a_job_is_returned_when_no_thread_starts() {
        let options = ThreadOptions { stack_size: NO_THREAD, ..test_options(Clock::system()) };
        let pool = Pool::new(&options, "test", 1, |_: u32| {});
        for job in [1, 2] {
            let (returned, error) = pool.submit(job).unwrap_err();
            assert_eq!((returned, error.kind()), (job, ErrorKind::Io), "{error}");
            assert!(error.hint().unwrap().contains("thread_stack_size"), "{error}");
        }
        assert_eq!(pool.threads(), 0);
    }

    #[test]
    fn finish_runs_queued_jobs_but_refuses_more() {
        let manual = ManualClock::new();
        let pool = gated_pool(&manual, 1);
        let (began, begins) = unbounded();
        let (release, released) = unbounded();
        for _ in 0..3 {
            pool.submit((began.clone(), released.clone())).unwrap();
        }
        pool.finish();
        assert_eq!(pool.submit((began, released)).unwrap_err().1.kind(), ErrorKind::Closed);
        for _ in 0..3 {
            begins.recv().unwrap();
            release.send(()).unwrap();
        }
        pool.join_by(Clock::system().now() + Duration::from_secs(30));
        assert_eq!(pool.threads(), 0);
    }

    #[test]
    fn finish_keeps_a_job_for_a_waking_thread() {
        for _ in 0..200 {
            let manual = ManualClock::new();
            let (done, dones) = unbounded();
            let pool = Pool::new(&test_options(manual.clock()), "test", 1, move |job: u32| done.send(job).unwrap());
            pool.submit(1).unwrap();
            manual.until_waiting(|waits| waits.len() == 1);
            pool.submit(2).unwrap();
            pool.finish();
            pool.join_by(Clock::system().now() + Duration::from_secs(30));
            assert_eq!(dones.try_iter().collect::<Vec<_>>(), [1, 2]);
        }
    }

    #[test]
    fn a_thread_joins_other_pools_never_its_own() {
        let manual = ManualClock::new();
        let other = Arc::new(gated_pool(&manual, 1));
        let (began, begins) = unbounded();
        let (release, released) = unbounded();
        other.submit((began, released)).unwrap();
        begins.recv().unwrap();
        other.finish();
        let (own, owns) = unbounded::<Arc<Pool<()>>>();
        let (joined, joins) = unbounded();
        let joining = Arc::clone(&other);
        let pool = Arc::new(Pool::new(&test_options(manual.clock()), "test", 1, move |()| {
            let deadline = Clock::system().now() + Duration::from_secs(30);
            owns.recv().unwrap().join_by(deadline);
            release.send(()).unwrap();
            joining.join_by(deadline);
            joined.send(joining.threads()).unwrap();
        }));
        pool.submit(()).unwrap();
        own.send(Arc::clone(&pool)).unwrap();
        assert_eq!(joins.recv().unwrap(), 0);
    }

    #[test]
    fn close_drops_queued_jobs_but_refuses_more() {
        let manual = ManualClock::new();
        let pool = gated_pool(&manual, 1);
        let (began, begins) = unbounded();
        let (release, released) = unbounded();
        pool.submit((began.clone(), released.clone())).unwrap();
        begins.recv().unwrap();
        pool.submit((began.clone(), released.clone())).unwrap();
        pool.close();
        assert_eq!(pool.submit((began, released)).unwrap_err().1.kind(), ErrorKind::Closed);
        release.send(()).unwrap();
        assert!(begins.recv().is_err(), "the queued job was run");
    }
}

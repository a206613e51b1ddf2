//! A group of threads that grows with the work and shrinks without it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, warn};

use crate::clock::{Clock, Monitor};
use crate::config::Config;
use crate::error::{Error, ErrorKind};

use super::owned::panic_text;

/// Runs jobs on at most so many threads, started when there is more work than idle threads and ended after a while without.
///
/// A job that panics, or that is still queued at the close, is dropped: jobs answer for themselves when they drop.
pub(crate) struct Pool<J> {
    state: Arc<Monitor<State<J>>>,
    config: Config,
    name: &'static str,
    max: usize,
    run: Arc<dyn Fn(J) + Send + Sync>,
}

struct State<J> {
    queue: VecDeque<J>,
    idle: usize,
    threads: usize,
    closed: bool,
}

thread_local! {
    /// The address of the pool that the thread belongs to.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

fn address<J>(state: &Arc<Monitor<State<J>>>) -> usize {
    Arc::as_ptr(state).addr()
}

impl<J: Send + 'static> Pool<J> {
    pub(crate) fn new(
        config: &Config,
        name: &'static str,
        max: usize,
        run: impl Fn(J) + Send + Sync + 'static,
    ) -> Self {
        let state = State { queue: VecDeque::new(), idle: 0, threads: 0, closed: false };
        Pool { state: Monitor::new(state), config: config.clone(), name, max, run: Arc::new(run) }
    }

    /// Queues a job. Hands it back when the pool is closed, or has no thread and cannot make one.
    pub(crate) fn submit(&self, job: J) -> Result<(), (J, Error)> {
        let mut state = self.state.lock();
        if state.closed {
            return Err((job, Error::closed()));
        }
        state.queue.push_back(job);
        let mut not_started = None;
        if state.idle < state.queue.len() && state.threads < self.max {
            match self.grow() {
                Ok(()) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    if let Some(job) = state.queue.pop_back() {
                        let message = format!("no {} thread could be started", self.name);
                        let hint =
                            "the system is out of threads or memory; lower thread_stack_size or the thread limits";
                        return Err((job, Error::new(ErrorKind::Io, message).with_hint(hint).with_source(error)));
                    }
                }
                Err(error) => not_started = Some((error, state.threads)),
            }
        }
        drop(state);
        self.state.notify_one();
        // Not under the lock: a logger may do anything, also close the client.
        if let Some((error, threads)) = not_started {
            warn!("no further {} thread could be started, {threads} go on: {error}", self.name);
        }
        Ok(())
    }

    /// Waits, in real time, for the threads of a closed pool to end. Does nothing on one of them.
    pub(crate) fn join_by(&self, deadline: Instant) {
        if OWN.get() == address(&self.state) {
            return;
        }
        let mut state = self.state.lock();
        let system = Clock::system();
        while state.threads > 0 && !system.wait_until(&self.state, &mut state, Some(deadline)) {}
        if state.threads > 0 {
            let (threads, name) = (state.threads, self.name);
            drop(state);
            warn!("{threads} {name} threads did not end in time and are left behind");
        }
    }

    fn grow(&self) -> std::io::Result<()> {
        let (state, run) = (Arc::clone(&self.state), Arc::clone(&self.run));
        let (clock, retention, name) = (self.config.clock().clone(), self.config.idle_retention(), self.name);
        thread::Builder::new()
            .name(format!("tinkex-{name}"))
            .stack_size(self.config.thread_stack_size())
            .spawn(move || {
                let _own = clock.own_thread();
                OWN.set(address(&state));
                while let Some(job) = next(&state, &clock, retention) {
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(job))) {
                        error!("a {name} job panicked: {}", panic_text(&*panic));
                    }
                }
            })
            .map(drop)
    }
}

impl<J> Pool<J> {
    /// Refuses new jobs and lets the threads end when the queued ones are done.
    pub(crate) fn finish(&self) {
        self.state.lock().closed = true;
        self.state.notify_all();
    }

    /// Refuses new jobs, drops the queued ones and lets the threads end after the job they are at.
    pub(crate) fn close(&self) {
        let queued = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.queue)
        };
        self.state.notify_all();
        drop(queued);
    }

    /// How many threads there are.
    #[cfg(test)]
    pub(crate) fn threads(&self) -> usize {
        self.state.lock().threads
    }
}

/// The next job for a thread of the pool; `None` when it is to end, and then it no longer counts.
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
            state.threads -= 1;
            let joins = state.closed;
            drop(state);
            if joins {
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
    use super::*;
    use crate::clock::ManualClock;
    use crossbeam_channel::{Receiver, Sender, unbounded};

    fn config(manual: &ManualClock) -> Config {
        Config::builder()
            .api_key("tml-k")
            .base_url("http://127.0.0.1:1")
            .clock(manual.clock())
            .build_with(|_| None)
            .unwrap()
    }

    /// A job that says it began and ends when told.
    type Gated = (Sender<()>, Receiver<()>);

    fn gated_pool(manual: &ManualClock, max: usize) -> Pool<Gated> {
        Pool::new(&config(manual), "test", max, |(began, release): Gated| {
            began.send(()).unwrap();
            release.recv().unwrap();
        })
    }

    #[test]
    fn threads_are_made_on_demand_up_to_the_limit_and_retire_when_idle() {
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
    fn a_job_that_panics_takes_no_thread_with_it() {
        let manual = ManualClock::new();
        let (done, dones) = unbounded();
        let pool = Pool::new(&config(&manual), "test", 1, move |job: u32| {
            assert_ne!(job, 0, "job 0 panics");
            done.send(job).unwrap();
        });
        pool.submit(0).unwrap();
        pool.submit(1).unwrap();
        assert_eq!(dones.recv().unwrap(), 1);
        assert_eq!(pool.threads(), 1);
    }

    #[test]
    fn a_job_comes_back_with_an_error_when_no_thread_can_be_started() {
        let config = Config::builder().api_key("tml-k").base_url("http://127.0.0.1:1").thread_stack_size(1 << 47);
        let pool = Pool::new(&config.build_with(|_| None).unwrap(), "test", 1, |_: u32| {});
        for job in [1, 2] {
            let (returned, error) = pool.submit(job).unwrap_err();
            assert_eq!((returned, error.kind()), (job, ErrorKind::Io), "{error}");
            assert!(error.hint().unwrap().contains("thread_stack_size"), "{error}");
        }
        assert_eq!(pool.threads(), 0);
    }

    #[test]
    fn a_finish_lets_the_queued_jobs_run_and_refuses_more() {
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
    fn a_finish_leaves_no_job_to_an_idle_thread_that_was_just_woken() {
        for _ in 0..200 {
            let manual = ManualClock::new();
            let (done, dones) = unbounded();
            let pool = Pool::new(&config(&manual), "test", 1, move |job: u32| done.send(job).unwrap());
            pool.submit(1).unwrap();
            manual.until_waiting(|waits| waits.len() == 1);
            pool.submit(2).unwrap();
            pool.finish();
            pool.join_by(Clock::system().now() + Duration::from_secs(30));
            assert_eq!(dones.try_iter().collect::<Vec<_>>(), [1, 2]);
        }
    }

    #[test]
    fn a_thread_waits_for_a_pool_of_the_same_name_and_not_for_its_own() {
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
        let pool = Arc::new(Pool::new(&config(&manual), "test", 1, move |()| {
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
    fn a_close_drops_what_is_queued_and_refuses_more() {
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

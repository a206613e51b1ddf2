//! The threads that compute.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// The least multiplications that are worth a second thread: tens of microseconds of work.
const MIN_SPLIT: usize = 1 << 20;

/// Threads that a model computes on. They start with the first work.
#[derive(Clone)]
pub(crate) struct Threads(Arc<Pool>);

struct Pool {
    count: usize,
    /// `None` if the threads could not be started.
    threads: OnceLock<Option<ThreadPool>>,
}

impl Threads {
    /// This number of threads; or one for each processor, which all models share, if it is `None`.
    pub(crate) fn new(count: Option<usize>) -> Threads {
        static SHARED: OnceLock<Threads> = OnceLock::new();
        let start = |count: usize| Threads(Arc::new(Pool { count: count.max(1), threads: OnceLock::new() }));
        match count {
            Some(count) => start(count),
            None => SHARED.get_or_init(|| start(available_parallelism().map_or(1, usize::from))).clone(),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.count
    }

    /// Runs work on the threads, and waits for it. Inside, rayon's functions use these threads. If the system gives no threads, the
    /// caller's does the work.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match self.0.threads.get_or_init(|| start(self.0.count)) {
            Some(threads) => threads.install(work),
            None => work(),
        }
    }
}

fn start(count: usize) -> Option<ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|_| "tinkex-model".to_owned()).build();
    pool.inspect_err(|error| log::warn!("no threads for a model: {error}; the caller's thread computes")).ok()
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({})", self.count())
    }
}

/// Does tasks that are independent of each other: inside [`Threads::run`] on its threads, if they are this many multiplications or
/// more in all that the threads gain by it.
pub(super) fn for_each<T: Send>(multiplications: usize, tasks: Vec<T>, work: impl Fn(T) + Send + Sync) {
    let is_inside = rayon::current_thread_index().is_some();
    if is_inside && multiplications >= MIN_SPLIT && tasks.len() > 1 {
        tasks.into_par_iter().for_each(work);
    } else {
        tasks.into_iter().for_each(work);
    }
}

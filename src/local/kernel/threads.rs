//! The threads that compute.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::available_parallelism;

use rayon::ThreadPool;

/// Threads that a model computes on. They start with the first work.
#[derive(Clone)]
pub(crate) struct Threads(Arc<ThreadPool>);

impl Threads {
    /// This number of threads; one for each processor if it is `None`.
    ///
    /// # Errors
    ///
    /// A thread could not be started.
    pub(crate) fn new(count: Option<usize>) -> io::Result<Threads> {
        let count = count.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count.max(1))
            .thread_name(|_| "tinkex-model".to_owned())
            .build()
            .map_err(io::Error::other)?;
        Ok(Threads(Arc::new(pool)))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.current_num_threads()
    }

    /// Runs work on the threads, and waits for it. Inside, rayon's functions use these threads.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({})", self.count())
    }
}

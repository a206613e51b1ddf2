//! The settings that all threads of a client share.

use std::thread;
use std::time::Duration;

use crate::clock::Clock;

/// The settings that all threads of a client share.
#[derive(Clone, Debug)]
pub(crate) struct ThreadOptions {
    /// The clock that their waits go through.
    pub(crate) clock: Clock,
    /// In bytes.
    pub(crate) stack_size: usize,
    /// How long an idle thread of a pool is kept.
    pub(crate) idle_retention: Duration,
}

impl ThreadOptions {
    /// A builder for a thread that the system shows as `tinkex-NAME`.
    pub(super) fn builder(&self, name: &str) -> thread::Builder {
        thread::Builder::new().name(format!("tinkex-{name}")).stack_size(self.stack_size)
    }
}

/// The hint of the error when the system refuses a thread.
pub(super) const NOT_STARTED_HINT: &str =
    "raise the limit of threads (ulimit -u) or of memory (ulimit -v), or lower thread_stack_size";

#[cfg(test)]
pub(super) fn test_options(clock: Clock) -> ThreadOptions {
    ThreadOptions { clock, stack_size: 256 * 1024, idle_retention: Duration::from_secs(15) }
}

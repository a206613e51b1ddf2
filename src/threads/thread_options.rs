//! The settings that all threads of a client share.

use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::process::forks;

/// Stacks of threads that a C library or Rust starts with its defaults are no larger.
const LARGEST_DEFAULT: usize = 8 << 20;

/// What each fork adds.
const FORK_STEP: usize = 64 << 10;

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
        thread::Builder::new().name(format!("tinkex-{name}")).stack_size(stack_size(self.stack_size, forks()))
    }
}

/// The size of a stack, in bytes, in a process that is the result of so many forks.
///
/// In a fork, the system gives a new thread the stack of a thread that was left behind in the parent, if that is large enough. But
/// parking_lot still has that thread in its table if it was waiting, by the address of its memory: a thread at the same address is
/// then in two lists, and others miss their wake-ups. So the stacks of a fork are larger than any that the parent had. No memory is
/// used for the difference, only addresses.
fn stack_size(wanted: usize, forks: u32) -> usize {
    match forks as usize {
        0 => wanted,
        forks => wanted.max(LARGEST_DEFAULT) + forks * FORK_STEP,
    }
}

/// The hint of the error when the system refuses a thread.
pub(super) const NOT_STARTED_HINT: &str =
    "raise the limit of threads (ulimit -u) or of memory (ulimit -v), or lower thread_stack_size";

#[cfg(test)]
pub(super) fn test_options(clock: Clock) -> ThreadOptions {
    ThreadOptions { clock, stack_size: 256 * 1024, idle_retention: Duration::from_secs(15) }
}

#[cfg(test)]
mod tests {
    use super::stack_size;

    #[test]
    fn stacks_of_a_fork_fit_no_earlier_one() {
        assert_eq!(stack_size(256 << 10, 0), 256 << 10);
        for wanted in [256 << 10, 2 << 20, 64 << 20] {
            assert!(stack_size(wanted, 1) > (8 << 20).max(wanted));
            assert!((1..9).all(|forks| stack_size(wanted, forks + 1) > stack_size(wanted, forks)));
        }
    }
}

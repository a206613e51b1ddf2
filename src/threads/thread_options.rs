//! The settings that all threads of a client share.

use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::process::forks;

/// The sizes of the stacks that Rust and a C library give their threads by default.
const DEFAULTS: [usize; 2] = [2 << 20, 8 << 20];

/// A thread gets no stack that is more than so many times as large as it wants.
const LARGEST_FACTOR: usize = 4;

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
/// In a fork, the system gives a new thread the stack of a thread that was left behind in the parent, if that is large enough, and not
/// far too large. But parking_lot still has that thread in its table if it was waiting, by the address of its memory: a thread at the
/// same address is then in two lists, and others miss their wake-ups. So the stacks of a fork are larger than those that this crate's
/// threads had in the parent, and too small for the default ones. Where they cannot be, they are larger than all of these, which is
/// the second choice: the system keeps 40 MB of stacks that nobody uses, and gives the oldest back beyond that, which the table still
/// points to.
fn stack_size(wanted: usize, forks: u32) -> usize {
    let [smallest, largest] = DEFAULTS;
    let step = forks as usize * FORK_STEP;
    match wanted + step {
        own if forks == 0 || LARGEST_FACTOR * own < smallest => own,
        _ => wanted.max(largest) + step,
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
    use super::{DEFAULTS, LARGEST_FACTOR, stack_size};

    #[test]
    fn stacks_of_a_fork_fit_no_earlier_one() {
        for wanted in [128 << 10, 256 << 10, 400 << 10, 2 << 20, 64 << 20] {
            assert_eq!(stack_size(wanted, 0), wanted);
            for forks in 1..9 {
                let size = stack_size(wanted, forks);
                for left_behind in (0..forks).map(|before| stack_size(wanted, before)).chain(DEFAULTS) {
                    let is_given = (size..=LARGEST_FACTOR * size).contains(&left_behind);
                    assert!(!is_given, "{wanted} bytes, {forks} forks: {size} in {left_behind}");
                }
            }
        }
    }

    #[test]
    fn the_stacks_of_a_fork_stay_small() {
        assert_eq!(stack_size(256 << 10, 1), 320 << 10);
    }
}

//! The process that something was made in. `fork` copies a client's memory into the new process, and none of its threads.

use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// The process that something was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    /// The process that runs now.
    pub(crate) fn current() -> Self {
        Process(process::id())
    }

    /// Whether this process still runs here. After a fork, its threads, its connections and what they hold belong to the other
    /// process: a lock may never be released, and a thread never ends.
    pub(crate) fn is_current(self) -> bool {
        self == Process::current()
    }

    /// Fails in a fork.
    pub(crate) fn check(self) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        let (made, own) = (self.0, process::id());
        let message = format!("the client was made in process {made}, and does not work in its fork, process {own}");
        Err(Error::new(ErrorKind::Closed, message).with_hint("call ServiceClient::connect after the fork"))
    }
}

/// How many forks lie between this process and the first one that asked.
pub(crate) fn forks() -> u32 {
    static LAST: AtomicU32 = AtomicU32::new(0);
    static FORKS: AtomicU32 = AtomicU32::new(0);
    let own = process::id();
    match LAST.swap(own, Ordering::Relaxed) {
        last if last == own || last == 0 => FORKS.load(Ordering::Relaxed),
        _ => FORKS.fetch_add(1, Ordering::Relaxed) + 1,
    }
}

/// Random bits that no fork of this process draws: the generator's state is copied, too.
pub(crate) fn unique_bits() -> u128 {
    fastrand::u128(..) ^ u128::from(process::id()) << 64 ^ u128::from(process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_refused_with_a_remedy() {
        Process::current().check().unwrap();
        let error = Process(0).check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        let text = error.to_string();
        assert!(text.contains("process 0") && text.contains("fork") && text.contains("connect"), "{text}");
    }
}

//! Whether a connection still waits for the response to a request.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

type Hook = Box<dyn FnOnce() + Send>;

/// A response that a connection waits for: dropped once it is there, or the connection closed.
#[derive(Default)]
pub(super) struct Awaited(Mutex<Vec<Hook>>);

impl Awaited {
    /// Calls `hook` when `awaited` is dropped, or at once if it was.
    pub(super) fn when_dropped(awaited: &Weak<Awaited>, hook: Hook) {
        match awaited.upgrade() {
            Some(awaited) => Arc::clone(&awaited).0.lock().push(hook),
            None => hook(),
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.get_mut().drain(..).for_each(|hook| hook());
    }
}

impl fmt::Debug for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Awaited").field(&self.0.lock().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;

    #[test]
    fn hooks_run_once_nobody_waits() {
        let awaited = Arc::new(Awaited::default());
        let (weak, (called, calls)) = (Arc::downgrade(&awaited), unbounded());
        let hook = |number: u32| -> Hook {
            let called = called.clone();
            Box::new(move || called.send(number).unwrap())
        };
        Awaited::when_dropped(&weak, hook(1));
        assert_eq!(calls.try_iter().count(), 0);
        drop(awaited);
        assert_eq!(calls.try_iter().collect::<Vec<_>>(), [1]);
        Awaited::when_dropped(&weak, hook(2));
        assert_eq!(calls.try_iter().collect::<Vec<_>>(), [2]);
    }
}

//! A place in the order of calls that is held while its calls are made.
//!
//! A custom loss is one call of two passes, and the second pass is known only once the program has seen the result of the first.
//! Its place is a queue within the queue: the worker sends what comes through it, and goes on with the calls behind it once it is
//! closed. Calls that the thread of a place makes itself go through the place: behind it, they would wait for each other.

use std::cell::RefCell;
use std::sync::Arc;

use super::TrainingQueue;

thread_local! {
    /// The places that this thread fills, the innermost last: the address of the queue, and the number of the place.
    static FILLED: RefCell<Vec<(usize, u64)>> = const { RefCell::new(Vec::new()) };
}

/// A place, closed on drop.
pub(in crate::training) struct Place {
    queue: Arc<TrainingQueue>,
    id: u64,
}

impl Place {
    pub(super) fn new(queue: &Arc<TrainingQueue>, id: u64) -> Self {
        Place { queue: Arc::clone(queue), id }
    }

    /// Runs a function whose calls of this training client take this place, and closes the place.
    #[cfg_attr(not(feature = "ndarray"), expect(dead_code, reason = "custom losses need ndarray"))]
    pub(in crate::training) fn fill<T>(self, function: impl FnOnce() -> T) -> T {
        /// Ends the filling, also if the function panics.
        struct Filling;
        impl Drop for Filling {
            fn drop(&mut self) {
                FILLED.with_borrow_mut(|filled| filled.pop());
            }
        }
        FILLED.with_borrow_mut(|filled| filled.push((address(&self.queue), self.id)));
        let _filling = Filling;
        function()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.close_place(self.id);
    }
}

/// The place of this queue that the current thread fills.
pub(super) fn filled(queue: &TrainingQueue) -> Option<u64> {
    FILLED.with_borrow(|filled| {
        filled.iter().rev().find(|(address_of, _)| *address_of == address(queue)).map(|(_, id)| *id)
    })
}

fn address(queue: &TrainingQueue) -> usize {
    std::ptr::from_ref(queue).addr()
}

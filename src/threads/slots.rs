//! Limits how many items are in progress. Others wait in a queue, and hold no thread.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

/// A number of slots, and the items that wait for one.
pub(crate) struct Slots<T> {
    state: Mutex<State<T>>,
    max: usize,
    /// Hands an item that has waited to a thread, which takes a slot for it again. Returns whether there is such a thread.
    resume: fn(T) -> bool,
}

struct State<T> {
    taken: usize,
    waiting: VecDeque<T>,
}

/// A slot, freed on drop.
pub(crate) struct Slot(Arc<dyn Free + Send + Sync>);

/// The slots of any items.
trait Free {
    fn free(&self);
}

impl<T: Send + 'static> Slots<T> {
    pub(crate) fn new(max: usize, resume: fn(T) -> bool) -> Arc<Self> {
        Arc::new(Slots { state: Mutex::new(State { taken: 0, waiting: VecDeque::new() }), max, resume })
    }

    /// Takes a slot for an item, and returns both. If there is none, keeps the item until one is free.
    pub(crate) fn take(self: &Arc<Self>, item: T) -> Option<(T, Slot)> {
        let mut state = self.state.lock();
        if state.taken < self.max {
            state.taken += 1;
            let slots = Arc::clone(self);
            return Some((item, Slot(slots)));
        }
        state.waiting.push_back(item);
        None
    }
}

impl<T: Send> Free for Slots<T> {
    fn free(&self) {
        let mut next = {
            let mut state = self.state.lock();
            state.taken -= 1;
            state.waiting.pop_front()
        };
        // Without the lock. If there are no threads any more, nothing else would end the items that wait.
        while let Some(item) = next {
            if (self.resume)(item) {
                return;
            }
            next = self.state.lock().waiting.pop_front();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.free();
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;

    type Item = (u32, Sender<u32>);

    fn resume((number, sender): Item) -> bool {
        sender.send(number).is_ok()
    }

    fn items() -> (impl Fn(u32) -> Item, Receiver<u32>) {
        let (sender, receiver) = unbounded();
        (move |number| (number, sender.clone()), receiver)
    }

    #[test]
    fn a_free_slot_resumes_the_first() {
        let (slots, (item, resumed)) = (Slots::new(2, resume), items());
        let taken: Vec<_> = (0..2).map(|number| slots.take(item(number)).unwrap().1).collect();
        assert!((2..5).all(|number| slots.take(item(number)).is_none()));
        drop(taken);
        assert_eq!(resumed.try_iter().collect::<Vec<_>>(), [2, 3]);
        // Whoever comes first takes it; the other waits again.
        let _taken = [5, 2].map(|number| slots.take(item(number)).unwrap().1);
        assert!(slots.take(item(3)).is_none());
    }

    #[test]
    fn without_threads_all_items_are_dropped() {
        let (slots, (item, resumed)) = (Slots::new(1, resume), items());
        let (_, slot) = slots.take(item(0)).unwrap();
        assert!((1..1000).all(|number| slots.take(item(number)).is_none()));
        drop((resumed, slot));
        assert!(slots.state.lock().waiting.is_empty());
    }
}

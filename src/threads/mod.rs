//! Threads and the queues in front of them.
//!
//! [`OwnedThread`] owns one thread, [`Pool`] a group of threads that grows on demand, [`Budget`] bounds a queue, and [`Slots`] what
//! is in progress. What the threads do is decided elsewhere.

mod budget;
mod owned;
mod pool;
mod slots;
mod thread_options;

pub(crate) use budget::{Budget, OnFull, Reservation};
pub(crate) use owned::{OwnedThread, panic_text};
pub(crate) use pool::Pool;
pub(crate) use slots::{Slot, Slots};
pub(crate) use thread_options::ThreadOptions;

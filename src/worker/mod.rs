//! Threads and the queues in front of them.
//!
//! One type owns a thread ([`OwnedThread`]), one a group of threads that grows on demand ([`Pool`]), and one bounds a queue
//! ([`Budget`]). What the threads do is decided elsewhere.

mod budget;
mod owned;
mod pool;

pub(crate) use budget::{Budget, Reservation, Room};
pub(crate) use owned::{OwnedThread, panic_text};
pub(crate) use pool::Pool;

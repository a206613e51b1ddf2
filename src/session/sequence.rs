//! Sequence numbers of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the requests of one kind, from 0. Clones continue the same sequence.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sequence(Arc<AtomicU64>);

impl Sequence {
    /// Takes the next number. Each number is given out once; no other memory depends on it, so the order is relaxed.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

//! Stands in for the manual clock in a build without the feature `test-util`: there is none, and none can be made.

use std::sync::Arc;
use std::thread::ThreadId;
use std::time::{Instant, SystemTime};

use crossbeam_channel::Receiver;
use parking_lot::MutexGuard;

use super::{Monitor, Received};

#[derive(Clone, Debug)]
pub(super) enum ManualClock {}

pub(super) fn mark_own_thread() {}

impl ManualClock {
    pub(super) fn now(&self) -> Instant {
        match *self {}
    }

    pub(super) fn wall(&self) -> SystemTime {
        match *self {}
    }

    pub(super) fn receive_until<T>(&self, _: &Receiver<T>, _: Option<Instant>) -> Received<T> {
        match *self {}
    }

    pub(super) fn wait_until<T>(
        &self,
        _: &Arc<Monitor<T>>,
        _: &mut MutexGuard<'_, T>,
        _: Option<Instant>,
        _: bool,
    ) -> bool {
        match *self {}
    }

    pub(super) fn settle(&self, _: ThreadId) {
        match *self {}
    }
}

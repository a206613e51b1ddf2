//! Tells the poller that a request succeeded, while its polls fail.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who wants to know of the next success.
#[derive(Default)]
pub(super) struct SuccessWatch {
    is_armed: AtomicBool,
    on_success: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl SuccessWatch {
    /// From now on this is called on a success after [`arm`](SuccessWatch::arm). Only the first one counts.
    pub(super) fn set(&self, on_success: impl Fn() + Send + Sync + 'static) {
        self.on_success.set(Box::new(on_success)).ok();
    }

    pub(super) fn arm(&self) {
        self.is_armed.store(true, Ordering::Relaxed);
    }

    /// A request succeeded.
    pub(super) fn note(&self) {
        if self.is_armed.load(Ordering::Relaxed) && self.is_armed.swap(false, Ordering::Relaxed) {
            self.on_success.get().into_iter().for_each(|on_success| on_success());
        }
    }
}

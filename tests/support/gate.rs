//! How a test and a script synchronise: gates, and a gauge of concurrency.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::PATIENCE;

/// A gate at which a script waits until the test opens it.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
    }

    /// Waits until the gate opens or the client closes the connection. Returns whether the gate is open.
    pub(super) fn pass_unless_closed(self: &Arc<Self>, stream: &TcpStream) -> bool {
        let closed = Arc::new(AtomicBool::new(false));
        let (watched, gate, gone) = (stream.try_clone().unwrap(), Arc::clone(self), Arc::clone(&closed));
        // Ends with the connection, or with the next request on it.
        thread::spawn(move || {
            if watched.peek(&mut [0]).map_or(true, |read| read == 0) {
                gone.store(true, Ordering::Release);
                drop(gate.open.lock().unwrap());
                gate.changed.notify_all();
            }
        });
        let waits = |open: &mut bool| !*open && !closed.load(Ordering::Acquire);
        *self.changed.wait_timeout_while(self.open.lock().unwrap(), PATIENCE, waits).unwrap().0
    }
}

/// The number of requests inside at once, now and at most.
#[derive(Default)]
pub struct Gauge {
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    pub fn enter(&self) -> impl Drop + '_ {
        struct Inside<'a>(&'a Gauge);
        impl Drop for Inside<'_> {
            fn drop(&mut self) {
                self.0.inside.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.most.fetch_max(self.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        Inside(self)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

//! What Ctrl-C, SIGTERM and SIGHUP do.

use std::convert::Infallible;
use std::io::{self, Write};
use std::process;
use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use crate::errors::{Failure, INTERRUPTED};

/// At first a signal ends the program at once, with exit code 130. A command that can end in an orderly way
/// [takes](Interrupt::take) the first one as a request; the second still ends the program at once.
#[derive(Debug)]
pub(crate) struct Interrupt {
    /// What is said on stderr of the first signal, once it is taken.
    taken: Arc<OnceLock<&'static str>>,
    /// Disconnected by the first signal.
    requested: Receiver<Infallible>,
}

impl Interrupt {
    /// Handles the signals from now on. Possible once in a process.
    pub(crate) fn install() -> Result<Self, Failure> {
        let taken = Arc::new(OnceLock::new());
        let (sender, requested) = bounded(0);
        let (mut sender, seen) = (Some(sender), Arc::clone(&taken));
        ctrlc::set_handler(move || {
            let first = sender.take().is_some();
            match seen.get().filter(|_| first) {
                None => process::exit(i32::from(INTERRUPTED)),
                Some(&"") => {}
                Some(note) => writeln!(io::stderr(), "\n{note}").unwrap_or_default(),
            }
        })
        .map_err(|error| Failure::failed("signals cannot be handled").cause(error))?;
        Ok(Interrupt { taken, requested })
    }

    /// From now on the first signal is a request to end.
    pub(crate) fn take(&self) {
        self.take_saying("");
    }

    /// The same, and that signal is answered with this on stderr.
    pub(crate) fn take_saying(&self, note: &'static str) {
        self.taken.set(note).ok();
    }

    /// The same, and that signal calls this function, on a thread of its own.
    pub(crate) fn take_calling(&self, function: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let requested = self.requested.clone();
        let wait = move || {
            requested.recv().ok();
            function();
        };
        let spawned = thread::Builder::new().name("tinkex-interrupt".to_owned()).spawn(wait);
        spawned.map_err(|error| Failure::failed("signals cannot be handled").cause(error))?;
        self.take();
        Ok(())
    }

    /// Whether the request was made.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Blocks until the request is made.
    pub(crate) fn wait(&self) {
        self.requested.recv().ok();
    }
}

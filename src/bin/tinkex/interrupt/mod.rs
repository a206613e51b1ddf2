//! Handling of Ctrl-C (SIGINT), SIGTERM and SIGHUP.

#[cfg_attr(not(unix), path = "console.rs")]
mod signals;

use std::convert::Infallible;
use std::process;
use std::sync::{Arc, OnceLock};
use std::thread;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use crate::failure::{Failure, INTERRUPTED};
use crate::screen;

/// By default a signal ends the program immediately, with exit code 130. A command that can stop cleanly
/// [catches](Interrupt::catch) the first signal as a request to stop; the second one still ends the program immediately.
pub(crate) struct Interrupt {
    /// Set once the first signal is to be caught: the note that is then printed on stderr, or an empty text.
    note: Arc<OnceLock<&'static str>>,
    /// What each Ctrl-C does instead.
    ctrl_c: Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>,
    /// Disconnected by the first signal.
    requested: Receiver<Infallible>,
}

impl Interrupt {
    /// Installs the signal handler. Works once per process. A signal that was ignored when the program started stays ignored:
    /// `nohup` and `trap '' INT` are requests not to stop.
    pub(crate) fn install() -> Result<Self, Failure> {
        let (note, ctrl_c) = (Arc::new(OnceLock::new()), Arc::<OnceLock<Box<dyn Fn() + Send + Sync>>>::default());
        let (sender, requested) = bounded(0);
        let (mut sender, caught, own) = (Some(sender), Arc::clone(&note), Arc::clone(&ctrl_c));
        signals::on_each(move |is_ctrl_c| {
            if let Some(act) = own.get().filter(|_| is_ctrl_c) {
                return act();
            }
            let is_first = sender.take().is_some();
            match caught.get().filter(|_| is_first) {
                None => process::exit(i32::from(INTERRUPTED)),
                Some(&"") => {}
                Some(note) => screen::stopping(note),
            }
        })
        .map_err(|error| Failure::system("cannot install the signal handler", &error))?;
        Ok(Interrupt { note, ctrl_c, requested })
    }

    /// From now on, the first signal is a request to stop.
    pub(crate) fn catch(&self) {
        self.catch_with_note("");
    }

    /// The same; the signal also prints this note on stderr.
    pub(crate) fn catch_with_note(&self, note: &'static str) {
        self.note.set(note).ok();
    }

    /// The same; the signal also calls this function, on a separate thread.
    pub(crate) fn catch_and_call(&self, function: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
        let requested = self.requested.clone();
        let wait = move || {
            requested.recv().ok();
            function();
        };
        let spawned = thread::Builder::new().name("tinkex-interrupt".to_owned()).spawn(wait);
        spawned.map_err(|error| Failure::system("cannot start a thread for signals", &error))?;
        self.catch();
        Ok(())
    }

    /// From now on, each Ctrl-C calls this function, on the thread of the signals, and is no request to stop. Other signals are.
    pub(crate) fn on_ctrl_c(&self, act: impl Fn() + Send + Sync + 'static) {
        self.ctrl_c.set(Box::new(act)).ok();
    }

    /// Whether the program was asked to stop.
    pub(crate) fn is_requested(&self) -> bool {
        self.requested.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Blocks until the program is asked to stop.
    pub(crate) fn wait(&self) {
        self.requested.recv().ok();
    }
}

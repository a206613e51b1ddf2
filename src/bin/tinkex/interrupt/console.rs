//! Ctrl-C where there are no signals.

/// Calls the function on each Ctrl-C, on a thread of its own.
pub(super) fn on_each(act: impl FnMut() + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(act)
}

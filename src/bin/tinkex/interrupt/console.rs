//! Ctrl-C where there are no signals.

/// Calls the function on each Ctrl-C, on a thread of its own, with `true`.
pub(super) fn on_each(mut act: impl FnMut(bool) + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || act(true))
}

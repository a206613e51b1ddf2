//! Progress bars: on stderr, and only if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Counts the items of a list as they arrive.
pub(crate) fn items() -> ProgressBar {
    bar("{bar:40} {pos}/{len}")
}

/// Counts the bytes of a download.
pub(crate) fn bytes() -> ProgressBar {
    bar("{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}")
}

/// Hidden if stderr is not a terminal.
fn bar(template: &str) -> ProgressBar {
    // Without a length, a bar is drawn empty; with a length of 0 it would be drawn full.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let bar = bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    // Updates come only with data, and indicatif limits their rate: without a tick, the last one before a pause would not show.
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

//! Progress bars: on stderr, and only when that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How many items of a list have arrived.
pub(crate) fn items() -> ProgressBar {
    bar("{bar:40} {pos}/{len}")
}

/// How many bytes of a download are there, once its size is known.
pub(crate) fn bytes() -> ProgressBar {
    bar("{bar:40} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}")
}

fn bar(template: &str) -> ProgressBar {
    // Hidden where stderr is no terminal.
    // Until something is known of the length, it is empty rather than full.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let bar = bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    // What arrived last is seen while the next is waited for.
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

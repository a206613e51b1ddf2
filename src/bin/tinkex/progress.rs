//! Progress bars: on stderr, and only when that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How many items of a list have arrived.
pub(crate) fn items() -> ProgressBar {
    bar("{bar:40} {pos}/{len}")
}

fn bar(template: &str) -> ProgressBar {
    // Hidden where stderr is no terminal.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

//! The progress bar of a download, and what its failures mean here.

use std::path::Path;

use indicatif::ProgressBar;
use tinkex::ErrorKind;
use tinkex::rest::DownloadProgress;

use crate::app::App;
use crate::bars;
use crate::failure::Failure;

pub(crate) struct DownloadBar(ProgressBar);

impl DownloadBar {
    pub(crate) fn start() -> Self {
        DownloadBar(bars::bytes())
    }

    pub(crate) fn show(&self, at: DownloadProgress) {
        if let Some(total) = at.total {
            self.0.set_length(total);
        }
        self.0.set_position(at.bytes);
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Explains why a download to this path failed.
pub(crate) fn explain(app: &App, output: &Path, error: tinkex::Error) -> Failure {
    match error.kind() {
        ErrorKind::Cancelled if app.interrupt.is_requested() => {
            Failure::interrupted("download interrupted; no files were left")
        }
        ErrorKind::InvalidInput if output.exists() => {
            Failure::from(error).hint("choose another --output, or pass --overwrite")
        }
        _ => error.into(),
    }
}

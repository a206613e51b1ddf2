//! The progress bar of a download, and what its failures mean here.

use std::path::Path;

use tinkex::ErrorKind;
use tinkex::rest::DownloadProgress;

use crate::app::App;
use crate::failure::Failure;
use crate::screen::{self, Status, Unit};

pub(crate) struct DownloadBar(screen::Progress);

impl DownloadBar {
    pub(crate) fn start() -> Self {
        DownloadBar(screen::start(Status { unit: Unit::Bytes, ..Status::default() }))
    }

    pub(crate) fn show(&self, at: DownloadProgress) {
        self.0.update(|status| {
            status.done = Some(at.bytes);
            status.total = at.total.or(status.total);
        });
    }

    /// Removes the bar.
    pub(crate) fn end(self) {
        drop(self);
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

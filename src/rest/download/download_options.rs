//! The options of a download, its progress, and the handle to cancel it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::staging::checked_destination;
use super::unpack::UnpackLimits;
use crate::config::MAX_DURATION;
use crate::error::{Error, Result};
use crate::http::RequestHandle;

/// Enough for the service to prepare an archive of many gigabytes.
const TIMEOUT_PREPARATION: Duration = Duration::from_secs(30 * 60);

/// A checkpoint has a handful of files.
const MAX_FILES: u64 = 10_000;

/// More than the weights and the optimizer state of any LoRA adapter.
const MAX_BYTES: u64 = 256 << 30;

/// The progress of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DownloadProgress {
    /// The number of bytes that are stored, of the archive or of all files. It falls if the download restarts from the beginning.
    pub bytes: u64,
    /// The size in bytes, if the server gives it. Of several files, it is known once the last one is fetched.
    pub total: Option<u64>,
}

/// Where to download a checkpoint to, and how. A path is enough for the defaults.
///
/// [`RestClient::download_checkpoint_archive`](crate::RestClient::download_checkpoint_archive) has an example.
#[must_use]
pub struct DownloadOptions<'a> {
    pub(super) destination: PathBuf,
    pub(super) overwrite: bool,
    pub(super) extract: bool,
    pub(super) timeout_preparation: Duration,
    pub(super) max_files: u64,
    pub(super) max_bytes: u64,
    pub(super) progress: Option<Box<dyn FnMut(DownloadProgress) + 'a>>,
    pub(super) handle: Arc<RequestHandle>,
}

impl<'a> DownloadOptions<'a> {
    /// A download to this path, which must not exist.
    pub fn new(destination: impl Into<PathBuf>) -> Self {
        DownloadOptions {
            destination: destination.into(),
            overwrite: false,
            extract: true,
            timeout_preparation: TIMEOUT_PREPARATION,
            max_files: MAX_FILES,
            max_bytes: MAX_BYTES,
            progress: None,
            handle: Arc::default(),
        }
    }

    /// Whether to replace an existing destination, a file or a whole directory, once the download is complete. Defaults to
    /// `false`.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Whether to unpack the archive. Otherwise the destination is the archive itself. Defaults to `true`.
    pub fn extract(mut self, extract: bool) -> Self {
        self.extract = extract;
        self
    }

    /// How long to wait while the service prepares the archive. Defaults to 30 min.
    pub fn timeout_preparation(mut self, timeout: Duration) -> Self {
        self.timeout_preparation = timeout.min(MAX_DURATION);
        self
    }

    /// The maximum number of files and directories in the archive. Defaults to 10 000.
    pub fn max_files(mut self, files: u64) -> Self {
        self.max_files = files;
        self
    }

    /// The maximum size of the archive, and of its files together, in bytes. Defaults to 256 GiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Called frequently with the progress, on the downloading thread. If it panics, the download fails with an error of kind
    /// [`Panicked`](crate::ErrorKind::Panicked). Defaults to none.
    pub fn progress(mut self, progress: impl FnMut(DownloadProgress) + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// A handle that cancels the download from another thread, even before it starts.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use tinkex::rest::DownloadOptions;
    ///
    /// let options = DownloadOptions::new("checkpoint");
    /// let canceller = options.canceller();
    /// std::thread::spawn(move || {
    ///     std::io::stdin().read_line(&mut String::new()).ok();
    ///     canceller.cancel();
    /// });
    /// rest.download_checkpoint_archive("run-1", "weights/0001", options)?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.handle))
    }

    /// Refuses what a download of several files would refuse.
    pub(crate) fn check_directory(&self) -> Result<()> {
        if !self.extract {
            return Err(Error::invalid_input("external weights are files, and have no archive")
                .with_hint("download them into a directory"));
        }
        checked_destination(&self.destination, self.overwrite).map(drop)
    }

    pub(crate) fn unpack_limits(&self) -> UnpackLimits {
        UnpackLimits { files: self.max_files, bytes: self.max_bytes }
    }
}

impl From<PathBuf> for DownloadOptions<'_> {
    fn from(destination: PathBuf) -> Self {
        DownloadOptions::new(destination)
    }
}

impl From<&Path> for DownloadOptions<'_> {
    fn from(destination: &Path) -> Self {
        DownloadOptions::new(destination)
    }
}

impl From<&str> for DownloadOptions<'_> {
    fn from(destination: &str) -> Self {
        DownloadOptions::new(destination)
    }
}

impl fmt::Debug for DownloadOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadOptions")
            .field("destination", &self.destination)
            .field("overwrite", &self.overwrite)
            .field("extract", &self.extract)
            .finish_non_exhaustive()
    }
}

/// Cancels a download from another thread. Made by [`DownloadOptions::canceller`].
#[derive(Clone, Debug)]
pub struct Canceller(Arc<RequestHandle>);

impl Canceller {
    /// Cancels the download: it fails soon with [`Cancelled`](crate::ErrorKind::Cancelled), and leaves nothing behind. Does not
    /// block. Has no effect on a finished download.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

//! What a download is told.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::unpack::Limits;
use crate::config::MAX_DURATION;
use crate::http::Flight;

/// Time enough for an archive of many gigabytes to be made.
const TIMEOUT_MAKING: Duration = Duration::from_secs(30 * 60);

/// A checkpoint has a handful of files.
const MAX_FILES: u64 = 10_000;

/// More than the weights and the optimizer's state of any LoRA adapter take up.
const MAX_BYTES: u64 = 256 << 30;

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DownloadProgress {
    /// The bytes of the archive that are stored. Fewer than before when the download begins anew.
    pub bytes: u64,
    /// The size of the archive, where the server says it.
    pub total: Option<u64>,
}

/// Where a checkpoint is downloaded to, and how. A path is enough where the defaults will do.
///
/// [`RestClient::download_checkpoint_archive`](crate::RestClient::download_checkpoint_archive) has an example.
#[must_use]
pub struct DownloadOptions<'a> {
    pub(super) destination: PathBuf,
    pub(super) overwrite: bool,
    pub(super) extract: bool,
    pub(super) timeout_making: Duration,
    pub(super) max_files: u64,
    pub(super) max_bytes: u64,
    pub(super) progress: Option<Box<dyn FnMut(DownloadProgress) + 'a>>,
    pub(super) flight: Arc<Flight>,
}

impl<'a> DownloadOptions<'a> {
    /// A download to this path, which must not exist.
    pub fn new(destination: impl Into<PathBuf>) -> Self {
        DownloadOptions {
            destination: destination.into(),
            overwrite: false,
            extract: true,
            timeout_making: TIMEOUT_MAKING,
            max_files: MAX_FILES,
            max_bytes: MAX_BYTES,
            progress: None,
            flight: Arc::default(),
        }
    }

    /// Whether what is at the destination, a file or a directory with all that is in it, gives way once the new one is whole.
    /// Defaults to false.
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Whether the archive is unpacked. Otherwise the destination is the archive itself, as it came. Defaults to true.
    pub fn extract(mut self, extract: bool) -> Self {
        self.extract = extract;
        self
    }

    /// How long to wait while the service says that the archive is being made. Defaults to 30 min.
    pub fn timeout_making(mut self, timeout: Duration) -> Self {
        self.timeout_making = timeout.min(MAX_DURATION);
        self
    }

    /// The most members that the archive may have, files and directories. Defaults to 10 000.
    pub fn max_files(mut self, files: u64) -> Self {
        self.max_files = files;
        self
    }

    /// The most bytes that the archive may have, and that its files may have together. Defaults to 256 GiB.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Is told how far the download is, often, on the thread that downloads. A panic in it ends the download with an error of
    /// kind [`Panicked`](crate::ErrorKind::Panicked). Defaults to nobody.
    pub fn progress(mut self, progress: impl FnMut(DownloadProgress) + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// A handle that ends the download from another thread, also one that has not begun.
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
        Canceller(Arc::clone(&self.flight))
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { files: self.max_files, bytes: self.max_bytes }
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

/// Ends a download from another thread. Made by [`DownloadOptions::canceller`].
#[derive(Clone, Debug)]
pub struct Canceller(Arc<Flight>);

impl Canceller {
    /// Ends it: the download fails soon with [`Cancelled`](crate::ErrorKind::Cancelled), and leaves nothing behind. Does not
    /// block. Does nothing to a download that is done.
    pub fn cancel(&self) {
        self.0.cut();
    }
}

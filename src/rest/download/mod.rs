//! Downloads checkpoints: an archive, which is unpacked, or the files of external weights; and traces of sessions.
//!
//! All work happens in a staging directory beside the destination, `.NAME.tinkex-…`: the archive or the files are fetched
//! ([`fetch`]), an archive is unpacked ([`mod@unpack`]), and only the complete result is renamed to the destination ([`staging`]). The staging directory is
//! removed at the end, even if the download fails.

mod download_options;
mod external;
mod fetch;
mod staging;
mod trace;
mod unpack;

use std::fs;
use std::path::{Path, PathBuf};

pub use download_options::{Canceller, DownloadOptions, DownloadProgress};

use super::client::RestClient;
use super::endpoint::{CheckpointEndpoint, NO_ARCHIVE, archive_url};
use crate::error::{Error, ErrorKind, Result};
use crate::http::Limits;
use fetch::{Fetch, LinkSource, Target};
pub(crate) use staging::StagingDir;
pub(crate) use unpack::unpack;

/// The result of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// The directory with the files, or the file itself: an archive that was not unpacked, or a trace.
    pub path: PathBuf,
    /// The size of what was fetched in bytes: of the archive, of all files of external weights, or of the trace.
    pub archive_bytes: u64,
    /// The number of files in the directory; `None` if it is a file.
    pub files: Option<u64>,
}

impl RestClient {
    /// Downloads a checkpoint into a new directory: its archive, which is unpacked, or the files of external weights. Blocks
    /// until that is done.
    ///
    /// The options are a path (the destination) or [`DownloadOptions`]. Services of 2026 may have no archives any more (404, 405
    /// or 410); then only external weights can be downloaded, which
    /// [`export_and_download_checkpoint`](crate::ServiceClient::export_and_download_checkpoint) makes of a training checkpoint.
    ///
    /// The destination appears at the very end, all at once and synced to the disk. If it may be overwritten, the old content
    /// stays until then; a symbolic link is replaced itself, never its target. Missing parent directories are created, and
    /// removed again if the download fails. If two downloads have the same destination, the second fails. The work happens in
    /// a hidden directory `.NAME.tinkex-…` beside the destination, which needs space for the archive and its files, and is
    /// always removed unless the process is killed. Then it can be deleted, except if the destination is missing: its old
    /// content is `old` in that directory.
    ///
    /// The archive is fetched without the API key and without any header or query of the configuration, in constant memory. A
    /// lost connection resumes where it ended if the server supports that, otherwise from the beginning; an expired URL is
    /// replaced. It is an error after [`max_retries`](crate::ConfigBuilder::max_retries) failures in a row without progress.
    /// While the service prepares the archive (503), it is polled as it asks, for up to
    /// [`timeout_preparation`](DownloadOptions::timeout_preparation). The timeout set by
    /// [`with_timeout_operation`](RestClient::with_timeout_operation) covers everything.
    ///
    /// External weights are fetched file by file in the same way. A name may have folders; one that would end up elsewhere is
    /// refused, before anything is fetched.
    ///
    /// The archive is a tar file with or without gzip. Only files and directories are unpacked, with the permissions of new
    /// files. The whole archive is refused if a member would end up elsewhere (an absolute path, `..`, a backslash, a
    /// drive), is a link, a device or the like, occurs twice, or exceeds [`max_files`](DownloadOptions::max_files) or
    /// [`max_bytes`](DownloadOptions::max_bytes); and if it is truncated, or followed by other data.
    ///
    /// # Errors
    ///
    /// Besides [those of every method](RestClient#errors): [`InvalidInput`](ErrorKind::InvalidInput) before any request if
    /// the destination exists, or external weights are not to be unpacked, since they have no archive; [`Io`](ErrorKind::Io) for a file that cannot be written,
    /// [`Decode`](ErrorKind::Decode) for an archive that is refused or damaged,
    /// [`Cancelled`](ErrorKind::Cancelled) after [`Canceller::cancel`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// use tinkex::rest::DownloadOptions;
    ///
    /// let downloaded = rest.download_checkpoint_archive("run-1", "weights/0001", "checkpoints/0001")?;
    /// println!("{} files in {}", downloaded.files.unwrap_or(0), downloaded.path.display());
    ///
    /// let options = DownloadOptions::new("checkpoints/latest")
    ///     .overwrite(true)
    ///     .progress(|at| eprint!("\r{} of {:?} bytes", at.bytes, at.total));
    /// rest.download_checkpoint_archive("run-1", "weights/0002", options)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn download_checkpoint_archive<'a>(
        &self,
        training_run_id: &str,
        checkpoint_id: &str,
        options: impl Into<DownloadOptions<'a>>,
    ) -> Result<Downloaded> {
        let operation = "download_checkpoint_archive";
        self.download(&CheckpointEndpoint::by_ids(operation, training_run_id, checkpoint_id)?, options.into())
    }

    /// Like [`download_checkpoint_archive`](RestClient::download_checkpoint_archive), for a path.
    ///
    /// # Errors
    ///
    /// The same errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let downloaded = rest.download_checkpoint_archive_from_tinker_path("tinker://run-1/weights/epoch-1", "checkpoints")?;
    /// println!("{downloaded:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn download_checkpoint_archive_from_tinker_path<'a>(
        &self,
        tinker_path: &str,
        options: impl Into<DownloadOptions<'a>>,
    ) -> Result<Downloaded> {
        let operation = "download_checkpoint_archive_from_tinker_path";
        self.download(&CheckpointEndpoint::by_path(operation, tinker_path)?, options.into())
    }

    fn download(&self, checkpoint: &CheckpointEndpoint, options: DownloadOptions<'_>) -> Result<Downloaded> {
        let downloaded = if checkpoint.is_external {
            self.download_files(checkpoint, options)
        } else {
            self.download_archive(checkpoint, options)
        };
        downloaded.map_err(|error| error.with_operation(checkpoint.operation))
    }

    fn download_archive(
        &self,
        checkpoint: &CheckpointEndpoint,
        mut options: DownloadOptions<'_>,
    ) -> Result<Downloaded> {
        let request = checkpoint.archive_request();
        let limits = Limits { handle: options.handle.clone(), ..self.limits(checkpoint.operation) };
        let staging = StagingDir::create(&options.destination, options.overwrite)?;
        let (archive, content) = (staging.archive(), staging.content());
        let source = LinkSource {
            request: &request,
            read: &|response| archive_url(checkpoint.operation, self.config(), response),
            missing: NO_ARCHIVE,
        };
        let extract = options.extract;
        let file = create_file(&archive)?;
        let path = archive.clone();
        let target = Target { file, path, what: "archive", sync: !extract, bytes_before: 0, is_last: true };
        let archive_bytes = Fetch::new(self, source, &limits, target, &mut options).run()?;
        let (files, what) = if extract {
            let check = || self.http().time_left(&limits).map(drop);
            let files = unpack(&archive, &content, options.unpack_limits(), &check)?;
            (Some(files), content)
        } else {
            (None, archive)
        };
        staging.install(&what)?;
        Ok(Downloaded { path: options.destination, archive_bytes, files })
    }
}

fn create_file(path: &Path) -> Result<fs::File> {
    fs::File::create_new(path).map_err(|error| io_error("written", path, error))
}

pub(crate) fn io_error(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be {what}", path.display())).with_source(error)
}

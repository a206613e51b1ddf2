//! Downloads and unpacks the archive of a checkpoint.
//!
//! All work happens in a staging directory beside the destination, `.NAME.tinkex-…`: the archive is fetched ([`fetch`]), then
//! unpacked ([`mod@unpack`]), and only the complete result is renamed to the destination ([`staging`]). The staging directory is
//! removed at the end, even if the download fails.

mod download_options;
mod fetch;
mod staging;
mod unpack;

use std::fs;
use std::path::PathBuf;

pub use download_options::{Canceller, DownloadOptions, DownloadProgress};

use super::client::RestClient;
use super::endpoint::CheckpointEndpoint;
use crate::error::{Error, ErrorKind, Result};
use crate::http::Limits;
use fetch::Fetch;
use staging::StagingDir;
use unpack::unpack;

/// The result of a download.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// The directory with the files, or the archive itself if it was not unpacked.
    pub path: PathBuf,
    /// The size of the archive in bytes.
    pub archive_bytes: u64,
    /// The number of files; `None` if the archive was not unpacked.
    pub files: Option<u64>,
}

impl RestClient {
    /// Downloads the archive of a checkpoint and unpacks it into a new directory. Blocks until that is done.
    ///
    /// The options are a path (the destination) or [`DownloadOptions`].
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
    /// The archive is a tar file with or without gzip. Only files and directories are unpacked, with the permissions of new
    /// files. The whole archive is refused if a member would end up elsewhere (an absolute path, `..`, a backslash, a
    /// drive), is a link, a device or the like, occurs twice, or exceeds [`max_files`](DownloadOptions::max_files) or
    /// [`max_bytes`](DownloadOptions::max_bytes); and if it is truncated, or followed by other data.
    ///
    /// # Errors
    ///
    /// Besides [those of every method](RestClient#errors): [`InvalidInput`](ErrorKind::InvalidInput) before any request if
    /// the destination exists, [`Io`](ErrorKind::Io) for a file that cannot be written,
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
    pub fn download_checkpoint_archive_from_tinker_path<'a>(
        &self,
        tinker_path: &str,
        options: impl Into<DownloadOptions<'a>>,
    ) -> Result<Downloaded> {
        let operation = "download_checkpoint_archive_from_tinker_path";
        self.download(&CheckpointEndpoint::by_path(operation, tinker_path)?, options.into())
    }

    fn download(&self, checkpoint: &CheckpointEndpoint, options: DownloadOptions<'_>) -> Result<Downloaded> {
        let named = |error: Error| error.with_operation(checkpoint.operation);
        let request = checkpoint.archive_request();
        let limits = Limits { handle: options.handle.clone(), ..self.limits(checkpoint.operation) };
        let staging = StagingDir::create(&options.destination, options.overwrite).map_err(named)?;
        let (archive, content) = (staging.archive(), staging.content());
        let file = fs::File::create_new(&archive).map_err(|error| named(io_error("written", &archive, error)))?;
        let (destination, extract, unpack_limits) =
            (options.destination.clone(), options.extract, options.unpack_limits());
        let archive_bytes = Fetch::new(self, &request, &limits, file, options).run().map_err(named)?;
        let (files, what) = if extract {
            let check = || self.http().time_left(&limits).map(drop);
            let files = unpack(&archive, &content, unpack_limits, &check).map_err(named)?;
            (Some(files), content)
        } else {
            (None, archive)
        };
        staging.install(&what).map_err(named)?;
        Ok(Downloaded { path: destination, archive_bytes, files })
    }
}

fn io_error(what: &str, path: &std::path::Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be {what}", path.display())).with_source(error)
}

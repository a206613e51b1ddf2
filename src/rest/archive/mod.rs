//! The archive of a checkpoint, downloaded and unpacked.
//!
//! The work is done in a directory of its own beside the destination, `.NAME.tinkex-…`: first the archive is fetched
//! ([`transfer`]), then unpacked ([`unpack`]), and only what is whole is renamed to the destination ([`workspace`]). The
//! directory is removed at the end, also when the download fails.

mod options;
mod transfer;
mod unpack;
mod workspace;

use std::fs;
use std::path::PathBuf;

pub use options::{Canceller, DownloadOptions, DownloadProgress};

use super::RestClient;
use super::place::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::http::Call;
use transfer::Transfer;
use unpack::unpack;
use workspace::Workspace;

/// What a download has brought.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// The directory, or the archive where it was not to be unpacked.
    pub path: PathBuf,
    /// The size of the archive in bytes.
    pub archive_bytes: u64,
    /// The number of files; none where the archive was not to be unpacked.
    pub files: Option<u64>,
}

impl RestClient {
    /// Downloads the archive of a checkpoint and unpacks it into a new directory. Blocks until that is done.
    ///
    /// The options are a path, the destination, or [`DownloadOptions`]. The destination comes into being at the very end, all
    /// at once and synced to the disk; what was there before, where it may be overwritten, stays until then (a link itself,
    /// never what it leads to). Directories above it are made, and removed again when the download fails. Of two downloads to
    /// one destination at once, the second is an error. Work goes on in a hidden directory `.NAME.tinkex-…` beside the
    /// destination, which needs room for the archive and its files and is removed whatever happens. Only a process that is
    /// killed leaves it behind: then it can be deleted, unless the destination is gone, which is `old` in it.
    ///
    /// The archive is fetched without the API key and without any header or query of the configuration, in constant memory. A
    /// connection that breaks off is taken up where it ended when the server can do that, else from the beginning; a URL
    /// that has expired is replaced. After [`max_retries`](crate::ConfigBuilder::max_retries) failures in a row
    /// without anything new it is an error. While the service says that the archive is being made (503), it is asked again
    /// as it wishes, for [`timeout_making`](DownloadOptions::timeout_making). All together ends after
    /// [`timeout_operation`](RestClient::timeout_operation), if there is one.
    ///
    /// Of the archive, a tar file with or without gzip, only files and directories are unpacked, with the permissions that new
    /// files have. An archive is refused as a whole when a member would lie elsewhere (an absolute path, `..`, a
    /// backslash, a drive), is a link, a device or the like, comes twice, or is too much
    /// ([`max_files`](DownloadOptions::max_files), [`max_bytes`](DownloadOptions::max_bytes)); and when it breaks off before
    /// its end, or goes on after it.
    ///
    /// # Errors
    ///
    /// Besides [those of every method](RestClient#errors): [`InvalidInput`](ErrorKind::InvalidInput) before any request when
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
        self.download(&Place::by_ids(operation, training_run_id, checkpoint_id)?, options.into())
    }

    /// The same as [`download_checkpoint_archive`](RestClient::download_checkpoint_archive), for a path.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn download_checkpoint_archive_from_tinker_path<'a>(
        &self,
        tinker_path: &str,
        options: impl Into<DownloadOptions<'a>>,
    ) -> Result<Downloaded> {
        let operation = "download_checkpoint_archive_from_tinker_path";
        self.download(&Place::by_path(operation, tinker_path)?, options.into())
    }

    fn download(&self, checkpoint: &Place, options: DownloadOptions<'_>) -> Result<Downloaded> {
        let named = |error: Error| error.with_operation(checkpoint.operation);
        let call = Call { flight: options.flight.clone(), ..self.archive_call(checkpoint) };
        let workspace = Workspace::create(&options.destination, options.overwrite).map_err(named)?;
        let (archive, content) = (workspace.archive(), workspace.content());
        let file = fs::File::create_new(&archive).map_err(|error| named(io_error("written", &archive, error)))?;
        let (destination, extract, limits) = (options.destination.clone(), options.extract, options.limits());
        let archive_bytes = Transfer::new(self, &call, file, options).run().map_err(named)?;
        let (files, what) = if extract {
            let go_on = || self.http.remaining(&call, call.deadline).map(drop);
            let files = unpack(&archive, &content, limits, &go_on).map_err(named)?;
            (Some(files), content)
        } else {
            (None, archive)
        };
        workspace.install(&what).map_err(named)?;
        Ok(Downloaded { path: destination, archive_bytes, files })
    }
}

fn io_error(what: &str, path: &std::path::Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{} cannot be {what}", path.display())).with_source(error)
}

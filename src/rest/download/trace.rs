//! The trace of a session.

use std::time::Duration;

use super::fetch::{Fetch, LinkSource, Target};
use super::staging::StagingDir;
use super::{DownloadOptions, Downloaded, create_file};
use crate::error::Result;
use crate::http::{Limits, Response};
use crate::rest::client::RestClient;
use crate::rest::traces::{not_ready, read_trace, trace_request};
use crate::types::CheckpointArchiveUrlResponse;

/// The assumed lifetime of a trace's URL, less than the hour of the official service.
const URL_LIFETIME: Duration = Duration::from_secs(15 * 60);

impl RestClient {
    /// Has the service export the timeline of a session's requests, and downloads the file, a Perfetto trace. Blocks until
    /// that is done, and waits for the export for up to [`timeout_preparation`](DownloadOptions::timeout_preparation).
    ///
    /// The options are a path (the new file) or [`DownloadOptions`]. The file appears at the very end, and a lost connection
    /// resumes, as for
    /// [`download_checkpoint_archive`](RestClient::download_checkpoint_archive). A trace is not an archive: it is never unpacked.
    ///
    /// # Errors
    ///
    /// Those of [`export_session_trace`](RestClient::export_session_trace) and of
    /// [`download_checkpoint_archive`](RestClient::download_checkpoint_archive).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn f(rest: tinkex::RestClient) -> tinkex::Result<()> {
    /// let trace = rest.download_session_trace("session-1", "session-1.pftrace")?;
    /// println!("open {} in https://ui.perfetto.dev", trace.path.display());
    /// # Ok(())
    /// # }
    /// ```
    pub fn download_session_trace<'a>(
        &self,
        session_id: &str,
        options: impl Into<DownloadOptions<'a>>,
    ) -> Result<Downloaded> {
        let operation = "download_session_trace";
        self.download_trace(operation, session_id, options.into()).map_err(|error| error.with_operation(operation))
    }

    fn download_trace(
        &self,
        operation: &'static str,
        session_id: &str,
        mut options: DownloadOptions<'_>,
    ) -> Result<Downloaded> {
        let request = trace_request(operation, session_id)?;
        let limits = Limits { handle: options.handle.clone(), ..self.limits(operation) };
        let staging = StagingDir::create(&options.destination, options.overwrite)?;
        let link = |url: String| {
            let expires = (self.config().clock().wall() + URL_LIFETIME).into();
            CheckpointArchiveUrlResponse { url, expires }
        };
        let ready = self.wait_for_trace(&request, &limits, options.timeout_preparation)?;
        let read =
            |response: Response| read_trace(operation, self.config(), &response)?.map(link).ok_or_else(not_ready);
        let source = LinkSource { request: &request, read: &read, missing: "the session may have been deleted" };
        let path = staging.archive();
        let file = create_file(&path)?;
        let target = Target { file, path: path.clone(), what: "trace", sync: true, bytes_before: 0, is_last: true };
        let bytes = Fetch::new(self, source, &limits, target, &mut options).with_link(link(ready)).run()?;
        staging.install(&path)?;
        Ok(Downloaded { path: options.destination, archive_bytes: bytes, files: None })
    }
}

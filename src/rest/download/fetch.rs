//! Fetches a file from a signed link, and another link when that one has expired.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use log::Level;

use super::download_options::{DownloadOptions, DownloadProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{FileDownload, Http, Interrupted, Limits, Location, Request, Response, RetryDecision};
use crate::observer::WaitKind;
use crate::rest::client::RestClient;
use crate::rules::resume::{Interruption, StoredProgress};
use crate::rules::retry::{AttemptFailure, RetryAdvice};
use crate::threads::panic_text;
use crate::types::CheckpointArchiveUrlResponse;

/// Where a link comes from, and another one when it has expired.
pub(super) struct LinkSource<'a> {
    /// Asks the service for the link.
    pub(super) request: &'a Request<'a>,
    /// Reads it from the response, a success or a redirect.
    pub(super) read: &'a dyn Fn(Response) -> Result<CheckpointArchiveUrlResponse>,
    /// The hint if the service does not have what is asked for.
    pub(super) missing: &'static str,
}

/// A file to fetch into.
pub(super) struct Target {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// What it is, for errors.
    pub(super) what: &'static str,
    /// Whether to write it through to the disk.
    pub(super) sync: bool,
    /// The number of bytes of the same download that are stored in other files.
    pub(super) bytes_before: u64,
    /// Whether no other file follows.
    pub(super) is_last: bool,
}

/// The download of one file.
pub(super) struct Fetch<'a, 'o> {
    http: &'a Http,
    source: LinkSource<'a>,
    limits: Limits,
    link: Option<CheckpointArchiveUrlResponse>,
    target: Target,
    options: &'a mut DownloadOptions<'o>,
}

impl<'a, 'o> Fetch<'a, 'o> {
    pub(super) fn new(
        rest: &'a RestClient,
        source: LinkSource<'a>,
        limits: &Limits,
        target: Target,
        options: &'a mut DownloadOptions<'o>,
    ) -> Self {
        let limits = rest.http().waiting(&Limits { waits_for: Some(WaitKind::Download), ..limits.clone() });
        Fetch { http: rest.http(), source, limits, link: None, target, options }
    }

    /// Begins with this link.
    pub(super) fn with_link(self, link: CheckpointArchiveUrlResponse) -> Self {
        Fetch { link: Some(link), ..self }
    }

    /// Returns the size of the file in bytes, once it is complete.
    pub(super) fn run(self) -> Result<u64> {
        let Fetch { http, source, limits, mut link, target, options } = self;
        let Target { file, path, what, sync, bytes_before, is_last } = target;
        let preparation = options.timeout_preparation;
        let mut watch = |progress: &StoredProgress| {
            let bytes = bytes_before.saturating_add(progress.total.unwrap_or(0).max(progress.bytes));
            let whole = if is_last && bytes_before == 0 { what } else { "checkpoint" };
            check_size(bytes, options.max_bytes, whole)?;
            let total = progress.total.filter(|_| is_last).map(|total| bytes_before + total);
            report(options, DownloadProgress { bytes: bytes_before + progress.bytes, total })
        };
        let policy = http.config().retry_policy();
        let mut download =
            FileDownload::new((file, &path), what, StoredProgress::default(), policy, preparation, &mut watch);
        http.with_retries(
            &limits,
            |_, _| {},
            || {
                let url = source.link(http, &limits, &mut link, &mut download)?;
                let from = Location { url: &url, redirected_from: Some(http.config().base_url()), authorization: None };
                download.attempt(http, from, &limits).map_err(|interrupted| {
                    if matches!(interrupted, Interrupted::LinkRejected(_)) {
                        link = None;
                    }
                    interrupted.into()
                })
            },
        )?;
        download.finish(sync)
    }
}

impl LinkSource<'_> {
    /// The link: the one of an earlier attempt unless it has expired, else from the service.
    fn link(
        &self,
        http: &Http,
        limits: &Limits,
        known: &mut Option<CheckpointArchiveUrlResponse>,
        download: &mut FileDownload<'_>,
    ) -> Result<String, RetryDecision> {
        let now = http.config().clock().wall();
        if let Some(link) = known.take().filter(|link| link.expires.system_time() > now) {
            return Ok(known.insert(link).url.clone());
        }
        let response = http.send_once(self.request, limits).map_err(|error| download.connection_failed(http, error))?;
        if response.is_success() || response.is_redirect() {
            return Ok(known.insert((self.read)(response)?).url.clone());
        }
        let now = http.config().clock().wall();
        let failure = response.failure(now);
        if let AttemptFailure::Status { status: 503, advice: RetryAdvice { retry_after, .. } } = failure {
            let error = response
                .into_error(limits.operation, now)
                .with_hint("the archive is still being prepared; try again later, or raise timeout_preparation");
            return Err(RetryDecision {
                level: Level::Info,
                notice: Some("the archive is being prepared"),
                ..download.interrupted(http, &Interruption::NotReady { retry_after }, error)
            });
        }
        let is_missing = matches!(response.status, 404 | 405 | 410);
        let mut error = response.into_error(limits.operation, now);
        if is_missing {
            error = error.with_hint(self.missing);
        }
        Err(download.interrupted(http, &Interruption::Failed(failure), error))
    }
}

fn report(options: &mut DownloadOptions<'_>, at: DownloadProgress) -> Result<()> {
    let Some(report) = &mut options.progress else { return Ok(()) };
    catch_unwind(AssertUnwindSafe(|| report(at))).map_err(|panic| {
        let message = format!("the progress function panicked: {}", panic_text(&*panic));
        Error::new(ErrorKind::Panicked, message)
    })
}

/// Refuses more bytes than allowed, those of other files included.
fn check_size(bytes: u64, max: u64, whole: &str) -> Result<()> {
    if bytes <= max {
        return Ok(());
    }
    let message = format!("the {whole} is larger than {max} bytes");
    Err(Error::new(ErrorKind::Decode, message).with_hint("raise max_bytes if this size is expected"))
}

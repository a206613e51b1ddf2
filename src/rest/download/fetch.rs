//! Fetches a file from a signed link, with retries from where it was interrupted.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::Level;

use super::download_options::{DownloadOptions, DownloadProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{BodySink, Download, Http, Limits, Request, Response, RetryDecision};
use crate::observer::WaitKind;
use crate::rest::client::RestClient;
use crate::rules::resume::{DownloadRetry, Interruption, ResumeDecision, StoredProgress, decide};
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
    sink: StoredFile<'a, 'o>,
}

/// Where the content is stored.
struct StoredFile<'a, 'o> {
    target: Target,
    progress: StoredProgress,
    retry: DownloadRetry,
    options: &'a mut DownloadOptions<'o>,
    /// What was decided about the last response, and its head.
    decision: Option<(ResumeDecision, Response)>,
}

impl<'a, 'o> Fetch<'a, 'o> {
    pub(super) fn new(
        rest: &'a RestClient,
        source: LinkSource<'a>,
        limits: &Limits,
        target: Target,
        options: &'a mut DownloadOptions<'o>,
    ) -> Self {
        let retry = DownloadRetry::new(rest.config().retry_policy(), options.timeout_preparation);
        let sink = StoredFile { target, progress: StoredProgress::default(), retry, options, decision: None };
        let limits = rest.http().waiting(&Limits { waits_for: Some(WaitKind::Download), ..limits.clone() });
        Fetch { http: rest.http(), source, limits, link: None, sink }
    }

    /// Begins with this link.
    pub(super) fn with_link(self, link: CheckpointArchiveUrlResponse) -> Self {
        Fetch { link: Some(link), ..self }
    }

    /// Returns the size of the file in bytes, once it is complete.
    pub(super) fn run(mut self) -> Result<u64> {
        let (http, limits) = (self.http, self.limits.clone());
        http.with_retries(&limits, |_, _| {}, || self.attempt())?;
        let Target { file, sync, what, .. } = &self.sink.target;
        if *sync {
            file.sync_all().map_err(|error| unwritable(what, error))?;
        }
        Ok(self.sink.progress.bytes)
    }

    fn attempt(&mut self) -> Result<(), RetryDecision> {
        let url = self.link()?;
        let resume_from = self.sink.progress.resume_from().map(|(bytes, validator)| (bytes, validator.to_owned()));
        let download = Download {
            url: &url,
            redirected_from: Some(self.http.config().base_url()),
            authorization: None,
            resume_from: resume_from.as_ref().map(|(bytes, validator)| (*bytes, &**validator)),
        };
        let outcome = self.http.download(&download, &self.limits, &mut self.sink);
        let (decision, response) = match (outcome, self.sink.decision.take()) {
            (Err(error), _) => return Err(self.connection_failed(error)),
            (Ok(()), decision) => decision.unzip(),
        };
        match (decision, response) {
            (Some(ResumeDecision::Append(_)), _) if self.sink.progress.is_complete() => Ok(()),
            (Some(ResumeDecision::Complete), _) => Ok(()),
            (Some(ResumeDecision::LinkRejected), Some(response)) => {
                self.link = None;
                Err(self.interrupted(&Interruption::LinkRejected, self.status_error(&response)))
            }
            (Some(ResumeDecision::Failed), Some(response)) => {
                let failure = response.failure(self.http.config().clock().wall());
                Err(self.interrupted(&Interruption::Failed(failure), self.status_error(&response)))
            }
            _ => {
                self.sink.progress = StoredProgress::default();
                let message = format!("the {} does not have the length that the server gave", self.sink.target.what);
                let error = Error::new(ErrorKind::Decode, message);
                Err(self.interrupted(&Interruption::Failed(AttemptFailure::Connection), error))
            }
        }
    }

    /// The link: the one of an earlier attempt unless it has expired, else from the service.
    fn link(&mut self) -> Result<String, RetryDecision> {
        let config = self.http.config();
        let now = config.clock().wall();
        if let Some(link) = self.link.take().filter(|link| link.expires.system_time() > now) {
            return Ok(self.link.insert(link).url.clone());
        }
        let response = match self.http.send_once(self.source.request, &self.limits) {
            Ok(response) => response,
            Err(error) => return Err(self.connection_failed(error)),
        };
        let operation = self.limits.operation;
        if response.is_success() || response.is_redirect() {
            let link = (self.source.read)(response)?;
            return Ok(self.link.insert(link).url.clone());
        }
        let now = config.clock().wall();
        let failure = response.failure(now);
        if let AttemptFailure::Status { status: 503, advice: RetryAdvice { retry_after, .. } } = failure {
            let error = response
                .into_error(operation, now)
                .with_hint("the archive is still being prepared; try again later, or raise timeout_preparation");
            return Err(RetryDecision {
                level: Level::Info,
                notice: Some("the archive is being prepared"),
                ..self.interrupted(&Interruption::NotReady { retry_after }, error)
            });
        }
        let is_missing = matches!(response.status, 404 | 405 | 410);
        let mut error = response.into_error(operation, now);
        if is_missing {
            error = error.with_hint(self.source.missing);
        }
        Err(self.interrupted(&Interruption::Failed(failure), error))
    }

    /// Without body and headers, which may repeat the URL's signature.
    fn status_error(&self, response: &Response) -> Error {
        let message = format!("the storage of the {} returned {}", self.sink.target.what, response.status);
        Error::new(ErrorKind::Status, message).with_status(response.status)
    }

    fn connection_failed(&mut self, error: Error) -> RetryDecision {
        match AttemptFailure::of_connection(&error) {
            Some(failure) => self.interrupted(&Interruption::Failed(failure), error),
            None => error.into(),
        }
    }

    fn interrupted(&mut self, interruption: &Interruption, error: Error) -> RetryDecision {
        let now = self.http.config().clock().now();
        let wait = self.sink.retry.next(interruption, now, fastrand::f64());
        let given_up_by = match (wait, interruption) {
            (None, Interruption::NotReady { .. }) => Some("timeout_preparation"),
            _ => None,
        };
        RetryDecision { end: self.sink.retry.end(), given_up_by, ..RetryDecision::new(error, wait) }
    }
}

impl StoredFile<'_, '_> {
    fn report(&mut self) -> Result<()> {
        let Some(report) = &mut self.options.progress else { return Ok(()) };
        let before = self.target.bytes_before;
        let total = self.progress.total.filter(|_| self.target.is_last).map(|total| before + total);
        let at = DownloadProgress { bytes: before + self.progress.bytes, total };
        catch_unwind(AssertUnwindSafe(|| report(at))).map_err(|panic| {
            let message = format!("the progress function panicked: {}", panic_text(&*panic));
            Error::new(ErrorKind::Panicked, message)
        })
    }

    /// Refuses more bytes than allowed, those of other files included.
    fn check_size(&self, bytes: u64) -> Result<()> {
        let max = self.options.max_bytes;
        if self.target.bytes_before.saturating_add(bytes) <= max {
            return Ok(());
        }
        let whole = if self.target.is_last && self.target.bytes_before == 0 { self.target.what } else { "checkpoint" };
        let message = format!("the {whole} is larger than {max} bytes");
        Err(Error::new(ErrorKind::Decode, message).with_hint("raise max_bytes if this size is expected"))
    }
}

impl BodySink for StoredFile<'_, '_> {
    fn head(&mut self, response: &Response) -> Result<bool> {
        let decision = decide(&self.progress, response.status, |name| response.header(name));
        self.decision = Some((decision.clone(), response.clone()));
        let ResumeDecision::Append(progress) = decision else { return Ok(false) };
        progress.total.map_or(Ok(()), |total| self.check_size(total))?;
        self.progress = progress;
        let (file, bytes) = (&mut self.target.file, self.progress.bytes);
        file.set_len(bytes)
            .and_then(|()| file.seek(SeekFrom::Start(bytes)))
            .map_err(|error| unwritable(self.target.what, error))?;
        self.report()?;
        Ok(true)
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<()> {
        self.progress.bytes += chunk.len() as u64;
        self.check_size(self.progress.bytes)?;
        self.target.file.write_all(chunk).map_err(|error| unwritable(self.target.what, error))?;
        self.retry.stored(self.progress.bytes);
        self.report()
    }
}

fn unwritable(what: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("the {what} cannot be written")).with_source(error)
}

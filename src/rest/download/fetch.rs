//! Fetches an archive into a file, with retries from where it was interrupted.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use log::Level;

use super::download_options::{DownloadOptions, DownloadProgress};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{BodySink, Download, Http, Limits, Request, Response, RetryDecision};
use crate::rest::client::RestClient;
use crate::rest::endpoint::archive_url;
use crate::rules::resume::{DownloadRetry, Interruption, ResumeDecision, StoredProgress, decide};
use crate::rules::retry::{AttemptFailure, RetryAdvice};
use crate::threads::panic_text;
use crate::types::CheckpointArchiveUrlResponse;

/// The download of one archive.
pub(super) struct Fetch<'a, 'o> {
    http: &'a Http,
    /// Asks the service for the archive's URL.
    request: &'a Request<'a>,
    limits: &'a Limits,
    link: Option<CheckpointArchiveUrlResponse>,
    sink: ArchiveFile<'o>,
}

/// Where the archive is stored.
struct ArchiveFile<'o> {
    file: File,
    progress: StoredProgress,
    retry: DownloadRetry,
    options: DownloadOptions<'o>,
    /// What was decided about the last response, and its head.
    decision: Option<(ResumeDecision, Response)>,
}

impl<'a, 'o> Fetch<'a, 'o> {
    pub(super) fn new(
        rest: &'a RestClient,
        request: &'a Request<'a>,
        limits: &'a Limits,
        file: File,
        options: DownloadOptions<'o>,
    ) -> Self {
        let retry = DownloadRetry::new(rest.config().retry_policy(), options.timeout_preparation);
        let sink = ArchiveFile { file, progress: StoredProgress::default(), retry, options, decision: None };
        Fetch { http: rest.http(), request, limits, link: None, sink }
    }

    /// Returns the size of the archive in bytes, once it is complete.
    pub(super) fn run(mut self) -> Result<u64> {
        let (http, limits) = (self.http, self.limits);
        http.with_retries(limits, |_, _| {}, || self.attempt())?;
        if !self.sink.options.extract {
            self.sink.file.sync_all().map_err(unwritable)?;
        }
        Ok(self.sink.progress.bytes)
    }

    fn attempt(&mut self) -> Result<(), RetryDecision> {
        let url = self.archive_url()?;
        let resume_from = self.sink.progress.resume_from().map(|(bytes, validator)| (bytes, validator.to_owned()));
        let download = Download {
            url: &url,
            redirected_from: Some(self.http.config().base_url()),
            authorization: None,
            resume_from: resume_from.as_ref().map(|(bytes, validator)| (*bytes, &**validator)),
        };
        let outcome = self.http.download(&download, self.limits, &mut self.sink);
        let (decision, response) = match (outcome, self.sink.decision.take()) {
            (Err(error), _) => return Err(self.connection_failed(error)),
            (Ok(()), decision) => decision.unzip(),
        };
        match (decision, response) {
            (Some(ResumeDecision::Append(_)), _) if self.sink.progress.is_complete() => Ok(()),
            (Some(ResumeDecision::Complete), _) => Ok(()),
            (Some(ResumeDecision::LinkRejected), Some(response)) => {
                self.link = None;
                Err(self.interrupted(&Interruption::LinkRejected, status_error(&response)))
            }
            (Some(ResumeDecision::Failed), Some(response)) => {
                let failure = response.failure(self.http.config().clock().wall());
                Err(self.interrupted(&Interruption::Failed(failure), status_error(&response)))
            }
            _ => {
                self.sink.progress = StoredProgress::default();
                let error = Error::new(ErrorKind::Decode, "the archive does not have the length that the server gave");
                Err(self.interrupted(&Interruption::Failed(AttemptFailure::Connection), error))
            }
        }
    }

    /// The URL of the archive: the one of an earlier attempt unless it has expired, else from the service.
    fn archive_url(&mut self) -> Result<String, RetryDecision> {
        let config = self.http.config();
        let now = config.clock().wall();
        if let Some(link) = self.link.take().filter(|link| link.expires.system_time() > now) {
            return Ok(self.link.insert(link).url.clone());
        }
        let response = match self.http.send_once(self.request, self.limits) {
            Ok(response) => response,
            Err(error) => return Err(self.connection_failed(error)),
        };
        let operation = self.limits.operation;
        if response.is_success() || response.is_redirect() {
            let link = archive_url(operation, config, response)?;
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
        Err(self.interrupted(&Interruption::Failed(failure), response.into_error(operation, now)))
    }

    fn connection_failed(&mut self, error: Error) -> RetryDecision {
        match AttemptFailure::of_connection(&error) {
            Some(failure) => self.interrupted(&Interruption::Failed(failure), error),
            None => error.into(),
        }
    }

    fn interrupted(&mut self, interruption: &Interruption, error: Error) -> RetryDecision {
        let now = self.http.config().clock().now();
        RetryDecision::new(error, self.sink.retry.next(interruption, now, fastrand::f64()))
    }
}

impl ArchiveFile<'_> {
    fn report(&mut self) -> Result<()> {
        let Some(report) = &mut self.options.progress else { return Ok(()) };
        let at = DownloadProgress { bytes: self.progress.bytes, total: self.progress.total };
        catch_unwind(AssertUnwindSafe(|| report(at))).map_err(|panic| {
            let message = format!("the progress function panicked: {}", panic_text(&*panic));
            Error::new(ErrorKind::Panicked, message)
        })
    }

    fn too_large(&self) -> Error {
        let message = format!("the archive is larger than {} bytes", self.options.max_bytes);
        Error::new(ErrorKind::Decode, message).with_hint("raise max_bytes if this size is expected")
    }
}

impl BodySink for ArchiveFile<'_> {
    fn head(&mut self, response: &Response) -> Result<bool> {
        let decision = decide(&self.progress, response.status, |name| response.header(name));
        self.decision = Some((decision.clone(), response.clone()));
        let ResumeDecision::Append(progress) = decision else { return Ok(false) };
        if progress.total.is_some_and(|total| total > self.options.max_bytes) {
            return Err(self.too_large());
        }
        self.progress = progress;
        self.file
            .set_len(self.progress.bytes)
            .and_then(|()| self.file.seek(SeekFrom::Start(self.progress.bytes)))
            .map_err(unwritable)?;
        self.report()?;
        Ok(true)
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<()> {
        self.progress.bytes += chunk.len() as u64;
        if self.progress.bytes > self.options.max_bytes {
            return Err(self.too_large());
        }
        self.file.write_all(chunk).map_err(unwritable)?;
        self.retry.stored(self.progress.bytes);
        self.report()
    }
}

/// Without body and headers, which may repeat the URL's signature.
fn status_error(response: &Response) -> Error {
    Error::new(ErrorKind::Status, format!("the archive's storage returned {}", response.status))
        .with_status(response.status)
}

fn unwritable(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "the archive cannot be written").with_source(error)
}
